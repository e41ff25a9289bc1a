//! `ipamd probe`: asks the health service over the socket.

use std::path::Path;
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const PATIENCE: Duration = Duration::from_secs(2);

/// Why the probe says no, in a sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("ipamd does not answer on {socket}")]
    NoAnswer {
        socket: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("ipamd on {socket} does not serve: it is starting, or shutting down")]
    NotServing { socket: String },
}

pub(crate) async fn probe(socket: &Path) -> Result<(), ProbeError> {
    let name = socket.display().to_string();
    let no_answer = |source| ProbeError::NoAnswer {
        socket: name.clone(),
        source,
    };
    let channel = Endpoint::from_shared(format!("unix:{name}"))
        .map_err(|error| no_answer(error.into()))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
        .connect()
        .await
        .map_err(|error| no_answer(error.into()))?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await
        .map_err(|status| no_answer(status.into()))?;
    if answer.into_inner().status() as i32 == ServingStatus::Serving as i32 {
        Ok(())
    } else {
        Err(ProbeError::NotServing { socket: name })
    }
}
