//! What a failed call means: decided here, once, by EC2's code and text.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use ipam::{CallError, CallErrorKind};

/// Whether a call changes anything: then no answer means that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Mutates,
}

/// EC2's ways to say: not so fast.
const THROTTLED: &[&str] = &[
    "RequestLimitExceeded",
    "Client.RequestLimitExceeded",
    "EC2ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

/// The SDK's error as the pool's.
pub(crate) fn call_error<E>(action: &'static str, effect: Effect, error: &SdkError<E>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
    SdkError<E>: RequestId,
{
    let (kind, code, message) = match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let code = answer
                .err()
                .code()
                .map_or_else(|| format!("HTTP {status}"), str::to_owned);
            let message = answer.err().message().unwrap_or("no message").to_owned();
            (
                kind_of_answer(status, &code, &message, effect),
                code,
                message,
            )
        }
        SdkError::TimeoutError(_) => (
            no_answer(effect),
            "Timeout".to_owned(),
            "EC2 did not answer in time".to_owned(),
        ),
        // Something answered, but not as EC2 does: a proxy, or an answer cut short.
        SdkError::ResponseError(answer) => (
            no_answer(effect),
            "Response".to_owned(),
            format!(
                "HTTP status {} with a body that is not EC2's: {}",
                answer.raw().status().as_u16(),
                causes(error)
            ),
        ),
        _ => {
            if let Some(credentials) = cause::<CredentialsError>(error) {
                let message = causes(error);
                let kind = kind_of_credentials(credentials, &message);
                (kind, "Credentials".to_owned(), message)
            } else if matches!(error, SdkError::ConstructionFailure(_)) {
                (
                    CallErrorKind::Other,
                    "Configuration".to_owned(),
                    causes(error),
                )
            } else {
                let kind = if never_connected(error) {
                    CallErrorKind::Unavailable
                } else {
                    no_answer(effect)
                };
                (kind, "Connection".to_owned(), causes(error))
            }
        }
    };
    tracing::debug!(action, error = %DisplayErrorContext(error), "EC2 call failed");
    CallError {
        kind,
        action,
        code,
        message,
        request_id: error.request_id().map(str::to_owned),
    }
}

fn kind_of_answer(status: u16, code: &str, message: &str, effect: Effect) -> CallErrorKind {
    use CallErrorKind as Kind;
    // As EC2's SOAP API and some of its logs have it.
    let code = code.strip_prefix("Client.").unwrap_or(code);
    let code = code.strip_prefix("Server.").unwrap_or(code);
    if THROTTLED.contains(&code) {
        return Kind::Throttled;
    }
    match code {
        "InsufficientFreeAddressesInSubnet" => Kind::SubnetExhausted,
        "InsufficientCidrBlocks" => Kind::PrefixesExhausted,
        "AttachmentLimitExceeded" | "NetworkInterfaceLimitExceeded" => Kind::EniLimit,
        "PrivateIpAddressLimitExceeded" | "InvalidInterface.IpAddressLimitExceeded" => {
            Kind::AddressLimit
        }
        "InvalidNetworkInterface.InUse"
        | "InvalidNetworkInterfaceInUse"
        | "InvalidIPAddress.InUse"
        | "InvalidInstanceAttachment.InUse"
        // The client token was used before.
        | "IdempotentParameterMismatch" => Kind::InUse,
        // One code for many conditions: only the text tells them apart.
        "InvalidParameterValue" if says(message, "sufficient free") => Kind::SubnetExhausted,
        "IncorrectInstanceState" => Kind::InstanceNotReady,
        // Of an attachment's state it says no more than that it is not the right one.
        "IncorrectState" if says(message, "'running'") => Kind::InstanceNotReady,
        // No signature at all.
        "MissingParameter" if says(message, "awsaccesskeyid") => Kind::Refused,
        "InvalidParameterValue" if says(message, "currently in use") => Kind::InUse,
        "InvalidParameterValue" if says(message, "already has an interface attached") => {
            Kind::InUse
        }
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "OperationNotPermitted"
        | "OptInRequired"
        | "PendingVerification"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException" => Kind::Refused,
        "Unavailable" | "ServiceUnavailable" => Kind::Unavailable,
        _ if code.ends_with(".NotFound") => Kind::NotFound,
        _ if status >= 500 => no_answer(effect),
        _ => Kind::Other,
    }
}

