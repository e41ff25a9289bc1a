//! An ENI, and what is in its slots.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::index::{FreeKey, FreeSlots};
use super::{Claim, Tally};
use crate::retry::Setback;
use crate::{CallId, EniLink, Place, SecurityGroupId, SlotKind, Time};

/// One ENI of this instance, or one that only the books name.
#[derive(Clone, Debug)]
pub(crate) struct Eni {
    pub(crate) place: Place,
    /// None when only the books name it.
    pub(crate) link: Option<EniLink>,
    pub(crate) life: Life,
    /// Since when `life` is so.
    pub(crate) since: Time,
    /// Its security groups, as EC2 last told them; none while they are not known.
    pub(crate) groups: BTreeSet<SecurityGroupId>,
    /// When a reply to a call of ours last changed it.
    pub(crate) changed: Option<Time>,
    /// A change of it has an unknown outcome; a Describe with this id or a later one settles it.
    pub(crate) unsettled: Option<CallId>,
    /// It is ours to use, and set up, but no pod gets an address of it: what it holds is to go back.
    pub(crate) kept_from_pods: bool,
    /// What failed on the node, and when it is tried again.
    pub(crate) trouble: Option<Setback<String>>,
    pub(super) slots: BTreeMap<IpNet, Slot>,
    pub(super) tally: Tally,
    pub(super) free: FreeSlots,
}

/// Where an ENI is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The books name it; EC2 does not, or not yet.
    Absent,
    /// It exists, and is to be attached.
    Attaching,
    /// Attached. `asked`: its set-up is under way.
    SettingUp { asked: bool },
    /// Its link is configured.
    Ready,
    /// It is to go: nobody gets an address of it.
    Draining,
    /// Not ours to use.
    Unmanaged,
}

/// What becomes of an ENI's addresses that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Pods get them now.
    Give,
    /// Pods will get them.
    Prepare,
    /// No pod gets them.
    GoBack,
}

/// What one attachment slot holds: an address, or a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) holding: Holding,
    pub(crate) routing: Routing,
    /// It is to be given back.
    pub(crate) leaving: bool,
    /// Since when it is there; for one without a claim, since when it is free.
    pub(crate) since: Time,
    /// How many of its addresses somebody has a claim on.
    pub(super) claims: Claims,
    /// Of a /28: the addresses that somebody had, and when they came free. The others were never used.
    pub(super) freed: BTreeMap<IpAddr, Time>,
    /// Of a /80: how many of its addresses were given out, one after the other. There are 2^48.
    pub(super) given: u64,
    /// What it counts as now.
    pub(super) tally: Tally,
    /// Where it is among what is free.
    pub(super) free_key: Option<FreeKey>,
}

/// How many claims of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) owned: u64,
    pub(super) cooling: u64,
    pub(super) strays: u64,
}

impl Claims {
    pub(super) fn all(self) -> u64 {
        self.owned + self.cooling + self.strays
    }

    pub(super) fn of(&mut self, claim: &Claim) -> &mut u64 {
        match claim {
            Claim::Owned(_) => &mut self.owned,
            Claim::Cooling { .. } => &mut self.cooling,
            Claim::Stray => &mut self.strays,
        }
    }
}

/// EC2's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// Only the books name it; EC2 has not been asked yet.
    Unconfirmed,
    /// The ENI holds it.
    Held,
    /// The ENI does not hold it (any more).
    Lost,
}

/// The node's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routing {
    None,
    Asked,
    Done,
    /// To be undone, and asked for.
    Undoing,
}

impl Eni {
    pub(crate) fn new(place: Place, link: Option<EniLink>, life: Life, now: Time) -> Self {
        Self {
            place,
            link,
            life,
            since: now,
            groups: BTreeSet::new(),
            changed: None,
            unsettled: None,
            kept_from_pods: false,
            trouble: None,
            slots: BTreeMap::new(),
            tally: Tally::default(),
            free: FreeSlots::default(),
        }
    }

    pub(crate) fn enter(&mut self, life: Life, now: Time) {
        if self.life != life {
            self.life = life;
            self.since = now;
        }
    }

    /// Whether EC2 says that it is on this instance (or on its way) and it is ours to use.
    pub(crate) fn is_ours(&self) -> bool {
        match self.life {
            Life::Attaching | Life::SettingUp { .. } | Life::Ready => true,
            Life::Absent | Life::Draining | Life::Unmanaged => false,
        }
    }

    /// Whether a route of it is being made or undone: one that came after the ENI has gone would stay.
    pub(crate) fn is_being_routed(&self) -> bool {
        let mut slots = self.slots.values();
        slots.any(|slot| matches!(slot.routing, Routing::Asked | Routing::Undoing))
    }

    /// Whether what it holds will serve pods without anything being mended first.
    pub(crate) fn is_sound(&self) -> bool {
        self.is_ours() && self.trouble.is_none()
    }

    /// Whether there is more to know of it than its counts say.
    pub(super) fn is_odd(&self) -> bool {
        self.life != Life::Ready || self.trouble.is_some() || self.unsettled.is_some()
    }

    /// Whether pods that have its addresses can use them.
    pub(crate) fn is_up(&self) -> bool {
        self.life == Life::Ready
    }

    /// What becomes of addresses that nobody has.
    pub(super) fn use_of(&self) -> Use {
        match self.life {
            _ if self.kept_from_pods => Use::GoBack,
            Life::Ready => Use::Give,
            _ => Use::Prepare,
        }
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (&IpNet, &Slot)> {
        self.slots.iter()
    }

    pub(crate) fn slot(&self, net: &IpNet) -> Option<&Slot> {
        self.slots.get(net)
    }

    /// Counts of what it holds.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Slot {
    pub(super) fn new(holding: Holding, since: Time) -> Self {
        Self {
            holding,
            routing: Routing::None,
            leaving: false,
            since,
            claims: Claims::default(),
            freed: BTreeMap::new(),
            given: 0,
            tally: Tally::default(),
            free_key: None,
        }
    }

    /// Whether nobody has a claim on any of its addresses.
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.all() == 0
    }

    pub(super) fn note_freed(&mut self, net: &IpNet, ip: IpAddr, now: Time) {
        self.since = now;
        if SlotKind::of(net) == SlotKind::Prefix {
            self.freed.insert(ip, now);
        }
    }

    /// The address that it gives out next: the lowest that nobody had, or else the one that is free for the longest
    /// time.
    pub(super) fn next_free(
        &self,
        net: &IpNet,
        claimed: impl Fn(&IpAddr) -> bool,
    ) -> Option<IpAddr> {
        match net {
            IpNet::V4(net) => {
                let hosts = net.network().to_bits()..=net.broadcast().to_bits();
                hosts
                    .map(|bits| IpAddr::V4(bits.into()))
                    .filter(|ip| !claimed(ip))
                    // `None` is before every time: never used.
                    .min_by_key(|ip| (self.freed.get(ip), *ip))
            }
            IpNet::V6(net) => {
                let from = net.network().to_bits().checked_add(self.given.into())?;
                (from..=net.broadcast().to_bits())
                    .map(|bits| IpAddr::V6(bits.into()))
                    .find(|ip| !claimed(ip))
            }
        }
    }

    pub(super) fn note_given(&mut self, net: &IpNet, ip: &IpAddr) {
        if let (IpNet::V6(net), IpAddr::V6(ip)) = (net, ip) {
            let nth = ip.to_bits().saturating_sub(net.network().to_bits());
            self.given = self
                .given
                .max(u64::try_from(nth).unwrap_or(u64::MAX).saturating_add(1));
        }
    }
}
