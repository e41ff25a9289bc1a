//! The plugin's own CNI error codes, and the stable reasons that go with them.
//!
//! A refusal of ipamd that trying again can help (`retryable`) is code 11, as the contract has it, whatever
//! its reason. Otherwise:
//!
//! | code | reason | meaning |
//! |---|---|---|
//! | 100 | `POOL_EXHAUSTED` | every address that the instance type allows is taken |
//! | 101 | `SUBNET_EXHAUSTED` | the subnet has no free address |
//! | 102 | `EC2_REFUSED` | EC2 refused the growth that the pod needs |
//! | 103 | `EC2_THROTTLED` | EC2 throttled it |
//! | 104 | `EC2_UNAVAILABLE` | EC2 could not be reached |
//! | 105 | `DEADLINE_EXCEEDED` | the pool did not grow in time |
//! | 106 | `STARTING` | ipamd does not know yet what the node holds |
//! | 107 | `BOOKS_FAILED` | ipamd could not write its state file |
//! | 108 | `SHUTTING_DOWN` | ipamd is going |
//! | 119 | any other | ipamd refused, with a reason that this plugin does not know |
//! | 120 | `CONTRACT` | ipamd answered what the contract between the two does not allow |
//! | 121 | `INTERFACE_EXISTS` | the pod has an interface of that name, and it is not the one we made |
//! | 122 | `KERNEL` | the kernel refused a step of wiring or unwiring the pod |
//! | 123 | `NOT_AS_ADDED` | CHECK found that something of the pod's interface is not as ADD made it |
//!
//! The reason, what happens next and the remedy stand in the error's details.

use cni_spec::Code;
use cni_spec::error::OwnCode;

pub(crate) const CONTRACT: Code = own(20);
pub(crate) const INTERFACE_EXISTS: Code = own(21);
pub(crate) const KERNEL: Code = own(22);
pub(crate) const NOT_AS_ADDED: Code = own(23);

/// The code of a refusal that trying again does not help.
pub(crate) fn of_reason(reason: &str) -> Code {
    own(match reason {
        "POOL_EXHAUSTED" => 0,
        "SUBNET_EXHAUSTED" => 1,
        "EC2_REFUSED" => 2,
        "EC2_THROTTLED" => 3,
        "EC2_UNAVAILABLE" => 4,
        "DEADLINE_EXCEEDED" => 5,
        "STARTING" => 6,
        "BOOKS_FAILED" => 7,
        "SHUTTING_DOWN" => 8,
        _ => 19,
    })
}

/// The details of every error of ours: for programs the reason, for people the rest.
pub(crate) fn details(reason: &str, next: &str, remedy: &str) -> String {
    let mut text = format!("reason: {reason}");
    for (label, part) in [("next", next), ("remedy", remedy)] {
        if !part.is_empty() {
            text.push_str(&format!("; {label}: {part}"));
        }
    }
    text
}

const fn own(offset: u8) -> Code {
    Code::Own(OwnCode::from_100(offset))
}
