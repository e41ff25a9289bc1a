//! What EC2 says each instance type can have.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// An instance type, as DescribeInstanceTypes has it. What is text here is shown as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// Such as `m5.large`.
    pub name: String,
    /// How many ENIs, over all cards.
    pub enis: u32,
    /// How many IPv4 slots an ENI has: an address or a /28 prefix takes one.
    pub ipv4_per_eni: u32,
    /// How many IPv6 slots an ENI has.
    pub ipv6_per_eni: u32,
    /// How many ENIs each network card takes.
    pub enis_per_card: Vec<u32>,
    /// More about each network card.
    pub cards: Vec<Card>,
    /// The card that an ENI goes to when none is named.
    pub default_card: u32,
    /// Such as `Up to 10 Gigabit`.
    pub performance: String,
    /// EC2's `EnaSupport`: `required`, `supported` or `unsupported`.
    pub ena: String,
    /// Whether it has ENA Express.
    pub ena_srd: bool,
    /// Whether the number of queues of an ENI can be chosen.
    pub flexible_ena_queues: bool,
    /// How many ENIs may be Elastic Fabric Adapters.
    pub efa_interfaces: u32,
    /// Whether the network between instances is encrypted.
    pub encrypts_in_transit: bool,
    /// Seconds that an idle TCP connection is remembered for, when nobody says else.
    pub tcp_established_timeout: u32,
    /// `nitro`, `xen`, or empty on bare metal.
    pub hypervisor: String,
    /// Whether there is no hypervisor.
    pub bare_metal: bool,
    /// `x86_64` or `arm64`, mostly; of several the one with 64 bits.
    pub architecture: String,
    /// All of them.
    pub architectures: Vec<String>,
    /// Who makes the processor.
    pub manufacturer: String,
    /// Its speed.
    pub clock_ghz: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Their cores.
    pub cores: String,
    /// Memory.
    pub memory_mib: u64,
    /// Whether EC2 does not call it a previous generation.
    pub current_generation: bool,
    /// Whether its CPUs earn credits.
    pub burstable: bool,
    /// EC2's `FreeTierEligible`.
    pub free_tier: bool,
    /// EC2's `DedicatedHostsSupported`.
    pub dedicated_hosts: bool,
    /// EC2's `AutoRecoverySupported`.
    pub auto_recovery: bool,
    /// EC2's `HibernationSupported`.
    pub hibernation: bool,
    /// Whether it has disks of its own.
    pub instance_storage: bool,
    /// EC2's `EbsOptimizedSupport`.
    pub ebs_optimized: String,
    /// Such as `on-demand`.
    pub usage_classes: Vec<String>,
    /// `ebs` and `instance-store`.
    pub root_devices: Vec<String>,
    /// `hvm` and `paravirtual`.
    pub virtualization: Vec<String>,
    /// Such as `uefi`.
    pub boot_modes: Vec<String>,
    /// Of placement groups.
    pub placement_strategies: Vec<String>,
}

/// A network card of an instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// How many ENIs it takes.
    pub enis: u32,
    /// Such as `Up to 10 Gigabit`.
    pub performance: String,
    /// Gigabits per second that it always has.
    pub baseline_gbps: String,
    /// Gigabits per second that it has at times.
    pub peak_gbps: String,
    /// Queues of an ENI.
    pub ena_queues: String,
    /// EC2's `InterfaceTypes`: `interface`, `efa`, `efa-only`.
    pub interface_types: Vec<String>,
}

impl InstanceType {
    /// Whether ENIs can have prefixes: Nitro, also without a hypervisor, but not Xen.
    #[must_use]
    pub fn takes_prefixes(&self) -> bool {
        self.hypervisor == "nitro" || self.bare_metal
    }
}

/// All known types by name.
#[must_use]
pub fn all() -> &'static BTreeMap<String, InstanceType> {
    static ALL: LazyLock<BTreeMap<String, InstanceType>> = LazyLock::new(|| {
        let rows = include_str!("../data/instance-types.csv").lines();
        let types = rows.filter_map(parse);
        types.map(|kind| (kind.name.clone(), kind)).collect()
    });
    &ALL
}

/// The type of this name.
#[must_use]
pub fn get(name: &str) -> Option<&'static InstanceType> {
    all().get(name)
}

