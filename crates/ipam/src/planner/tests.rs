//! Plans for worlds that are built by hand, played, or random.

mod demand;
mod giving_back;
mod growth;
mod properties;
mod room;
mod sim;
mod tables;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::{Dial, Families, InstanceLimits, Settings, Subnets, Sweep, Warm, WarmTargets};

/// An m5.large: three ENIs of nine addresses for pods.
fn m5_large() -> InstanceLimits {
    InstanceLimits {
        enis_per_card: vec![3],
        ipv4_slots_per_eni: 10,
        ipv6_slots_per_eni: 10,
        prefixes: true,
    }
}

/// IPv4 in single addresses.
fn settings(warm: Warm) -> Settings {
    Settings {
        families: Families::V4,
        delegation: false,
        warm,
        max_enis_per_card: None,
        all_cards: false,
        max_pods: None,
        cooldown: Duration::from_secs(30),
        subnets: Subnets::default(),
        cluster_size: 0,
        sweep: Sweep::Off,
    }
}

/// IPv4 in prefixes.
fn delegated(warm: Warm) -> Settings {
    Settings {
        delegation: true,
        ..settings(warm)
    }
}

fn ip(warm: u32, minimum: u32) -> Warm {
    Warm::Targets(WarmTargets {
        ip: Some(warm),
        minimum_ip: Some(minimum),
        ..WarmTargets::default()
    })
}

fn enis(warm: u32) -> Warm {
    Warm::Targets(WarmTargets {
        eni: Some(warm),
        ..WarmTargets::default()
    })
}

fn prefixes(warm: u32) -> Warm {
    Warm::Targets(WarmTargets {
        prefix: Some(warm),
        ..WarmTargets::default()
    })
}

/// Nothing is kept ready: what is asked for is what who waits needs.
fn nothing_warm() -> Warm {
    ip(0, 1)
}

fn id(place: Place) -> EniId {
    match place.card {
        0 => EniId::new(format!("eni-{}", place.device_index)),
        card => EniId::new(format!("eni-{card}-{}", place.device_index)),
    }
}

fn at(device_index: u32) -> Place {
    Place {
        card: 0,
        device_index,
    }
}

/// An ENI with room for so many slots of each family, with nothing in them.
fn eni(device_index: u32, room: u32) -> EniStock {
    EniStock {
        eni: id(at(device_index)),
        place: at(device_index),
        ipv4_room: room,
        ipv6_room: room,
        addresses: Gate::Open,
        prefixes: Gate::Open,
        ipv6_prefixes: Gate::Open,
        ipv4: Stock::default(),
        ipv6: Stock::default(),
        empty_slots: 0,
        may_go: device_index > 0,
    }
}

impl EniStock {
    /// With addresses in slots of their own.
    fn holding(mut self, owned: u32, cooling: u32, free: u32) -> Self {
        self.ipv4.supply += free;
        self.ipv4.addresses += owned + cooling + free;
        self.ipv4.owned += owned;
        self.ipv4.cooling += cooling;
        self.empty_slots += free;
        self
    }

    /// With a /28 of which so many are owned.
    fn with_prefix(mut self, owned: u32) -> Self {
        self.ipv4.supply += 16 - owned;
        self.ipv4.addresses += 16;
        self.ipv4.owned += owned;
        self.ipv4.prefixes += 1;
        if owned == 0 {
            self.ipv4.empty_prefixes += 1;
            self.empty_slots += 1;
        }
        self
    }

    fn with_ipv6_prefix(mut self, owned: u32) -> Self {
        self.ipv6 = Stock {
            supply: u32::MAX,
            addresses: u32::MAX,
            owned,
            prefixes: 1,
            empty_prefixes: u32::from(owned == 0),
            ..self.ipv6
        };
        self
    }

    fn gates(mut self, gate: Gate) -> Self {
        (self.addresses, self.prefixes, self.ipv6_prefixes) = (gate, gate, gate);
        self
    }
}

fn subnet(name: &str) -> SubnetGates {
    SubnetGates {
        subnet: SubnetId::new(name),
        groups: vec![SecurityGroupId::new("sg-1")],
        addresses: Gate::Open,
        prefixes: Gate::Open,
        ipv6_prefixes: Gate::Open,
    }
}

/// A node with these ENIs and one subnet, all in good order.
fn node(enis: Vec<EniStock>) -> Facts {
    let mut facts = Facts {
        subnets: vec![subnet("subnet-1")],
        enis_per_card: BTreeMap::from([(0, u32::try_from(enis.len()).unwrap())]),
        taken: enis.iter().map(|eni| eni.place).collect(),
        ..Facts::default()
    };
    for eni in &enis {
        facts.ipv4 = facts.ipv4.plus(&eni.ipv4);
        facts.ipv6 = facts.ipv6.plus(&eni.ipv6);
    }
    facts.enis = enis;
    facts
}

impl Stock {
    fn plus(self, eni: &Self) -> Self {
        Self {
            supply: self.supply.saturating_add(eni.supply),
            addresses: self.addresses.saturating_add(eni.addresses),
            owned: self.owned + eni.owned,
            cooling: self.cooling + eni.cooling,
            prefixes: self.prefixes + eni.prefixes,
            empty_prefixes: self.empty_prefixes + eni.empty_prefixes,
        }
    }
}

impl Facts {
    fn waiting(self, waiters: u32) -> Self {
        Self { waiters, ..self }
    }
}

fn assign(device_index: u32, kind: SlotKind, count: u32) -> Action {
    Action::Assign {
        eni: id(at(device_index)),
        kind,
        count,
    }
}

fn create_in(
    name: &str,
    device_index: u32,
    ipv4: Option<(SlotKind, u32)>,
    ipv6_prefixes: u32,
) -> Action {
    Action::Create {
        subnet: SubnetId::new(name),
        groups: vec![SecurityGroupId::new("sg-1")],
        place: at(device_index),
        ipv4,
        ipv6_prefixes,
    }
}

fn create(device_index: u32, kind: SlotKind, count: u32) -> Action {
    create_in("subnet-1", device_index, Some((kind, count)), 0)
}

fn unassign(device_index: u32, kind: SlotKind, count: u32) -> Action {
    Action::Unassign {
        eni: id(at(device_index)),
        kind,
        count,
    }
}

fn drain(device_index: u32) -> Action {
    Action::Drain {
        eni: id(at(device_index)),
    }
}

const ALL_WARM: [Warm; 15] = [
    Warm::Demand(Dial::Economy),
    Warm::Demand(Dial::Balanced),
    Warm::Demand(Dial::Latency),
    targets(None, None, None, None),
    targets(Some(0), None, None, None),
    targets(Some(1), None, None, None),
    targets(Some(2), None, None, None),
    targets(None, Some(1), Some(1), None),
    targets(None, Some(5), Some(10), None),
    targets(None, Some(7), None, None),
    targets(None, None, Some(12), None),
    targets(None, Some(0), Some(20), Some(3)),
    targets(None, None, None, Some(0)),
    targets(None, None, None, Some(1)),
    targets(None, None, None, Some(2)),
];

const fn targets(
    eni: Option<u32>,
    ip: Option<u32>,
    minimum_ip: Option<u32>,
    prefix: Option<u32>,
) -> Warm {
    Warm::Targets(WarmTargets {
        eni,
        ip,
        minimum_ip,
        prefix,
    })
}
