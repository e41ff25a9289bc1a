//! Refusals as gRPC statuses: code, sentence, and a `google.rpc.ErrorInfo` for programs.

use std::collections::HashMap;

use ipam::{Answer, Reason, Refusal, Sandbox};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::engine::Gone;

/// A status on its way out, boxed for being large.
pub(super) struct Refused(Box<Status>);

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        *refused.0
    }
}

/// Why the pool did not do it.
pub(super) fn refused(answer: Answer) -> Status {
    match answer {
        Answer::Refused(refusal) => status(&refusal),
        // The pool answers each request in its own kind.
        other => Status::internal(format!("the pool answered something else: {other:?}")),
    }
}

pub(super) fn status(refusal: &Refusal) -> Status {
    let (code, retryable) = match refusal.reason {
        // Another pod may leave, or the subnet grow.
        Reason::PoolExhausted | Reason::PoolFrozen | Reason::SubnetExhausted => {
            (Code::ResourceExhausted, true)
        }
        Reason::Ec2Refused | Reason::AddressLost => (Code::FailedPrecondition, false),
        Reason::SandboxDeleted => (Code::Aborted, false),
        Reason::EniFailed
        | Reason::Ec2Throttled
        | Reason::Ec2Unavailable
        | Reason::Starting
        | Reason::ShuttingDown => (Code::Unavailable, true),
        Reason::DeadlineExceeded => (Code::DeadlineExceeded, true),
        Reason::BooksFailed => (Code::Internal, true),
    };
    explained(
        code,
        refusal.reason.as_str(),
        &refusal.message,
        &refusal.next,
        &refusal.remedy,
        retryable,
    )
}

pub(super) fn gone(gone: Gone) -> Status {
    explained(
        Code::Unavailable,
        Reason::ShuttingDown.as_str(),
        &gone.to_string(),
        "the next ipamd answers as soon as it has started",
        "try again",
        true,
    )
}

pub(super) fn invalid(message: &str) -> Status {
    explained(
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
        message,
        "nothing: the request was not looked at further",
        "send the request as weir.ipam.v1 describes it",
        false,
    )
}

pub(super) fn unknown_sandbox(sandbox: &Sandbox) -> Status {
    explained(
        Code::NotFound,
        "UNKNOWN_SANDBOX",
        &format!("sandbox {sandbox} holds no address"),
        "nothing: the pod stays without an address",
        "let the runtime make the sandbox anew (delete the pod)",
        false,
    )
}

fn explained(
    code: Code,
    reason: &str,
    message: &str,
    next: &str,
    remedy: &str,
    retryable: bool,
) -> Status {
    let metadata = HashMap::from([
        ("next".to_owned(), next.to_owned()),
        ("remedy".to_owned(), remedy.to_owned()),
        ("retryable".to_owned(), retryable.to_string()),
    ]);
    let details = ErrorDetails::with_error_info(reason, proto::ERROR_DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}
