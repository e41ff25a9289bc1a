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
    /// EC2's. `RunInstances:instances` is the second bucket of RunInstances, which counts instances.
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
    ("ModifyInstanceMetadataOptions", Size::new(100, 5.0)),
    ("ModifyNetworkInterfaceAttribute", Size::new(100, 5.0)),
    ("RunInstances", Size::new(5, 2.0)),
    ("StartInstances", Size::new(5, 2.0)),
    ("TerminateInstances", Size::new(100, 5.0)),
    ("UnassignPrivateIpAddresses", Size::new(100, 5.0)),
];

/// The second buckets that some actions have: they take as many tokens as there are instances in the request.
const RESOURCES: &[(&str, Size)] = &[
    ("RunInstances", Size::new(1000, 2.0)),
    ("StartInstances", Size::new(1000, 2.0)),
    ("StopInstances", Size::new(1000, 20.0)),
    ("TerminateInstances", Size::new(1000, 20.0)),
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

    /// The size of the bucket that an action takes from for each instance that it is about.
    fn resources(&self, action: &str) -> Option<Size> {
        let ec2 = || RESOURCES.iter().find(|(name, _)| *name == action);
        match self {
            Throttling::Off => None,
            Throttling::Ec2 => ec2().map(|(_, size)| *size),
            Throttling::Custom(sizes) => {
                let custom = sizes.get(&format!("{action}:instances")).copied();
                custom.or_else(|| ec2().map(|(_, size)| *size))
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

/// What is in the buckets of a Region.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    accounts: BTreeMap<String, Account>,
}

/// The buckets of an account, by action. One that is not here is full.
#[derive(Clone, Debug, Default)]
struct Account {
    usual: BTreeMap<String, Level>,
    /// For requests with neither a filter nor pages.
    unfiltered: BTreeMap<String, Level>,
    /// For the instances in requests.
    resources: BTreeMap<String, Level>,
}

/// The tokens that were left when one was last taken, and when that was.
#[derive(Clone, Copy, Debug)]
struct Level {
    tokens: f64,
    then: SimTime,
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
        let Some(size) = throttling.size(action, filtered) else {
            return Ok(());
        };
        self.with(account, |account| {
            let levels = if is_small(action, filtered) {
                &mut account.unfiltered
            } else {
                &mut account.usual
            };
            take(levels, size, now, action, 1.0)
        })
    }

    /// Takes a token for each instance that a request is about.
    ///
    /// # Errors
    /// `RequestLimitExceeded` when there are fewer; then none is taken.
    pub fn take_resources(
        &mut self,
        throttling: &Throttling,
        now: SimTime,
        account: &str,
        action: &str,
        instances: usize,
    ) -> Result<()> {
        let Some(size) = throttling.resources(action) else {
            return Ok(());
        };
        let cost = f64::from(u32::try_from(instances).unwrap_or(u32::MAX));
        self.with(account, |account| {
            take(&mut account.resources, size, now, action, cost)
        })
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
        let level = self.accounts.get(account).and_then(|account| {
            let levels = if is_small(action, filtered) {
                &account.unfiltered
            } else {
                &account.usual
            };
            levels.get(action)
        });
        Some(size.left(level, now))
    }

    /// The names of accounts and actions are copied only the first time: this is done for every request.
    fn with<R>(&mut self, account: &str, take: impl FnOnce(&mut Account) -> R) -> R {
        if let Some(account) = self.accounts.get_mut(account) {
            return take(account);
        }
        let mut new = Account::default();
        let taken = take(&mut new);
        self.accounts.insert(account.to_owned(), new);
        taken
    }
}

impl Size {
    /// What is in a bucket by now.
    fn left(self, level: Option<&Level>, now: SimTime) -> f64 {
        let capacity = f64::from(self.capacity);
        level.map_or(capacity, |level| {
            let refilled = level.tokens + now.since(level.then).as_secs_f64() * self.refill;
            refilled.clamp(0.0, capacity)
        })
    }
}

fn take(
    levels: &mut BTreeMap<String, Level>,
    size: Size,
    now: SimTime,
    action: &str,
    cost: f64,
) -> Result<()> {
    let level = levels.get_mut(action);
    let tokens = size.left(level.as_deref(), now);
    if tokens < cost {
        return Err(Ec2Error::request_limit_exceeded());
    }
    let left = Level {
        tokens: tokens - cost,
        then: now,
    };
    match level {
        Some(level) => *level = left,
        None => drop(levels.insert(action.to_owned(), left)),
    }
    Ok(())
}

/// Whether a request takes from the bucket that is for those with neither a filter nor pages.
fn is_small(action: &str, filtered: bool) -> bool {
    !filtered && HEAVY_TO_READ.contains(&action)
}