fn kind_of_credentials(error: &CredentialsError, message: &str) -> CallErrorKind {
    match error {
        CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
            CallErrorKind::Unavailable
        }
        // The SDK takes an IMDS that does not answer for one that is not there.
        _ if says(message, "could not communicate with imds") => CallErrorKind::Unavailable,
        _ => CallErrorKind::Refused,
    }
}

fn says(message: &str, words: &str) -> bool {
    message.to_ascii_lowercase().contains(words)
}

fn no_answer(effect: Effect) -> CallErrorKind {
    match effect {
        Effect::Reads => CallErrorKind::Unavailable,
        Effect::Mutates => CallErrorKind::Unknown,
    }
}

/// Whether no byte of the request can have left.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    cause::<io::Error>(error).is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
        )
    })
}

/// The first cause of this type.
fn cause<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The error and its causes in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = error.source();
    }
    text
}

/// For the pool's own calls: what EC2 throttles is for the pool to repeat, at the pace of its governor. Two that slow
/// down without knowing of each other ask either too often or too seldom.
#[derive(Debug)]
pub(crate) struct ThrottlesAreThePools;

impl ClassifyRetry for ThrottlesAreThePools {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let throttled = context
            .response()
            .and_then(|response| response.body().bytes())
            .map(String::from_utf8_lossy)
            .is_some_and(|body| {
                THROTTLED
                    .iter()
                    .any(|code| body.contains(&format!("<Code>{code}</Code>")))
            });
        if throttled {
            RetryAction::RetryForbidden
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "ThrottlesAreThePools"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CallErrorKind as Kind;

    #[test]
    fn ec2s_answers_are_told_apart_by_code_and_text() {
        // Texts as users saw them; see the threads named in the simulator's specification.
        let table = [
            (
                400,
                "InsufficientFreeAddressesInSubnet",
                "The specified subnet does not have enough free addresses to satisfy the request.",
                Kind::SubnetExhausted,
            ),
            (
                400,
                "InsufficientCidrBlocks",
                "The specified subnet does not have enough free cidr blocks to satisfy the request.",
                Kind::PrefixesExhausted,
            ),
            (
                400,
                "InvalidParameterValue",
                "There aren't sufficient free Ipv4 addresses or prefixes",
                Kind::SubnetExhausted,
            ),
            (
                400,
                "PrivateIpAddressLimitExceeded",
                "Number of private addresses will exceed limit.",
                Kind::AddressLimit,
            ),
            (
                400,
                "AttachmentLimitExceeded",
                "Interface count 4 exceeds the limit for t3.medium",
                Kind::EniLimit,
            ),
            (
                400,
                "InvalidParameterValue",
                "Network interface 'eni-0123' is currently in use.",
                Kind::InUse,
            ),
            (400, "InvalidNetworkInterface.InUse", "in use", Kind::InUse),
            (
                400,
                "InvalidParameterValue",
                "Instance 'i-0123' already has an interface attached at device index '1'.",
                Kind::InUse,
            ),
            (
                400,
                "InvalidNetworkInterfaceID.NotFound",
                "The networkInterface ID 'eni-0123' does not exist",
                Kind::NotFound,
            ),
            (400, "InvalidAttachmentID.NotFound", "gone", Kind::NotFound),
            (
                503,
                "RequestLimitExceeded",
                "Request limit exceeded.",
                Kind::Throttled,
            ),
            (
                403,
                "UnauthorizedOperation",
                "You are not authorized to perform this operation.",
                Kind::Refused,
            ),
            (400, "RequestExpired", "Request has expired.", Kind::Refused),
            (
                503,
                "Unavailable",
                "The server is overloaded.",
                Kind::Unavailable,
            ),
            (
                400,
                "InvalidParameterValue",
                "invalid value for parameter deviceIndex: -1",
                Kind::Other,
            ),
            (
                400,
                "IdempotentParameterMismatch",
                "Wrong arguments for token: weir-1",
                Kind::InUse,
            ),
            (
                400,
                "InvalidParameterValue",
                "[10.0.0.9, 10.0.0.10] assigned, but move is not allowed.",
                Kind::Other,
            ),
            (
                400,
                "InvalidInterface.IpAddressLimitExceeded",
                "Number of IP addresses exceeds limit",
                Kind::AddressLimit,
            ),
            (
                400,
                "Client.RequestLimitExceeded",
                "Request limit exceeded.",
                Kind::Throttled,
            ),
            (
                400,
                "MissingParameter",
                "The request must contain the parameter AWSAccessKeyId",
                Kind::Refused,
            ),
            (
                400,
                "MissingParameter",
                "The request must contain the parameter subnetId",
                Kind::Other,
            ),
            (
                401,
                "AuthFailure",
                "AWS was not able to validate the provided access credentials",
                Kind::Refused,
            ),
            (
                400,
                "OperationNotPermitted",
                "You are not allowed to manage 'ela-attach' attachments.",
                Kind::Refused,
            ),
            (
                400,
                "InvalidSecurityGroupID.NotFound",
                "The securityGroup ID 'sg-0123' does not exist",
                Kind::NotFound,
            ),
            (
                400,
                "IncorrectState",
                "Instance 'i-0123' is not 'running' or 'stopped'.",
                Kind::InstanceNotReady,
            ),
            (
                400,
                "IncorrectInstanceState",
                "The instance 'i-0123' is not in the 'running' state.",
                Kind::InstanceNotReady,
            ),
            (
                400,
                "IncorrectState",
                "The attachment 'eni-attach-0123' is already being detached.",
                Kind::Other,
            ),
        ];
        for (status, code, message, kind) in table {
            assert_eq!(
                kind_of_answer(status, code, message, Effect::Mutates),
                kind,
                "{code}: {message}"
            );
        }
    }

    #[test]
    fn a_server_error_leaves_a_mutation_unknown_and_a_read_undone() {
        for code in ["InternalError", "HTTP 502"] {
            assert_eq!(
                kind_of_answer(500, code, "", Effect::Mutates),
                Kind::Unknown
            );
            assert_eq!(
                kind_of_answer(500, code, "", Effect::Reads),
                Kind::Unavailable
            );
        }
    }

    #[test]
    fn credentials_that_imds_did_not_give_in_time_may_come_and_others_do_not() {
        let none = CredentialsError::not_loaded_no_source();
        let imds = "no credentials found in chain. Attempted: Ec2InstanceMetadata: the credential provider was not \
                    enabled: could not communicate with IMDS: dispatch failure: timeout";
        assert_eq!(kind_of_credentials(&none, imds), Kind::Unavailable);
        let none_at_all = "no credentials found in chain. Attempted: Environment";
        assert_eq!(kind_of_credentials(&none, none_at_all), Kind::Refused);
        let sts = CredentialsError::provider_error("HTTP 500");
        assert_eq!(kind_of_credentials(&sts, "HTTP 500"), Kind::Unavailable);
    }

    #[test]
    fn a_refused_connection_is_found_below_other_errors() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let wrapped = |cause| {
            SdkError::<io::Error>::construction_failure(CredentialsError::provider_error(cause))
        };
        assert!(never_connected(&wrapped(refused)));
        assert!(!never_connected(&wrapped(reset)));
    }
}