/// One row; `None` for the comment and the header.
fn parse(row: &str) -> Option<InstanceType> {
    let mut fields = row.split(',');
    let mut next = || fields.next();
    let name = next()?.to_owned();
    let (ipv4_per_eni, ipv6_per_eni) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let default_card = next()?.parse().ok()?;
    let cards: Vec<Card> = next()?
        .split('|')
        .map(cards)
        .collect::<Option<Vec<_>>>()?
        .concat();
    let performance = next()?.to_owned();
    let ena = next()?.to_owned();
    let ena_srd = next()?.parse().ok()?;
    let flexible_ena_queues = next()?.parse().ok()?;
    let efa_interfaces = next()?.parse().ok()?;
    let encrypts_in_transit = next()?.parse().ok()?;
    let tcp_established_timeout = next()?.parse().ok()?;
    let hypervisor = next()?.to_owned();
    let bare_metal = next()?.parse().ok()?;
    let architectures = list(next()?);
    Some(InstanceType {
        name,
        enis: cards.iter().map(|card| card.enis).sum(),
        ipv4_per_eni,
        ipv6_per_eni,
        enis_per_card: cards.iter().map(|card| card.enis).collect(),
        cards,
        default_card,
        performance,
        ena,
        ena_srd,
        flexible_ena_queues,
        efa_interfaces,
        encrypts_in_transit,
        tcp_established_timeout,
        hypervisor,
        bare_metal,
        // i386 comes first where there are two.
        architecture: architectures.last()?.clone(),
        architectures,
        manufacturer: next()?.to_owned(),
        clock_ghz: next()?.to_owned(),
        vcpus: next()?.parse().ok()?,
        cores: next()?.to_owned(),
        memory_mib: next()?.parse().ok()?,
        current_generation: next()?.parse().ok()?,
        burstable: next()?.parse().ok()?,
        free_tier: next()?.parse().ok()?,
        dedicated_hosts: next()?.parse().ok()?,
        auto_recovery: next()?.parse().ok()?,
        hibernation: next()?.parse().ok()?,
        instance_storage: next()?.parse().ok()?,
        ebs_optimized: next()?.to_owned(),
        usage_classes: list(next()?),
        root_devices: list(next()?),
        virtualization: list(next()?),
        boot_modes: list(next()?),
        placement_strategies: list(next()?),
    })
}

/// Cards in a row that are alike: `2*15/100 Gigabit/100.0/100.0/32/interface+efa`.
fn cards(run: &str) -> Option<Vec<Card>> {
    let (count, card) = run.split_once('*')?;
    let mut parts = card.split('/');
    let card = Card {
        enis: parts.next()?.parse().ok()?,
        performance: parts.next()?.to_owned(),
        baseline_gbps: parts.next()?.to_owned(),
        peak_gbps: parts.next()?.to_owned(),
        ena_queues: parts.next()?.to_owned(),
        interface_types: parts.next()?.split('+').map(str::to_owned).collect(),
    };
    Some(vec![card; count.parse().ok()?])
}

fn list(field: &str) -> Vec<String> {
    field.split('|').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_that_aws_documents() {
        let limits = |name: &str| {
            let kind = get(name).unwrap();
            (kind.enis, kind.ipv4_per_eni, kind.enis_per_card.len())
        };
        assert_eq!(limits("t3.medium"), (3, 6, 1));
        assert_eq!(limits("m5.large"), (3, 10, 1));
        assert_eq!(limits("c5n.18xlarge"), (15, 50, 1));
        assert_eq!(limits("p4d.24xlarge"), (60, 50, 4));
        assert_eq!(limits("p5.48xlarge"), (64, 50, 32));
        assert!(get("zz9.huge").is_none());
    }

    #[test]
    fn every_row_is_read() {
        let rows = include_str!("../data/instance-types.csv").lines().count() - 2;
        assert_eq!(all().len(), rows);
        assert!(all().values().all(|kind| kind.architecture != "i386"));
    }

    #[test]
    fn adapters_and_the_speed_of_cards_are_known() {
        let (p5, m5) = (get("p5.48xlarge").unwrap(), get("m5.large").unwrap());
        assert_eq!((p5.efa_interfaces, m5.efa_interfaces), (32, 0));
        assert_eq!(p5.cards[31].performance, "100 Gigabit");
        assert_eq!(
            p5.cards[31].interface_types,
            ["interface", "efa", "efa-only"]
        );
        assert_eq!(m5.cards[0].interface_types, ["interface"]);
        assert_eq!(get("t2.micro").unwrap().architectures, ["i386", "x86_64"]);
        assert_eq!(get("t2.micro").unwrap().architecture, "x86_64");
    }

    #[test]
    fn only_nitro_takes_prefixes() {
        assert!(get("m5.large").unwrap().takes_prefixes());
        assert!(get("m5.metal").unwrap().takes_prefixes());
        assert!(!get("t2.micro").unwrap().takes_prefixes());
    }
}
