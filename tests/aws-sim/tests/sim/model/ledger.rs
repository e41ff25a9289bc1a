//! What the model knows, from the replies alone: who holds which address, in a subnet of 64 of IPv4 and a /64 of IPv6.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{addresses, all};

/// A /26: 64 addresses of which EC2 keeps 5, and two blocks without any of those.
pub(super) const SIZE: usize = 64;
/// Of an m5.large, of each family.
pub(super) const SLOTS: usize = 10;
/// Of an ENI that is on no instance.
const LOOSE_SLOTS: usize = 50;
/// Of an m5.large.
pub(super) const ENIS: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) primary: String,
    pub(super) secondary: Vec<String>,
    pub(super) prefixes: Vec<String>,
    pub(super) ipv6: Vec<String>,
    pub(super) ipv6_prefixes: Vec<String>,
    pub(super) place: Option<Place>,
}

/// Where an ENI is attached.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) attachment: String,
    pub(super) instance: String,
    pub(super) index: u32,
    /// DeleteOnTermination.
    pub(super) goes: bool,
    /// When it is gone, in milliseconds, once it is being detached.
    pub(super) until: Option<u64>,
}

impl Held {
    /// From an element that shows the ENI.
    pub(super) fn read(body: &str) -> Held {
        let mut own = addresses(body);
        Held {
            primary: own.remove(0),
            secondary: own,
            prefixes: all(body, "ipv4Prefix"),
            ipv6: all(body, "ipv6Address"),
            ipv6_prefixes: all(body, "ipv6Prefix"),
            place: None,
        }
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        [vec![self.primary.clone()], self.secondary.clone()].concat()
    }

    pub(super) fn slots(&self) -> usize {
        1 + self.secondary.len() + self.prefixes.len()
    }

    pub(super) fn ipv6_slots(&self) -> usize {
        self.ipv6.len() + self.ipv6_prefixes.len()
    }

    pub(super) fn limit(&self) -> usize {
        match self.place {
            Some(_) => SLOTS,
            None => LOOSE_SLOTS,
        }
    }

    fn hosts(&self) -> impl Iterator<Item = u8> + '_ {
        let single = self.secondary.iter().chain([&self.primary]);
        let blocks = self.prefixes.iter().map(|prefix| block(prefix));
        single
            .map(|address| host(address))
            .chain(blocks.flat_map(|first| first..first + 16))
    }
}

pub(super) fn host(address: &str) -> u8 {
    address.parse::<Ipv4Addr>().unwrap().octets()[3]
}

/// The first host of a prefix, which is aligned and has 16.
pub(super) fn block(prefix: &str) -> u8 {
    let prefix: Ipv4Net = prefix.parse().unwrap();
    assert_eq!((prefix.prefix_len(), prefix.trunc()), (28, prefix));
    prefix.network().octets()[3]
}

/// A subnet CIDR reservation: its first host, how many it has, and whether it is for prefixes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    pub(super) first: u8,
    pub(super) size: u8,
    pub(super) for_prefixes: bool,
}

impl Reserved {
    pub(super) fn contains(&self, host: u8) -> bool {
        (self.first..self.first + self.size).contains(&host)
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) enis: BTreeMap<String, Held>,
    pub(super) reservations: BTreeMap<String, Reserved>,
}

impl Ledger {
    /// The hosts that someone has. No address is on two ENIs, and none is EC2's own.
    pub(super) fn used(&self) -> BTreeSet<u8> {
        let mut used = BTreeSet::new();
        for host in self.enis.values().flat_map(Held::hosts) {
            assert!(used.insert(host), "10.0.7.{host} is on two ENIs");
            assert!((4..63).contains(&host), "10.0.7.{host} is EC2's own");
        }
        used
    }

    /// The same for IPv6: single addresses, and prefixes, none of which has another's address.
    pub(super) fn used_ipv6(&self) -> (BTreeSet<Ipv6Addr>, BTreeSet<Ipv6Net>) {
        let (mut addresses, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
        for held in self.enis.values() {
            for prefix in &held.ipv6_prefixes {
                let prefix: Ipv6Net = prefix.parse().unwrap();
                assert_eq!((prefix.prefix_len(), prefix.trunc()), (80, prefix));
                assert!(prefixes.insert(prefix), "{prefix} is on two ENIs");
            }
        }
        for address in self.enis.values().flat_map(|held| &held.ipv6) {
            let address: Ipv6Addr = address.parse().unwrap();
            assert!(addresses.insert(address), "{address} is on two ENIs");
            let prefix = Ipv6Net::new(address, 80).unwrap().trunc();
            assert!(!prefixes.contains(&prefix), "{address} is in a prefix too");
        }
        (addresses, prefixes)
    }

    pub(super) fn free(&self) -> usize {
        SIZE - 5 - self.used().len()
    }

    fn is_reserved(&self, host: u8) -> bool {
        self.reservations.values().any(|part| part.contains(host))
    }

    /// Hosts that EC2 may choose for an address.
    pub(super) fn open(&self) -> BTreeSet<u8> {
        let used = self.used();
        (4..63)
            .filter(|host| !used.contains(host) && !self.is_reserved(*host))
            .collect()
    }

    /// Blocks that EC2 may choose for a prefix: first those of reservations for prefixes, then the others.
    pub(super) fn free_blocks(&self) -> (BTreeSet<u8>, BTreeSet<u8>) {
        let (used, open) = (self.used(), self.open());
        let reserved = |first: u8| {
            let mut parts = self.reservations.values();
            parts.any(|part| part.for_prefixes && part.contains(first) && part.contains(first + 15))
        };
        let free = |first: &u8| (*first..first + 16).all(|host| !used.contains(&host));
        let blocks = || [16_u8, 32].into_iter().filter(free);
        (
            blocks().filter(|first| reserved(*first)).collect(),
            blocks()
                .filter(|first| (*first..first + 16).all(|host| open.contains(&host)))
                .collect(),
        )
    }

    /// The instances' ENIs, and when those that are being detached are gone.
    pub(super) fn on(&self, instance: &str) -> Vec<&Place> {
        let places = self.enis.values().filter_map(|held| held.place.as_ref());
        places.filter(|place| place.instance == instance).collect()
    }
}
