//! The services on the socket: the plugin's, people's, health and reflection.

mod answer;
mod view;

use std::time::Duration;

use ipam::{AddRequest, Answer, Event, Pod, Sandbox, State};
use proto::v1;
use proto::v1::ipam_server::{Ipam, IpamServer};
use proto::v1::pool_server::{Pool, PoolServer};
use rustix::process::geteuid;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::clock::{self, Calendar};
use crate::engine::Engine;
use crate::reconcile::Repairs;
use crate::spool::Spool;
use answer::{Refused, gone, invalid, refused, unknown_sandbox};

/// The longest that an ADD waits: runtimes give up and repeat it after minutes, and people look sooner.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Kept back from the caller's deadline, so that it gets our reason and not its own time-out.
const HEADROOM: Duration = Duration::from_millis(500);

/// What both services answer from.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) engine: Engine,
    pub(crate) spool: Spool,
    pub(crate) pod_mtu: u32,
    pub(crate) repairs: Repairs,
}

/// The services could not be put together or served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("the contract's descriptors can't be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the socket can't be served")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `shutdown`, and then until the calls under way are answered.
pub(crate) async fn serve(
    listener: UnixListener,
    service: Service,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    set_health(&reporter, ServingStatus::NotServing).await;
    let healthy = tell_health(reporter, service.engine.clone(), shutdown.clone());

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let server = Server::builder()
        .layer(InterceptorLayer::new(root_only))
        .add_service(IpamServer::new(service.clone()))
        .add_service(PoolServer::new(service))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        // grpcurl and others still ask this one first.
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            shutdown.cancelled_owned(),
        );
    // Health never fails; it goes on telling while the last calls are answered.
    let (served, ()) = tokio::join!(server, healthy);
    Ok(served?)
}

async fn tell_health(reporter: HealthReporter, engine: Engine, shutdown: CancellationToken) {
    let started = tokio::select! {
        started = engine.started() => started.is_ok(),
        () = shutdown.cancelled() => false,
    };
    if started {
        tracing::info!("serving: the pool knows what the node holds");
        set_health(&reporter, ServingStatus::Serving).await;
        shutdown.cancelled().await;
    }
    set_health(&reporter, ServingStatus::NotServing).await;
}

async fn set_health(reporter: &HealthReporter, status: ServingStatus) {
    for service in ["", "weir.ipam.v1.Ipam", "weir.ipam.v1.Pool"] {
        reporter.set_service_status(service, status).await;
    }
}

/// Lets in root, and the user that ipamd itself runs as: where that is not root (in a user namespace),
/// nobody else could have started it.
fn root_only(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred);
    match peer {
        Some(peer) if peer.uid() == 0 || peer.uid() == geteuid().as_raw() => Ok(request),
        Some(peer) => Err(Status::permission_denied(format!(
            "ipamd answers root alone, and this is uid {}: run the command as root",
            peer.uid()
        ))),
        None => Err(Status::permission_denied(
            "ipamd answers root alone, and the kernel does not say who this is",
        )),
    }
}

#[tonic::async_trait]
impl Ipam for Service {
    async fn add(
        &self,
        request: Request<v1::AddRequest>,
    ) -> Result<Response<v1::AddResponse>, Status> {
        let patience = patience(&request);
        let asked = request.into_inner();
        let sandbox = sandbox(asked.sandbox)?;
        if asked.network.is_empty() {
            return Err(invalid("network is required: the conflist's name"));
        }
        let pod = asked.pod.unwrap_or_default();
        self.spool.replay().await.map_err(gone)?;
        let deadline = clock::now().after(patience);
        let answer = self
            .engine
            .request(|request| {
                Event::Add(AddRequest {
                    request,
                    sandbox,
                    pod: Pod {
                        namespace: pod.namespace,
                        name: pod.name,
                        uid: pod.uid,
                    },
                    network: asked.network,
                    netns: asked.netns,
                    deadline,
                })
            })
            .await
            .map_err(gone)?;
        match answer {
            Answer::Granted(grant) => Ok(Response::new(v1::AddResponse {
                addresses: view::pod_addresses(&grant),
                mtu: self.pod_mtu,
                pods_table: datapath::layout::PODS_TABLE,
            })),
            other => Err(refused(other)),
        }
    }

