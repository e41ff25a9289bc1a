//! What the node holds: ENIs, their addresses, and who has a claim on each.
//!
//! Three parties have a word on an address, and none speaks for another: EC2 says whether the ENI holds it
//! ([`Holding`]), the node whether it is routed ([`Routing`]), the books whose it is ([`Claim`]). What people
//! call its state follows from the three ([`Address::state`]); it is kept nowhere.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::retry::Setback;
use crate::{
    AddressState, BooksVersion, CallId, EniFacts, EniId, Mac, Pod, Sandbox, SubnetId, Time,
};

/// One ENI of this instance, or one that only the books name.
#[derive(Clone, Debug)]
pub(crate) struct Eni {
    /// 0 is the primary.
    pub(crate) device_index: u32,
    /// None when only the books name it.
    pub(crate) link: Option<Link>,
    pub(crate) life: Life,
    /// Since when `life` is so.
    pub(crate) since: Time,
    /// When a reply to a call of ours last changed it.
    pub(crate) changed: Option<Time>,
    /// A change of it has an unknown outcome; a Describe with this id or a later one settles it.
    pub(crate) unsettled: Option<CallId>,
    /// What failed on the node, and when it is tried again.
    pub(crate) trouble: Option<Setback<String>>,
    /// Its pod addresses.
    pub(crate) addresses: BTreeMap<Ipv4Addr, Address>,
}

/// What EC2 tells once and for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) mac: Mac,
    pub(crate) subnet_id: SubnetId,
    pub(crate) subnet_cidr: Ipv4Net,
    pub(crate) primary_address: Ipv4Addr,
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
    /// Not ours to use.
    Unmanaged,
}

/// One pod address.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) holding: Holding,
    pub(crate) routing: Routing,
    pub(crate) claim: Claim,
    /// Since when its state is what it is.
    pub(crate) since: Time,
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
}

/// The books' word.
#[derive(Clone, Debug)]
pub(crate) enum Claim {
    None,
    Owned(Box<Owner>),
    Cooling {
        last: Sandbox,
        pod: Pod,
        until: Time,
    },
    /// A pod's link has it, and the books do not know whose: they were lost. `until`: the link has gone, and it
    /// cools. The books need not have it; the next start finds it in the kernel again.
    Stray {
        until: Option<Time>,
    },
}

/// Who owns an address.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) sandbox: Sandbox,
    pub(crate) pod: Pod,
    pub(crate) network: String,
    pub(crate) netns: String,
    /// The books have it from this version on.
    pub(crate) version: BooksVersion,
    /// When a plugin was told, or may have been told at the latest. What nobody was told can be undone.
    pub(crate) told: Option<Time>,
}

impl From<&EniFacts> for Link {
    fn from(facts: &EniFacts) -> Self {
        Self {
            mac: facts.mac,
            subnet_id: facts.subnet_id.clone(),
            subnet_cidr: facts.subnet_cidr,
            primary_address: facts.primary_address,
        }
    }
}

impl Eni {
    pub(crate) fn new(device_index: u32, link: Option<Link>, life: Life, now: Time) -> Self {
        Self {
            device_index,
            link,
            life,
            since: now,
            changed: None,
            unsettled: None,
            trouble: None,
            addresses: BTreeMap::new(),
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
            Life::Absent | Life::Unmanaged => false,
        }
    }

    /// Whether what it holds will serve pods without anything being mended first.
    pub(crate) fn is_sound(&self) -> bool {
        self.is_ours() && self.trouble.is_none()
    }

    pub(crate) fn held(&self) -> u32 {
        count(
            self.addresses
                .values()
                .filter(|address| address.holding == Holding::Held),
        )
    }

    pub(crate) fn owned(&self) -> u32 {
        count(
            self.addresses
                .values()
                .filter(|address| matches!(address.claim, Claim::Owned(_))),
        )
    }

    /// The address that it would give out next: the one that is free for the longest time, so that late
    /// packets, caches and connections of its last holder have gone; the lowest of equals.
    pub(crate) fn next_free(&self) -> Option<Ipv4Addr> {
        if self.life != Life::Ready {
            return None;
        }
        self.addresses
            .iter()
            .filter(|(_, address)| address.state() == AddressState::Free)
            .min_by_key(|(ip, address)| (address.since, **ip))
            .map(|(ip, _)| *ip)
    }
}

impl Address {
    pub(crate) fn new(holding: Holding, claim: Claim, since: Time) -> Self {
        Self {
            holding,
            routing: Routing::None,
            claim,
            since,
        }
    }

    pub(crate) fn state(&self) -> AddressState {
        match (self.holding, &self.claim, self.routing) {
            (Holding::Lost, ..) => AddressState::Quarantined,
            (_, Claim::Owned(_), _) => AddressState::Owned,
            (_, Claim::Stray { .. }, _) => AddressState::Quarantined,
            (_, Claim::Cooling { .. }, _) => AddressState::Cooling,
            (Holding::Held, Claim::None, Routing::Done) => AddressState::Free,
            (_, Claim::None, _) => AddressState::Preparing,
        }
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        match &self.claim {
            Claim::Owned(owner) => Some(owner),
            Claim::None | Claim::Cooling { .. } | Claim::Stray { .. } => None,
        }
    }

    /// When its claim ends by itself.
    pub(crate) fn free_at(&self) -> Option<Time> {
        match self.claim {
            Claim::Cooling { until, .. } => Some(until),
            Claim::Stray { until } => until,
            Claim::None | Claim::Owned(_) => None,
        }
    }
}

/// Packs: the ENI with the most owners first, so that the others can drain; the lowest device index of equals.
pub(crate) fn next_free(enis: &BTreeMap<EniId, Eni>) -> Option<(EniId, Ipv4Addr)> {
    enis.iter()
        .filter_map(|(id, eni)| Some((id, eni, eni.next_free()?)))
        .max_by_key(|(_, eni, _)| (eni.owned(), std::cmp::Reverse(eni.device_index)))
        .map(|(id, _, ip)| (id.clone(), ip))
}

/// Saturates: no node has so many of anything.
pub(crate) fn count<I: IntoIterator>(items: I) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}
