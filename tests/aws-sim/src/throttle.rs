//! EC2's limits on how often it may be asked: a token bucket for each account, Region and action.
//!
//! Numbers and rules are from "Request throttling for the Amazon EC2 API" in EC2's developer guide. A world is one
//! Region, so the Region is not part of a bucket's name here. All instances of an account share its buckets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Ec2Error, Result};
use crate::params::Params;
use crate::time::SimTime;

/// How large buckets are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Throttling {
    /// As large as in a new account of EC2.
    #[default]
    Ec2,
    /// Nothing is throttled.
    Off,
    /// These actions have buckets of these sizes, filtered or not, as EC2 raises limits on request; the others have
    /// EC2's.
    Custom(BTreeMap<String, Size>),
}

/// The size of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Size {
    /// How many tokens it holds when it is full. It begins full.
    pub capacity: u32,
    /// Tokens that come back per second.
    pub refill: f64,
}

impl Size {
    /// This many tokens, and this many more per second.
    #[must_use]
    pub const fn new(capacity: u32, refill: f64) -> Size {
        Size { capacity, refill }
    }
}

const READING: Size = Size::new(100, 20.0);
const READING_ALL: Size = Size::new(50, 10.0);
const CHANGING: Size = Size::new(50, 5.0);

/// Actions that have another bucket, [`READING_ALL`], for requests with neither a filter nor pages.
const HEAVY_TO_READ: &[&str] = &[
    "DescribeInstanceStatus",
    "DescribeInstances",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "DescribeSpotInstanceRequests",
    "DescribeVolumes",
];

/// Actions that EC2 lists with sizes of their own, as far as they are about the network of instances.
const UNCATEGORIZED: &[(&str, Size)] = &[
    ("AssignIpv6Addresses", Size::new(100, 5.0)),
    ("AssignPrivateIpAddresses", Size::new(100, 5.0)),
    ("CreateNetworkInterface", Size::new(100, 5.0)),
    ("CreateSubnetCidrReservation", Size::new(5, 1.0)),
    ("CreateTags", Size::new(100, 10.0)),
    ("DeleteNetworkInterface", Size::new(100, 5.0)),
    ("DeleteSubnetCidrReservation", Size::new(5, 1.0)),
    ("DeleteTags", Size::new(100, 10.0)),
    ("ModifyNetworkInterfaceAttribute", Size::new(100, 5.0)),
    ("RunInstances", Size::new(5, 2.0)),
    ("TerminateInstances", Size::new(100, 5.0)),
    ("UnassignPrivateIpAddresses", Size::new(100, 5.0)),
];

impl Throttling {
    /// The size of the bucket that a request takes from; `None` when there is none.
    #[must_use]
    pub fn size(&self, action: &str, filtered: bool) -> Option<Size> {
        match self {
            Throttling::Off => None,
            Throttling::Ec2 => Some(ec2_size(action, filtered)),
            Throttling::Custom(sizes) => {
                let custom = sizes.get(action).copied();
                Some(custom.unwrap_or_else(|| ec2_size(action, filtered)))
            }
        }
    }
}

fn ec2_size(action: &str, filtered: bool) -> Size {
    if let Some((_, size)) = UNCATEGORIZED.iter().find(|(name, _)| *name == action) {
        return *size;
    }
    let reads = ["Describe", "Get", "List", "Search"];
    match reads.iter().any(|verb| action.starts_with(verb)) {
        true if filtered || !HEAVY_TO_READ.contains(&action) => READING,
        true => READING_ALL,
        false => CHANGING,
    }
}

/// Whether a request has a filter or asks for a page. Ids are neither: EC2's guide names only those two.
#[must_use]
pub fn is_filtered(params: &Params) -> bool {
    let given = params.all().iter().filter(|(_, value)| !value.is_empty());
    given
        .map(|(name, _)| name.as_str())
        .any(|name| matches!(name, "MaxResults" | "NextToken") || name.starts_with("Filter."))
}

/// The bucket's name: account, action, and whether it is the one for requests with neither a filter nor pages.
type Name = (String, String, bool);

/// What is in the buckets of a Region.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    /// The tokens that were left when one was last taken, and when that was. One that is not here is full.
    levels: BTreeMap<Name, (f64, SimTime)>,
}

impl Buckets {
    /// Takes the token that a request costs. A refused request costs nothing.
    ///
    /// # Errors
    /// `RequestLimitExceeded` when there is less than one.
    pub fn take(
        &mut self,
        throttling: &Throttling,
        now: SimTime,
        account: &str,
        action: &str,
        filtered: bool,
    ) -> Result<()> {
        let Some(tokens) = self.left(throttling, now, account, action, filtered) else {
            return Ok(());
        };
        if tokens < 1.0 {
            return Err(Ec2Error::request_limit_exceeded());
        }
        self.levels
            .insert(name(account, action, filtered), (tokens - 1.0, now));
        Ok(())
    }

    /// How many tokens there are for such a request; `None` when it is not throttled.
    #[must_use]
    pub fn left(
        &self,
        throttling: &Throttling,
        now: SimTime,
        account: &str,
        action: &str,
        filtered: bool,
    ) -> Option<f64> {
        let size = throttling.size(action, filtered)?;
        let capacity = f64::from(size.capacity);
        let level = self.levels.get(&name(account, action, filtered));
        Some(level.map_or(capacity, |(tokens, then)| {
            let refilled = tokens + now.since(*then).as_secs_f64() * size.refill;
            refilled.clamp(0.0, capacity)
        }))
    }
}

fn name(account: &str, action: &str, filtered: bool) -> Name {
    let small = !filtered && HEAVY_TO_READ.contains(&action);
    (account.to_owned(), action.to_owned(), small)
}
