//! The soonest that a number of calls can be through, by the buckets of an account.

use aws_sim::{Size, Throttling};
use serde::Serialize;

/// A bound, and which action sets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Bound {
    /// Seconds, from full buckets on.
    pub(crate) seconds: f64,
    /// None when the buckets hold all that is asked for.
    pub(crate) by: Option<String>,
}

/// When so many calls of each action can be through at the soonest.
pub(crate) fn bound<'a>(calls: impl IntoIterator<Item = (&'a str, u64)>) -> Bound {
    let mut most = Bound::default();
    for (action, count) in calls {
        // Our Describes have a filter.
        let Some(size) = Throttling::Ec2.size(action, true) else {
            continue;
        };
        let seconds = seconds(size, count);
        if seconds > most.seconds {
            most = Bound {
                seconds,
                by: Some(action.to_owned()),
            };
        }
    }
    most
}

fn seconds(size: Size, calls: u64) -> f64 {
    let beyond = calls.saturating_sub(u64::from(size.capacity));
    beyond as f64 / size.refill
}

#[cfg(test)]
mod tests {
    use super::bound;

    #[test]
    fn what_the_buckets_hold_costs_no_time_and_the_slowest_bucket_sets_the_bound() {
        assert_eq!(bound([("AssignPrivateIpAddresses", 100)]).seconds, 0.0);
        let both = bound([
            ("DescribeNetworkInterfaces", 5000),
            ("AssignPrivateIpAddresses", 5000),
        ]);
        assert_eq!(both.seconds, 980.0);
        assert_eq!(both.by.as_deref(), Some("AssignPrivateIpAddresses"));
    }
}
