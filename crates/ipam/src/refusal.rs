//! Why a pod does not get an address.

use std::fmt;

/// A refused request: why, what happens next by itself, and what a person can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The stable identifier.
    pub reason: Reason,
    /// The sentence for people; where EC2 refused, with EC2's code, message and request id in full.
    pub message: String,
    /// What happens without anybody's doing.
    pub next: String,
    /// What a person can do.
    pub remedy: String,
}

/// Why, as a stable identifier for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Every address that the instance type allows is taken.
    PoolExhausted,
    /// EC2 is not asked for anything, by command or because it has failed for long.
    PoolFrozen,
    /// The subnet has no free address.
    SubnetExhausted,
    /// EC2 refused the growth that the pod waits for.
    Ec2Refused,
    /// EC2 throttled the growth that the pod waits for.
    Ec2Throttled,
    /// EC2 could not be reached, or its answer is not known.
    Ec2Unavailable,
    /// The deadline passed while the pool was growing.
    DeadlineExceeded,
    /// ipamd has not yet learned what the node holds.
    Starting,
    /// The books could not be written, so nothing may be given out.
    BooksFailed,
    /// The ENI that the pod waits for is attached, but could not be set up on the node.
    EniFailed,
    /// What the sandbox owns is not held by EC2 any more.
    AddressLost,
    /// The sandbox was deleted while its ADD waited.
    SandboxDeleted,
    /// ipamd is shutting down.
    ShuttingDown,
}

impl Reason {
    /// `POOL_EXHAUSTED` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PoolExhausted => "POOL_EXHAUSTED",
            Self::PoolFrozen => "POOL_FROZEN",
            Self::SubnetExhausted => "SUBNET_EXHAUSTED",
            Self::Ec2Refused => "EC2_REFUSED",
            Self::Ec2Throttled => "EC2_THROTTLED",
            Self::Ec2Unavailable => "EC2_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Starting => "STARTING",
            Self::BooksFailed => "BOOKS_FAILED",
            Self::EniFailed => "ENI_FAILED",
            Self::AddressLost => "ADDRESS_LOST",
            Self::SandboxDeleted => "SANDBOX_DELETED",
            Self::ShuttingDown => "SHUTTING_DOWN",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_its_name_in_capitals() {
        for reason in [
            Reason::PoolExhausted,
            Reason::PoolFrozen,
            Reason::SubnetExhausted,
            Reason::Ec2Refused,
            Reason::Ec2Throttled,
            Reason::Ec2Unavailable,
            Reason::DeadlineExceeded,
            Reason::Starting,
            Reason::BooksFailed,
            Reason::EniFailed,
            Reason::AddressLost,
            Reason::SandboxDeleted,
            Reason::ShuttingDown,
        ] {
            let joined = reason.to_string().replace('_', "");
            assert_eq!(joined, format!("{reason:?}").to_uppercase());
        }
    }
}