    async fn del(
        &self,
        request: Request<v1::DelRequest>,
    ) -> Result<Response<v1::DelResponse>, Status> {
        let sandbox = sandbox(request.into_inner().sandbox)?;
        let answer = self
            .engine
            .request(|request| Event::Del { request, sandbox })
            .await
            .map_err(gone)?;
        match answer {
            Answer::Released(released) => Ok(Response::new(v1::DelResponse {
                released: released.iter().flat_map(view::pod_addresses).collect(),
            })),
            other => Err(refused(other)),
        }
    }

    async fn check(
        &self,
        request: Request<v1::CheckRequest>,
    ) -> Result<Response<v1::CheckResponse>, Status> {
        let sandbox = sandbox(request.into_inner().sandbox)?;
        let asked = sandbox.clone();
        let grant = self
            .engine
            .look(move |state, _| state.grant_of(&asked))
            .await
            .map_err(gone)?
            .ok_or_else(|| unknown_sandbox(&sandbox))?;
        Ok(Response::new(v1::CheckResponse {
            addresses: view::pod_addresses(&grant),
        }))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let readiness = self.engine.look(State::readiness).await.map_err(gone)?;
        let (reason, reason_id) = match &readiness {
            Ok(()) => (String::new(), String::new()),
            Err(no) => (no.message.clone(), no.reason.to_string()),
        };
        Ok(Response::new(v1::StatusResponse {
            ready: readiness.is_ok(),
            reason,
            reason_id,
        }))
    }

    async fn gc(
        &self,
        request: Request<v1::GcRequest>,
    ) -> Result<Response<v1::GcResponse>, Status> {
        let asked = request.into_inner();
        if asked.network.is_empty() {
            return Err(invalid("network is required: the conflist's name"));
        }
        let valid = asked
            .valid
            .into_iter()
            .map(|valid| sandbox(Some(valid)))
            .collect::<Result<Vec<_>, _>>()?;
        let answer = self
            .engine
            .request(|request| Event::Gc {
                request,
                network: asked.network,
                valid,
            })
            .await
            .map_err(gone)?;
        match answer {
            Answer::Collected(released) => Ok(Response::new(v1::GcResponse {
                released: released.iter().map(view::sandbox).collect(),
            })),
            other => Err(refused(other)),
        }
    }
}

#[tonic::async_trait]
impl Pool for Service {
    async fn get(
        &self,
        _: Request<v1::GetPoolRequest>,
    ) -> Result<Response<v1::GetPoolResponse>, Status> {
        let pool = self
            .engine
            .look(|state, _| state.view())
            .await
            .map_err(gone)?;
        let calendar = Calendar::now();
        let repairs = self.repairs.view(calendar);
        Ok(Response::new(view::pool(pool, repairs, calendar)))
    }
}

fn sandbox(asked: Option<v1::Sandbox>) -> Result<Sandbox, Refused> {
    let asked = asked.unwrap_or_default();
    if asked.container_id.is_empty() {
        return Err(invalid("sandbox.container_id is required: CNI_CONTAINERID").into());
    }
    if asked.ifname.is_empty() {
        return Err(invalid("sandbox.ifname is required: CNI_IFNAME").into());
    }
    Ok(Sandbox {
        container_id: asked.container_id.into(),
        ifname: asked.ifname.into(),
    })
}

/// How long the caller waits, by its `grpc-timeout` header: at most eight digits and a unit (gRPC over
/// HTTP/2, "Timeout").
fn patience<T>(request: &Request<T>) -> Duration {
    request
        .metadata()
        .get("grpc-timeout")
        .and_then(|value| timeout(value.to_str().ok()?))
        .map_or(LONGEST_WAIT, |timeout| {
            timeout
                .saturating_sub(HEADROOM.min(timeout / 10))
                .min(LONGEST_WAIT)
        })
}

fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_add_waits_a_little_less_than_its_caller_and_never_more_than_a_minute() {
        let patience = |timeout: Option<&'static str>| {
            let mut request = Request::new(());
            if let Some(timeout) = timeout {
                request
                    .metadata_mut()
                    .insert("grpc-timeout", timeout.parse().unwrap());
            }
            super::patience(&request)
        };
        assert_eq!(patience(None), Duration::from_secs(60));
        assert_eq!(patience(Some("2H")), Duration::from_secs(60));
        assert_eq!(patience(Some("10S")), Duration::from_millis(9500));
        assert_eq!(patience(Some("1000000u")), Duration::from_millis(900));
        assert_eq!(patience(Some("100m")), Duration::from_millis(90));
        assert_eq!(patience(Some("soon")), Duration::from_secs(60));
    }
}
