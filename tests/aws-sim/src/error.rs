//! EC2's errors: code, text and HTTP status as the real ones, because clients match on both code and text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An EC2 error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[error("{code}: {message}")]
pub struct Ec2Error {
    /// Such as `InvalidParameterValue`.
    pub code: String,
    /// Such as `Number of private addresses will exceed limit.`
    #[serde(default)]
    pub message: String,
    /// HTTP status: 400 for nearly all, and when none is written.
    #[serde(default = "bad_request")]
    pub status: u16,
}

fn bad_request() -> u16 {
    400
}

/// What calls answer.
pub type Result<T> = std::result::Result<T, Ec2Error>;

impl Ec2Error {
    /// An error of the caller: HTTP 400.
    pub fn client(code: impl Into<String>, message: impl Into<String>) -> Ec2Error {
        Ec2Error {
            code: code.into(),
            message: message.into(),
            status: 400,
        }
    }

    pub(crate) fn unsigned() -> Ec2Error {
        let message = "Request is missing Authentication Token";
        Ec2Error {
            status: 403,
            ..Ec2Error::client("MissingAuthenticationToken", message)
        }
    }

    pub(crate) fn auth_failure() -> Ec2Error {
        let message = "AWS was not able to validate the provided access credentials";
        Ec2Error {
            status: 401,
            ..Ec2Error::client("AuthFailure", message)
        }
    }

    pub(crate) fn dry_run() -> Ec2Error {
        let message = "Request would have succeeded, but DryRun flag is set.";
        Ec2Error {
            status: 412,
            ..Ec2Error::client("DryRunOperation", message)
        }
    }

    /// Too many requests: HTTP 503.
    #[must_use]
    pub fn request_limit_exceeded() -> Ec2Error {
        Ec2Error {
            status: 503,
            ..Ec2Error::client("RequestLimitExceeded", "Request limit exceeded.")
        }
    }

    pub(crate) fn missing_action() -> Ec2Error {
        Ec2Error::client(
            "MissingAction",
            "The request must contain the parameter Action",
        )
    }

    pub(crate) fn invalid_action(action: &str) -> Ec2Error {
        Ec2Error::client(
            "InvalidAction",
            format!("The action {action} is not valid for this web service."),
        )
    }

    pub(crate) fn missing(parameter: &str) -> Ec2Error {
        let message = format!("The request must contain the parameter {parameter}");
        Ec2Error::client("MissingParameter", message)
    }

    pub(crate) fn unknown_parameter(parameter: &str) -> Ec2Error {
        let message = format!("The parameter {parameter} is not recognized");
        Ec2Error::client("UnknownParameter", message)
    }

    pub(crate) fn value(value: impl fmt::Display, parameter: &str, why: &str) -> Ec2Error {
        let message = format!("Value ({value}) for parameter {parameter} is invalid. {why}");
        Ec2Error::client("InvalidParameterValue", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Ec2Error {
        Ec2Error::client("InvalidParameterValue", message)
    }

    pub(crate) fn combination(message: impl Into<String>) -> Ec2Error {
        Ec2Error::client("InvalidParameterCombination", message)
    }

    pub(crate) fn no_such_eni(id: impl fmt::Display) -> Ec2Error {
        let message = format!("The networkInterface ID '{id}' does not exist");
        Ec2Error::client("InvalidNetworkInterfaceID.NotFound", message)
    }

    pub(crate) fn no_such_attachment(id: impl fmt::Display) -> Ec2Error {
        let message = format!("The network interface attachment ID '{id}' does not exist");
        Ec2Error::client("InvalidAttachmentID.NotFound", message)
    }

    pub(crate) fn no_such_instance(id: impl fmt::Display) -> Ec2Error {
        let message = format!("The instance ID '{id}' does not exist");
        Ec2Error::client("InvalidInstanceID.NotFound", message)
    }

    pub(crate) fn no_such_subnet(id: impl fmt::Display) -> Ec2Error {
        let message = format!("The subnet ID '{id}' does not exist");
        Ec2Error::client("InvalidSubnetID.NotFound", message)
    }

    pub(crate) fn no_such_vpc(id: impl fmt::Display) -> Ec2Error {
        let message = format!("The vpc ID '{id}' does not exist");
        Ec2Error::client("InvalidVpcID.NotFound", message)
    }

    pub(crate) fn no_such_group(id: impl fmt::Display) -> Ec2Error {
        let message = format!("The security group '{id}' does not exist");
        Ec2Error::client("InvalidGroup.NotFound", message)
    }

    pub(crate) fn no_such_type(names: &str) -> Ec2Error {
        let message = format!("The following supplied instance types do not exist: [{names}]");
        Ec2Error::client("InvalidInstanceType", message)
    }

    pub(crate) fn in_use(eni: impl fmt::Display) -> Ec2Error {
        Ec2Error::invalid(format!("Network interface '{eni}' is currently in use."))
    }

    pub(crate) fn address_limit() -> Ec2Error {
        let message = "Number of private addresses will exceed limit.";
        Ec2Error::client("PrivateIpAddressLimitExceeded", message)
    }

    pub(crate) fn no_free_addresses() -> Ec2Error {
        let message =
            "The specified subnet does not have enough free addresses to satisfy the request.";
        Ec2Error::client("InsufficientFreeAddressesInSubnet", message)
    }

    pub(crate) fn no_free_blocks() -> Ec2Error {
        let message =
            "The specified subnet does not have enough free cidr blocks to satisfy the request.";
        Ec2Error::client("InsufficientCidrBlocks", message)
    }

    pub(crate) fn vaguely_insufficient() -> Ec2Error {
        Ec2Error::invalid("There aren't sufficient free Ipv4 addresses or prefixes")
    }
}
