//! The call to ipamd, and what its answers mean to a container runtime.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_spec::{Attachment, Code, Error};
use proto::v1::ipam_client::IpamClient;
use proto::v1::{
    self, AddRequest, AddResponse, CheckRequest, DelRequest, GcRequest, StatusRequest,
    StatusResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::codes;

/// A connection to ipamd.
#[derive(Debug)]
pub(crate) struct Ipamd {
    socket: PathBuf,
    client: IpamClient<Channel>,
}

/// What a pod gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) addresses: Vec<IpAddr>,
    /// In bytes.
    pub(crate) mtu: u32,
}

/// Whether an ADD could be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// The reason's stable identifier, and the sentence for people.
    Not {
        id: String,
        reason: String,
    },
}

/// Why there is no answer to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing was asked.
    #[error("ipamd can't be reached at {socket}: {cause}")]
    Unreachable { socket: PathBuf, cause: io::Error },
    /// ipamd may or may not have done it.
    #[error("ipamd did not answer at {socket} within {waited:.0?}")]
    TimedOut { socket: PathBuf, waited: Duration },
    /// ipamd says why not. Nothing was given.
    #[error("{message}")]
    Refused {
        message: String,
        reason: String,
        next: String,
        remedy: String,
        retryable: bool,
    },
    /// A status without a reason: from ipamd's gRPC layer, or of a connection that broke. ipamd may or may
    /// not have done it.
    #[error("ipamd at {socket} failed: {}: {}", status.code(), status.message())]
    Failed {
        socket: PathBuf,
        status: Box<Status>,
    },
    /// The answer makes no sense, so it can't be worked with; but it was given.
    #[error("ipamd answered {what}")]
    Nonsense { what: String },
}

impl Ipamd {
    /// Connects, within `patience`.
    pub(crate) async fn connect(socket: &Path, patience: Duration) -> Result<Self, CallError> {
        let unreachable = |cause: io::Error| CallError::Unreachable {
            socket: socket.to_owned(),
            cause,
        };
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))
            .map_err(|error| unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let channel = tokio::time::timeout(patience, endpoint.connect())
            .await
            .map_err(|_elapsed| timed_out(socket, patience))?
            .map_err(|error| unreachable(os_error(&error)))?;
        Ok(Self {
            socket: socket.to_owned(),
            client: IpamClient::new(channel),
        })
    }

    /// Asks for the sandbox's addresses. ipamd is told the deadline, and lets the call wait for growth until
    /// then.
    pub(crate) async fn add(
        &mut self,
        request: &cni_spec::AddRequest,
        patience: Duration,
    ) -> Result<Grant, CallError> {
        let pod = v1::Pod {
            namespace: request.args.pod_namespace.clone().unwrap_or_default(),
            name: request.args.pod_name.clone().unwrap_or_default(),
            uid: request.args.pod_uid.clone().unwrap_or_default(),
        };
        let ask = with_deadline(
            AddRequest {
                sandbox: Some(sandbox(&request.attachment)),
                pod: Some(pod),
                network: request.config.name().to_owned(),
                netns: request.netns.clone(),
            },
            patience,
        );
        let answer = tokio::time::timeout(patience + GRACE, self.client.add(ask)).await;
        Grant::of(&self.answer(answer, patience)?)
    }

    /// What the sandbox holds now; nothing if ipamd does not know it.
    pub(crate) async fn held(
        &mut self,
        key: &Attachment,
        patience: Duration,
    ) -> Result<Vec<IpAddr>, CallError> {
        let ask = with_deadline(
            CheckRequest {
                sandbox: Some(sandbox(key)),
            },
            patience,
        );
        match tokio::time::timeout(patience + GRACE, self.client.check(ask)).await {
            Ok(Err(status)) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
            answer => addresses(&self.answer(answer, patience)?.addresses),
        }
    }

    /// Whether an ADD could be served now.
    pub(crate) async fn status(&mut self, patience: Duration) -> Result<Readiness, CallError> {
        let ask = with_deadline(StatusRequest {}, patience);
        let answer = tokio::time::timeout(patience + GRACE, self.client.status(ask)).await;
        let StatusResponse {
            ready,
            reason,
            reason_id: id,
        } = self.answer(answer, patience)?;
        Ok(if ready {
            Readiness::Ready
        } else {
            Readiness::Not { id, reason }
        })
    }

    /// Takes back what all sandboxes of the network hold but the valid ones, and says whose it was.
    pub(crate) async fn gc(
        &mut self,
        network: &str,
        valid: &[Attachment],
        patience: Duration,
    ) -> Result<Vec<v1::Sandbox>, CallError> {
        let ask = with_deadline(
            GcRequest {
                network: network.to_owned(),
                valid: valid.iter().map(sandbox).collect(),
            },
            patience,
        );
        let answer = tokio::time::timeout(patience + GRACE, self.client.gc(ask)).await;
        Ok(self.answer(answer, patience)?.released)
    }

    /// Gives back what the sandbox holds, if anything.
    pub(crate) async fn del(
        &mut self,
        key: &Attachment,
        patience: Duration,
    ) -> Result<(), CallError> {
        let ask = with_deadline(
            DelRequest {
                sandbox: Some(sandbox(key)),
            },
            patience,
        );
        let answer = tokio::time::timeout(patience + GRACE, self.client.del(ask)).await;
        self.answer(answer, patience).map(|_released| ())
    }

    fn answer<T>(
        &self,
        answer: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
        patience: Duration,
    ) -> Result<T, CallError> {
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::of(&self.socket, status, patience)),
            Err(_elapsed) => Err(timed_out(&self.socket, patience)),
        }
    }
}

/// tonic's client ends a call by itself when the deadline that it sends has passed. This much later the call
/// is given up if even that did not happen.
const GRACE: Duration = Duration::from_millis(200);

