//! The SDK's patience and repeats: see `Patience` in crates/cloud/src/ec2.rs.

use std::time::Duration;

use aws_sim::Delivery;
use ipam::{Call, CallError, CallErrorKind, CallReply};

use crate::ec2::{Attempt, Sent, silence};

/// How often a call is tried, and how many milliseconds one attempt and all together may take.
struct Patience {
    attempts: u32,
    attempt: u64,
    whole: u64,
}

const READS: Patience = Patience {
    attempts: 4,
    attempt: 6_000,
    whole: 25_000,
};
const MUTATIONS: Patience = Patience {
    attempts: 3,
    attempt: 15_000,
    whole: 40_000,
};

/// How far a call has come, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// When this attempt reached EC2.
    pub now: u64,
    /// When the first was sent.
    pub began: u64,
    /// Which this is, from 1.
    pub attempt: u32,
    /// How long to wait before the next.
    pub backoff: u64,
}

/// What the SDK does next, and when, in milliseconds.
#[derive(Debug)]
pub enum Next {
    /// Tries again, because of this.
    Again(u64, CallError),
    /// Says so.
    Done(u64, Result<CallReply, CallError>),
}

impl Next {
    /// Whether it was EC2's limit on calls.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        match self {
            Self::Again(_, error) | Self::Done(_, Err(error)) => {
                error.kind == CallErrorKind::Throttled
            }
            Self::Done(_, Ok(_)) => false,
        }
    }
}

/// What follows from an attempt.
#[must_use]
pub fn next(call: &Call, sent: Sent, tried: Tried) -> Next {
    let patience = match call {
        Call::DescribeEnis | Call::DescribeOrphans(_) | Call::DescribeSubnets => READS,
        _ => MUTATIONS,
    };
    let (takes, late) = match sent.delivery {
        Delivery::Now => (0, false),
        Delivery::Reset => (1, false),
        Delivery::After(latency) => {
            let latency = millis(latency);
            (latency.min(patience.attempt), latency >= patience.attempt)
        }
        Delivery::Never => (patience.attempt, true),
    };
    let came = if late {
        Attempt::Unclear(silence(call.action()))
    } else {
        sent.attempt
    };
    let safe = matches!(
        call,
        Call::DescribeEnis
            | Call::DescribeOrphans(_)
            | Call::DescribeSubnets
            | Call::DeleteOnTermination { .. }
            | Call::SetGroups { .. }
            | Call::DeleteEni { .. }
            | Call::DeleteOrphan { .. }
    );
    let at = tried.now + takes;
    let then = at + tried.backoff;
    let again = tried.attempt < patience.attempts && then < tried.began + patience.whole;
    match came {
        Attempt::Answered(outcome) => Next::Done(at, outcome),
        Attempt::Throttled(error) if again => Next::Again(then, error),
        Attempt::Unclear(error) if again && safe => Next::Again(then, error),
        Attempt::Throttled(error) | Attempt::Unclear(error) => Next::Done(at, Err(error)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
