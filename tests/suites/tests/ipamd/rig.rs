//! What all tests of ipamd stand on: one node of the lab, and its ipamd as the plugin sees it.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sim::{CallRecord, Effect, Fault, WorldConfig};
use proto::v1::ipam_client::IpamClient;
use proto::v1::{
    AddRequest, AddResponse, CheckRequest, CheckResponse, DelRequest, DelResponse, Pod, Sandbox,
};
use suites::harness::eventually;
use suites::node::Node;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::{ErrorInfo, StatusExt};
use vpc_lab::{Lab, LabConfig};

/// The first of several labs at once prepares what they share.
static STARTING: Mutex<()> = Mutex::new(());

/// A lab with one m5.large: 3 ENIs of 10 slots.
pub(crate) fn lab() -> anyhow::Result<Lab> {
    let mut config = LabConfig::default();
    config.nodes.truncate(1);
    lab_of(config)
}

pub(crate) fn lab_of(config: LabConfig) -> anyhow::Result<Lab> {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::start(config)?;
    // The books of the test before: of the same boot, and of an instance with the same id.
    for node in lab.nodes() {
        fs::remove_dir_all(node.run_dir())?;
        fs::create_dir_all(node.run_dir())?;
    }
    Ok(lab)
}

pub(crate) fn sandbox(id: &str) -> Sandbox {
    Sandbox {
        container_id: id.to_owned(),
        ifname: "eth0".to_owned(),
    }
}

/// The plugin's side of the socket.
pub(crate) struct Plugin(IpamClient<Channel>);

impl Plugin {
    pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display()))?;
        Ok(Self(IpamClient::new(endpoint.connect().await?)))
    }

    pub(crate) fn client(&mut self) -> &mut IpamClient<Channel> {
        &mut self.0
    }

    pub(crate) async fn add(&mut self, id: &str) -> Result<AddResponse, Status> {
        self.add_within(id, Duration::from_secs(30)).await
    }

    pub(crate) async fn add_within(
        &mut self,
        id: &str,
        wait: Duration,
    ) -> Result<AddResponse, Status> {
        let mut request = Request::new(AddRequest {
            sandbox: Some(sandbox(id)),
            pod: Some(Pod {
                namespace: "demo".to_owned(),
                name: format!("pod-of-{id}"),
                uid: String::new(),
            }),
            network: "aws-cni".to_owned(),
            netns: format!("/run/netns/{id}"),
        });
        request.set_timeout(wait);
        Ok(self.0.add(request).await?.into_inner())
    }

    /// The one address that an ADD gives.
    pub(crate) async fn address(&mut self, id: &str) -> anyhow::Result<String> {
        let given = self.add(id).await?;
        let [address] = given.addresses.as_slice() else {
            bail!("not one address: {given:?}");
        };
        Ok(address.address.clone())
    }

    pub(crate) async fn del(&mut self, id: &str) -> Result<DelResponse, Status> {
        let request = DelRequest {
            sandbox: Some(sandbox(id)),
        };
        Ok(self.0.del(request).await?.into_inner())
    }

    pub(crate) async fn check(&mut self, id: &str) -> Result<CheckResponse, Status> {
        let request = CheckRequest {
            sandbox: Some(sandbox(id)),
        };
        Ok(self.0.check(request).await?.into_inner())
    }
}

/// The `google.rpc.ErrorInfo` that each refusal carries.
pub(crate) fn error_info(status: &Status) -> anyhow::Result<ErrorInfo> {
    let info = status.get_details_error_info();
    let info = info.with_context(|| format!("no ErrorInfo in {status:?}"))?;
    assert_eq!(info.domain, "weir");
    for key in ["next", "remedy", "retryable"] {
        assert!(
            info.metadata.get(key).is_some_and(|text| !text.is_empty()),
            "{key} is missing in {info:?}"
        );
    }
    Ok(info)
}

/// From now on EC2 answers nothing that would make a pool grow.
pub(crate) fn growth_hangs(lab: &Lab) {
    for action in ["AssignPrivateIpAddresses", "CreateNetworkInterface"] {
        lab.sim().inject(Fault::on(action, Effect::HangBefore));
    }
}

/// Lets the simulated time pass that IMDS lags behind EC2.
pub(crate) fn imds_shows_all(lab: &Lab) {
    lab.sim().skip(WorldConfig::default().imds_lag);
}

/// The requests of one action so far.
pub(crate) fn calls(lab: &Lab, action: &str) -> Vec<CallRecord> {
    let mut calls = lab.sim().calls();
    calls.retain(|call| call.action == action);
    calls
}

/// All actions so far, in order.
pub(crate) fn actions(lab: &Lab) -> Vec<String> {
    lab.sim()
        .calls()
        .into_iter()
        .map(|call| call.action)
        .collect()
}

/// Waits until ipamd's log says it, and gives the whole log.
pub(crate) async fn log_says(node: &Node<'_>, words: &str) -> anyhow::Result<String> {
    let log = node.log();
    eventually(&format!("{words:?} in the log"), async || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        Ok(text.contains(words).then_some(text))
    })
    .await
    .with_context(|| node.log_tail())
}
