//! What EC2 says each instance type can have.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// An instance type, as DescribeInstanceTypes has it.
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
    /// The card that an ENI goes to when none is named.
    pub default_card: u32,
    /// `nitro`, `xen`, or empty on bare metal.
    pub hypervisor: String,
    /// Whether there is no hypervisor.
    pub bare_metal: bool,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// `x86_64` or `arm64`, mostly.
    pub architecture: String,
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
    let kind = InstanceType {
        name: fields.next()?.to_owned(),
        enis: fields.next()?.parse().ok()?,
        ipv4_per_eni: fields.next()?.parse().ok()?,
        ipv6_per_eni: fields.next()?.parse().ok()?,
        enis_per_card: fields
            .next()?
            .split('|')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?,
        default_card: fields.next()?.parse().ok()?,
        hypervisor: fields.next()?.to_owned(),
        bare_metal: fields.next()?.parse().ok()?,
        vcpus: fields.next()?.parse().ok()?,
        memory_mib: fields.next()?.parse().ok()?,
        architecture: fields.next()?.to_owned(),
    };
    Some(kind)
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
    fn every_row_is_read_and_its_cards_add_up() {
        let rows = include_str!("../data/instance-types.csv").lines().count() - 2;
        assert_eq!(all().len(), rows);
        for kind in all().values() {
            assert_eq!(
                kind.enis,
                kind.enis_per_card.iter().sum::<u32>(),
                "{}",
                kind.name
            );
        }
    }

    #[test]
    fn only_nitro_takes_prefixes() {
        assert!(get("m5.large").unwrap().takes_prefixes());
        assert!(get("m5.metal").unwrap().takes_prefixes());
        assert!(!get("t2.micro").unwrap().takes_prefixes());
    }
}
