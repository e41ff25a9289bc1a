//! Why a sandbox waits, as data. What people are told of it, in refusals too, is made of this.

use std::fmt;

use super::{Phase, Spot, State};
use crate::pool::{Eni, Holding, Life, Routing};
use crate::retry::Setback;
use crate::{Call, CallError, EniId, HeldBack, Mode, Sandbox, Time};

/// Why an ADD is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Since when the sandbox waits.
    pub since: Time,
    /// When it is refused at the latest.
    pub until: Time,
    /// What it waits for, what weighs most first.
    pub waits_for: Vec<WaitsFor>,
}

/// One thing that a sandbox waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// ipamd learns from EC2 what the node holds.
    Start(Option<Retry<CallError>>),
    /// The books are written: nothing is given out, and no ENI made, that they do not have.
    Books(Option<Retry<String>>),
    /// The node's network is prepared.
    Node(Option<Retry<String>>),
    /// The link of an ENI is set up.
    SetUp(EniId, Option<Retry<String>>),
    /// What an ENI holds is routed.
    Routes(EniId, Option<Retry<String>>),
    /// A call to EC2 is under way, or follows once the books have it.
    Call {
        /// EC2's action.
        action: &'static str,
        /// The ENI that it is about; none for one that is yet to be created.
        eni: Option<EniId>,
        /// Since when.
        since: Time,
    },
    /// EC2 has throttled or refused what would help, or could not be reached.
    Ec2(Retry<CallError>),
    /// EC2 is not asked.
    Frozen {
        /// When it is tried; none when a person has frozen the pool.
        until: Option<Time>,
        /// What froze it.
        error: Option<CallError>,
    },
    /// The node keeps to its share of what the account may ask of EC2.
    Governor(HeldBack),
    /// An address has cooled.
    Cooling {
        /// The first one.
        until: Time,
    },
}

/// What failed, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry<E> {
    /// In EC2's or the kernel's own words.
    pub error: E,
    /// Not before. When that has passed, it is under way or waits for something else.
    pub at: Time,
}

impl Why {
    /// What time alone will change first, and when. None when an answer is awaited, of EC2, the kernel or the disk.
    #[must_use]
    pub fn next(&self, now: Time) -> Option<(&WaitsFor, Time)> {
        let timed = self.waits_for.iter().filter_map(|it| Some((it, it.at()?)));
        timed.filter(|(_, at)| *at > now).min_by_key(|(_, at)| *at)
    }
}

impl WaitsFor {
    /// When time alone changes it.
    fn at(&self) -> Option<Time> {
        match self {
            Self::Start(retry) => retry.as_ref().map(|retry| retry.at),
            Self::Books(retry) | Self::Node(retry) => retry.as_ref().map(|retry| retry.at),
            Self::SetUp(_, retry) | Self::Routes(_, retry) => retry.as_ref().map(|retry| retry.at),
            Self::Call { .. } => None,
            Self::Ec2(retry) => Some(retry.at),
            Self::Governor(held) => Some(held.until),
            Self::Frozen { until, .. } => *until,
            Self::Cooling { until } => Some(*until),
        }
    }
}

/// For people, as what comes after "waits for".
impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = |f: &mut fmt::Formatter<'_>, retry: &Option<Retry<String>>| match retry {
            Some(retry) => write!(f, ", which failed: {}", retry.error),
            None => Ok(()),
        };
        match self {
            Self::Start(None) => f.write_str("EC2's word on what this node holds"),
            Self::Start(Some(retry)) => {
                write!(
                    f,
                    "EC2's word on what this node holds, after {}",
                    retry.error
                )
            }
            Self::Books(retry) => f
                .write_str("the books on disk")
                .and_then(|()| failed(f, retry)),
            Self::Node(retry) => f
                .write_str("the node's network")
                .and_then(|()| failed(f, retry)),
            Self::SetUp(eni, retry) => {
                write!(f, "the link of {eni}").and_then(|()| failed(f, retry))
            }
            Self::Routes(eni, retry) => {
                write!(f, "the routes of {eni}").and_then(|()| failed(f, retry))
            }
            Self::Call {
                action,
                eni: Some(eni),
                ..
            } => write!(f, "{action} of {eni}"),
            Self::Call { action, .. } => f.write_str(action),
            Self::Ec2(retry) => write!(f, "another try at EC2, after {}", retry.error),
            Self::Governor(held) => held.fmt(f),
            Self::Frozen { .. } => f.write_str("the end of mode frozen"),
            Self::Cooling { .. } => f.write_str("an address that cools"),
        }
    }
}

impl<E: Clone> From<&Setback<E>> for Retry<E> {
    fn from(setback: &Setback<E>) -> Self {
        Self {
            error: setback.error.clone(),
            at: setback.until,
        }
    }
}

impl State {
    /// Why the ADD of this sandbox is not answered; none when it has none that waits.
    #[must_use]
    pub fn why(&self, sandbox: &Sandbox) -> Option<Why> {
        let adds = || {
            self.adds
                .iter()
                .filter(|add| add.request.sandbox == *sandbox)
        };
        Some(Why {
            since: adds().map(|add| add.since).min()?,
            until: adds().map(|add| add.request.deadline).max()?,
            waits_for: self.waits_for(sandbox),
        })
    }

    pub(super) fn waits_for(&self, sandbox: &Sandbox) -> Vec<WaitsFor> {
        if self.phase != Phase::Running {
            let held = self.governor.held(self.now).map(WaitsFor::Governor);
            return std::iter::once(self.waits_for_start())
                .chain(held)
                .collect();
        }
        if self.pool.owner(sandbox).is_some() {
            self.owner_waits_for(sandbox)
        } else {
            self.waiter_waits_for()
        }
    }