fn with_deadline<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

fn timed_out(socket: &Path, waited: Duration) -> CallError {
    CallError::TimedOut {
        socket: socket.to_owned(),
        waited,
    }
}

fn sandbox(key: &Attachment) -> v1::Sandbox {
    v1::Sandbox {
        container_id: key.container_id().to_owned(),
        ifname: key.ifname().to_owned(),
    }
}

impl Grant {
    fn of(response: &AddResponse) -> Result<Self, CallError> {
        let nonsense = |what: String| Err(CallError::Nonsense { what });
        let addresses = addresses(&response.addresses)?;
        if addresses.is_empty() {
            return nonsense("without an address".to_owned());
        }
        let mtu = response.mtu;
        if !(68..=65_535).contains(&mtu) {
            return nonsense(format!("an MTU of {mtu} bytes"));
        }
        let (theirs, ours) = (response.pods_table, datapath::layout::PODS_TABLE);
        if theirs != ours {
            return nonsense(format!(
                "that it routes to pods in table {theirs}, and not in {ours}"
            ));
        }
        Ok(Self { addresses, mtu })
    }
}

fn addresses(given: &[v1::PodAddress]) -> Result<Vec<IpAddr>, CallError> {
    let address = |given: &v1::PodAddress| {
        given.address.parse().map_err(|_| CallError::Nonsense {
            what: format!("{:?}, which is not an IP address", given.address),
        })
    };
    given.iter().map(address).collect()
}

/// The kernel's own error, dug out of the layers over it.
fn os_error(error: &(dyn StdError + 'static)) -> io::Error {
    let mut layer = Some(error);
    let mut innermost = error.to_string();
    while let Some(current) = layer {
        if let Some(found) = current.downcast_ref::<io::Error>()
            && let Some(number) = found.raw_os_error()
        {
            return io::Error::from_raw_os_error(number);
        }
        innermost = current.to_string();
        layer = current.source();
    }
    io::Error::other(innermost)
}

impl CallError {
    fn of(socket: &Path, status: Status, patience: Duration) -> Self {
        if let Some(info) = status
            .get_details_error_info()
            .filter(|info| info.domain == proto::ERROR_DOMAIN)
        {
            let said = |key: &str| info.metadata.get(key).cloned().unwrap_or_default();
            return Self::Refused {
                message: status.message().to_owned(),
                next: said("next"),
                remedy: said("remedy"),
                retryable: said("retryable") == "true",
                reason: info.reason,
            };
        }
        // What tonic says, on this side or ipamd's, when the deadline that was sent has passed.
        let expired =
            status.code() == tonic::Code::Cancelled && status.message() == TIMEOUT_EXPIRED;
        if expired || status.code() == tonic::Code::DeadlineExceeded {
            return timed_out(socket, patience);
        }
        Self::Failed {
            socket: socket.to_owned(),
            status: Box::new(status),
        }
    }

    /// Whether it may be that ipamd is being replaced: nobody listens, it says that it goes, or it went meanwhile.
    pub(crate) fn is_of_a_restart(&self) -> bool {
        match self {
            Self::Unreachable { cause, .. } => matches!(
                cause.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
            ),
            Self::Refused { reason, .. } => reason == "SHUTTING_DOWN",
            // With a cause it is of the connection, and not ipamd's own word.
            Self::Failed { status, .. } => status.source().is_some(),
            Self::TimedOut { .. } | Self::Nonsense { .. } => false,
        }
    }

    /// Whether ipamd may have given an address although the call failed.
    pub(crate) fn may_have_given(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Refused { .. })
    }
}

/// tonic has no code of its own for it: the text of its `TimeoutExpired`.
const TIMEOUT_EXPIRED: &str = "Timeout expired";

const LOOK_AT_IPAMD: &str = "see whether Weir's pod runs on this node, and its log";

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let msg = error.to_string();
        let retried = "the kubelet tries again";
        let (code, details) = match &error {
            CallError::Unreachable { cause, .. } => {
                let remedy = match cause.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "run the plugin as root, as container runtimes do".to_owned()
                    }
                    _ => format!(
                        "{LOOK_AT_IPAMD}; if it listens elsewhere, set ipamdSocket in the conflist"
                    ),
                };
                (
                    Code::TryAgainLater,
                    codes::details("IPAMD_UNREACHABLE", retried, &remedy),
                )
            }
            CallError::TimedOut { .. } => (
                Code::TryAgainLater,
                codes::details("IPAMD_SILENT", retried, LOOK_AT_IPAMD),
            ),
            CallError::Refused {
                reason,
                next,
                remedy,
                retryable,
                ..
            } => {
                let code = if *retryable {
                    Code::TryAgainLater
                } else {
                    codes::of_reason(reason)
                };
                (code, codes::details(reason, next, remedy))
            }
            CallError::Failed { status, .. } => match status.code() {
                tonic::Code::Unimplemented => (
                    codes::CONTRACT,
                    codes::details("CONTRACT", "", SAME_VERSION),
                ),
                tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => (
                    codes::CONTRACT,
                    codes::details(
                        "CONTRACT",
                        "",
                        "run the plugin as root: ipamd serves nobody else",
                    ),
                ),
                _ => (
                    Code::TryAgainLater,
                    codes::details("IPAMD_FAILED", retried, LOOK_AT_IPAMD),
                ),
            },
            CallError::Nonsense { .. } => (
                codes::CONTRACT,
                codes::details("CONTRACT", "", SAME_VERSION),
            ),
        };
        Self::new(code, msg, details)
    }
}

const SAME_VERSION: &str = "install weir-cni and ipamd of the same release";

#[cfg(test)]
mod tests;
