//! What happens from outside: what people, other controllers and EC2 itself do to a world, behind the backs of
//! those who call.
//!
//! Things are named by id or by their `Name` tag; an ENI also as `NODE/INDEX`, the ENI at that device index of an
//! instance on its first network card.

mod addresses;
mod apply;
mod named;
mod plan;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub(crate) use self::plan::Planned;
use crate::faults::{Fault, ImdsFault};
use crate::iam::Deny;
use crate::ids::EniId;
use crate::subnet::Order;
use crate::throttle::Throttling;
use crate::time::{SimTime, maybe_text, text};
use crate::world::{Latencies, Tags};

/// One thing that happens from outside.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Event {
    /// An address of an ENI becomes another's, as `AllowReassignment` does.
    StealAddress {
        /// Who loses it.
        eni: String,
        /// Which; without one, the first secondary address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// Who gets it, in the same subnet; without one, a new ENI that belongs to nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Addresses or prefixes of an ENI come free.
    Unassign {
        /// Whose.
        eni: String,
        /// An address is a /32 or a /128, a prefix a /28 or an /80; empty is all but the primary address.
        #[serde(default)]
        addresses: Vec<IpNet>,
    },
    /// An ENI is detached by force: at once.
    DetachEni {
        /// Which.
        eni: String,
    },
    /// An ENI is deleted; it is detached first.
    DeleteEni {
        /// Which.
        eni: String,
    },
    /// Tags are taken off.
    StripTags {
        /// An ENI, an instance, a subnet, a VPC or a security group.
        of: String,
        /// Which; empty is all.
        #[serde(default)]
        keys: Vec<String>,
    },
    /// Tags are put on.
    AddTags {
        /// An ENI, an instance, a subnet, a VPC or a security group.
        to: String,
        /// Which.
        tags: Tags,
    },
    /// An ENI gets other security groups.
    SetGroups {
        /// Which.
        eni: String,
        /// The groups that it has from then on.
        groups: Vec<String>,
    },
    /// Others take addresses of a subnet until only so many are free.
    FillSubnet {
        /// Which.
        subnet: String,
        /// How many stay free.
        #[serde(default)]
        leaving: usize,
    },
    /// Others take addresses of a subnet so that it has no /28 left.
    FragmentSubnet {
        /// Which.
        subnet: String,
        /// Which addresses.
        #[serde(default)]
        pattern: Fragments,
    },
    /// What filling and fragmenting took of a subnet comes free.
    EmptySubnet {
        /// Which.
        subnet: String,
    },
    /// An ENI appears that is attached to nothing.
    CreateOrphan {
        /// Where.
        subnet: String,
        /// Its tags.
        #[serde(default)]
        tags: Tags,
        /// Its description.
        #[serde(default)]
        description: String,
    },
    /// From now on a state is never reached, until [`Event::Unstick`].
    Stick {
        /// Which state.
        step: Step,
        /// Whose; without one, of all ENIs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eni: Option<String>,
    },
    /// What was stuck goes on, at once.
    Unstick {
        /// Which state.
        step: Step,
        /// Whose; without one, of all ENIs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eni: Option<String>,
    },
    /// An instance is stopped: its ENIs stay with it.
    StopInstance {
        /// Which.
        instance: String,
    },
    /// A stopped instance is started again.
    StartInstance {
        /// Which.
        instance: String,
    },
    /// An instance is terminated.
    TerminateInstance {
        /// Which.
        instance: String,
    },
    /// The time of day that EC2 and IMDS show jumps. The world's own time goes on as it did.
    StepClock {
        /// By how much.
        #[serde(with = "text")]
        by: Duration,
        /// Whether it jumps back.
        #[serde(default)]
        back: bool,
    },
    /// Knobs are turned.
    Configure(Box<Knobs>),
    /// Requests to EC2 begin to go wrong.
    Inject(Fault),
    /// Requests for metadata begin to go wrong.
    InjectImds(ImdsFault),
    /// All faults end.
    ClearFaults,
    /// Callers may no longer do this.
    Deny(Deny),
    /// What was denied with this pattern is allowed again; `*` is all.
    Allow(String),
}

impl Event {
    /// Its name in a file, such as `steal-address`.
    #[must_use]
    pub fn name(&self) -> String {
        let debug = format!("{self:?}");
        let name = debug.split(|c: char| !c.is_ascii_alphanumeric()).next();
        let mut out = String::new();
        for c in name.unwrap_or_default().chars() {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push('-');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    }
}

/// Which addresses of a subnet others take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fragments {
    /// One free address of each /28: the most addresses free with no prefix to be had.
    #[default]
    OneInEachPrefix,
    /// Every other address that is free.
    EveryOther,
}

/// A state that an ENI reaches in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// From `pending` to `available`.
    Create,
    /// From `attaching` to `attached`.
    Attach,
    /// From `detaching` to gone.
    Detach,
}

/// The knobs of [`WorldConfig`](crate::WorldConfig) that can be turned while a world runs. What is not there stays.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct Knobs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latencies: Option<Latencies>,
    #[serde(with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub describe_lag: Option<Duration>,
    #[serde(with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub imds_lag: Option<Duration>,
    #[serde(with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub link_lag: Option<Duration>,
    #[serde(with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub write_lag: Option<Duration>,
    #[serde(with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub imds_partial: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_go_backwards: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vague_subnet_errors: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eni_quota: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_pages: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttling: Option<Throttling>,
}

/// An event and when it happens.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scheduled {
    /// When.
    pub when: Moment,
    /// What.
    pub event: Event,
}

/// When an event happens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Moment {
    /// At a time of the world; at once when that has passed.
    At(SimTime),
    /// Just before a request is carried out: its reply shows what happened.
    Before(NthCall),
    /// When a request has been carried out, before its caller hears of it: its reply is out of date.
    After(NthCall),
}

/// One of the requests to come.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NthCall {
    /// The action; `*` and `?` are wildcards.
    pub action: String,
    /// Which, counted from when the event was scheduled; 1 is the next. Those that faults keep from EC2, and those
    /// that EC2 refuses, count too.
    #[serde(default = "one")]
    pub nth: u32,
    /// How much later.
    #[serde(default, with = "text", skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
}

impl NthCall {
    /// The nth from now; 1 is the next.
    #[must_use]
    pub fn new(action: &str, nth: u32) -> NthCall {
        NthCall {
            action: action.to_owned(),
            nth,
            delay: Duration::ZERO,
        }
    }
}

fn one() -> u32 {
    1
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Happened {
    /// In words.
    pub what: String,
    /// The ENIs that it made.
    pub made: Vec<EniId>,
}

/// Why an event can't happen. Then nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Nothing has this name.
    #[error("no {kind} has the id or the Name tag {name:?}")]
    NoSuch {
        /// Such as `ENI`.
        kind: &'static str,
        /// As it was written.
        name: String,
    },
    /// Several things have this name.
    #[error("{count} {kind}s have the Name tag {name:?}: name one by its id")]
    Ambiguous {
        /// Such as `ENI`.
        kind: &'static str,
        /// As it was written.
        name: String,
        /// How many.
        count: usize,
    },
    /// It makes no sense for what is named.
    #[error("{0}")]
    Impossible(String),
    /// EC2 itself would refuse it.
    #[error("EC2 refuses it: {0}")]
    Refused(#[from] crate::error::Ec2Error),
}