    pub(super) fn waits_for_start(&self) -> WaitsFor {
        WaitsFor::Start(self.describe_setback.as_ref().map(Retry::from))
    }

    pub(super) fn waits_for_books(&self) -> WaitsFor {
        WaitsFor::Books(self.disk_setback.as_ref().map(Retry::from))
    }

    /// What is wrong on the node with ENIs.
    pub(super) fn troubled_enis(&self) -> impl Iterator<Item = WaitsFor> {
        let troubled = self.pool.enis().filter(|(_, eni)| eni.trouble.is_some());
        troubled.map(|(id, eni)| waits_for_eni(id, eni))
    }

    /// An address is its own: what is missing before it can be told so.
    fn owner_waits_for(&self, sandbox: &Sandbox) -> Vec<WaitsFor> {
        let mut waits_for = Vec::new();
        let owner = self.pool.owner(sandbox);
        if owner.is_some_and(|owner| owner.version > self.written) {
            waits_for.push(self.waits_for_books());
        }
        for ip in owner.iter().flat_map(|owner| owner.addresses()) {
            let claimed = self.pool.claim(ip);
            let eni = claimed.and_then(|claimed| self.pool.eni_of(&claimed.slot));
            let (Some(claimed), Some((id, eni))) = (claimed, eni) else {
                continue;
            };
            let slot = eni.slot(&claimed.slot);
            let routed = slot.is_some_and(|slot| slot.routing == Routing::Done);
            if !eni.is_up() || !routed {
                waits_for.push(waits_for_eni(id, eni));
            }
        }
        if !self.preparation.done {
            waits_for.push(self.waits_for_node());
        }
        waits_for
    }

    fn waits_for_node(&self) -> WaitsFor {
        WaitsFor::Node(self.preparation.setback.as_ref().map(Retry::from))
    }

    /// There is no address for it yet: what may bring one.
    fn waiter_waits_for(&self) -> Vec<WaitsFor> {
        let mut setbacks = self.growth_setbacks();
        setbacks.sort_by_key(|setback| self.last_error.as_ref() != Some(&setback.error));
        let last = usize::from(
            setbacks.first().map(|setback| &setback.error) == self.last_error.as_ref()
                && self.last_error.is_some(),
        );
        let (last, others) = setbacks.split_at(last);
        let mut waits_for: Vec<WaitsFor> = Vec::new();
        if self.disk_setback.is_some() {
            waits_for.push(self.waits_for_books());
        }
        let ec2 = |setback: &&Setback<CallError>| WaitsFor::Ec2(Retry::from(*setback));
        waits_for.extend(last.iter().map(ec2));
        if self.mode() == Mode::Frozen {
            waits_for.push(self.waits_for_thaw());
        }
        waits_for.extend(self.troubled_enis());
        let held = self.governor.held(self.now);
        let held = held.filter(|held| !gives_back(held.action));
        waits_for.extend(held.map(WaitsFor::Governor));
        let brings = |call: &Call| !call.sweeps() && !matches!(call, Call::SetGroups { .. });
        let calls = self.pending_calls(brings).into_iter();
        let calls = calls.filter(|call| !gives_back(call.action));
        waits_for.extend(calls.map(|call| WaitsFor::Call {
            action: call.action,
            eni: call.eni,
            since: call.since,
        }));
        let enis = self.pool.enis().filter(|(_, eni)| eni.trouble.is_none());
        let preparing = enis.filter(|(_, eni)| match eni.life {
            Life::SettingUp { .. } => true,
            Life::Ready => eni.slots().any(|(_, slot)| {
                slot.holding == Holding::Held && !slot.leaving && slot.routing != Routing::Done
            }),
            Life::Absent | Life::Attaching | Life::Draining | Life::Unmanaged => false,
        });
        waits_for.extend(preparing.map(|(id, eni)| waits_for_eni(id, eni)));
        if !self.preparation.done {
            waits_for.push(self.waits_for_node());
        }
        waits_for.extend(others.iter().map(ec2));
        let until = self.pool.next_cooled();
        waits_for.extend(until.map(|until| WaitsFor::Cooling { until }));
        waits_for
    }

    pub(super) fn waits_for_thaw(&self) -> WaitsFor {
        let by_itself = self.set_mode.is_none();
        WaitsFor::Frozen {
            until: self.troubles.next_due(self.set_mode),
            error: self.last_error.clone().filter(|_| by_itself),
        }
    }

    /// What EC2 did not do of what would help who waits, and is not asked again yet.
    fn growth_setbacks(&self) -> Vec<&Setback<CallError>> {
        let intents = self.intents.iter().filter_map(|it| it.setback.as_ref());
        let spots = self
            .setbacks
            .iter()
            .filter(|(spot, _)| !matches!(spot, Spot::Unassign(_) | Spot::Groups(_)))
            .map(|(_, setback)| setback);
        let all = spots.chain(intents).chain(&self.describe_setback);
        all.filter(|setback| setback.until > self.now).collect()
    }
}

/// Whether it brings nobody an address.
fn gives_back(action: &str) -> bool {
    matches!(
        action,
        "UnassignPrivateIpAddresses"
            | "UnassignIpv6Addresses"
            | "DetachNetworkInterface"
            | "DeleteNetworkInterface"
    )
}

fn waits_for_eni(id: &EniId, eni: &Eni) -> WaitsFor {
    let failed = eni.trouble.as_ref().map(Retry::from);
    match eni.life {
        Life::Ready => WaitsFor::Routes(id.clone(), failed),
        _ => WaitsFor::SetUp(id.clone(), failed),
    }
}
