//! The interfaces that RunInstances asks for: `NetworkInterface.N`, or the one that the instance's own parameters
//! describe.

mod places;
mod read;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

pub(super) use self::read::read;
use crate::actions::addresses::takes_prefixes;
use crate::actions::ids;
use crate::actions::interfaces::attributes::check_description;
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, GroupId};
use crate::instance_types::InstanceType;
use crate::params::Input;
use crate::world::{Ask, ConnectionTracking, EnaSrd, EniKind, EniSpec, Tags, World};

/// An interface as the request has it.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    device_index: Option<u32>,
    card: Option<u32>,
    eni: Option<&'a str>,
    subnet: Option<&'a str>,
    groups: Vec<&'a str>,
    description: Option<&'a str>,
    primaries: Vec<Ipv4Addr>,
    ipv4: Vec<Ask<Ipv4Addr, Ipv4Net>>,
    ipv6: Vec<Ask<Ipv6Addr, Ipv6Net>>,
    /// Whether none is asked for, in so many words: a subnet gives one otherwise.
    no_ipv6: bool,
    primary_ipv6: bool,
    kind: Option<&'a str>,
    connection_tracking: ConnectionTracking,
    ena_srd: Option<EnaSrd>,
    public_address: Option<bool>,
    delete_on_termination: Option<bool>,
}

/// An interface that each new instance gets.
#[derive(Clone, Debug)]
pub(super) struct Nic {
    pub(super) device_index: u32,
    pub(super) card: u32,
    pub(super) source: Source,
    /// What was said about a public address.
    pub(super) public_address: Option<bool>,
    pub(super) ena_srd: Option<EnaSrd>,
    pub(super) delete_on_termination: bool,
}

/// Where it comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Existing(EniId),
    New(Box<EniSpec>),
}

/// Checks what is asked for, each interface and all together, for so many instances of a type.
pub(super) fn check(
    world: &World,
    input: &Input<'_>,
    asked: Vec<Asked<'_>>,
    kind: &InstanceType,
    instances: usize,
    tags: &Tags,
) -> Result<Vec<Nic>> {
    let alone = asked.len() == 1;
    let mut nics = Vec::new();
    for one in asked {
        one.check_combinations(alone, instances)?;
        nics.push(one.resolve(world, input, kind, tags)?);
    }
    places::check(&nics, kind)?;
    places::check_adapters(world, &nics, kind)?;
    places::check_network(world, &nics)?;
    Ok(nics)
}

impl Asked<'_> {
    /// What may not be said together.
    fn check_combinations(&self, alone: bool, instances: usize) -> Result<()> {
        if self.primaries.len() > 1 {
            let message = "Only one primary private IP address can be specified.";
            return Err(Ec2Error::invalid(message));
        }
        if self.ipv4.len() > 1 {
            return Err(Ec2Error::combination(
                "You may specify one and only one of privateIpAddressSet or \
                 secondaryPrivateIpAddressCount or ipv4Prefixes or ipv4PrefixCount, but not more \
                 than one of them.",
            ));
        }
        if self.ipv6.len() > 1 {
            return Err(Ec2Error::combination(
                "IPv6 addresses and IPv6 address count may not be specified on the same request",
            ));
        }
        if let Some(Ask::Addresses(secondary)) = self.ipv4.first() {
            let distinct: BTreeSet<_> = secondary.iter().chain(&self.primaries).collect();
            if distinct.len() != secondary.len() + self.primaries.len() {
                let message = "address value can't be both primary and secondary";
                return Err(Ec2Error::invalid(message));
            }
        }
        if self.public_address.is_some() && !alone {
            return Err(Ec2Error::combination(
                "The associatePublicIPAddress parameter cannot be specified when launching with \
                 multiple network interfaces.",
            ));
        }
        if self.eni.is_some() {
            if self.public_address.is_some() {
                return Err(Ec2Error::combination(
                    "The associatePublicIPAddress parameter cannot be specified for a network \
                     interface with an ID.",
                ));
            }
            let with = [
                (self.subnet.is_some(), "a subnet"),
                (
                    !self.primaries.is_empty() || !self.ipv4.is_empty(),
                    "a private IP address",
                ),
                (!self.groups.is_empty(), "security groups"),
                (
                    self.delete_on_termination == Some(true),
                    "delete on termination as true",
                ),
                (!self.ipv6.is_empty(), "an IPv6 address"),
                (self.kind.is_some(), "an interface type"),
                (self.description.is_some(), "a description"),
                (self.ena_srd.is_some(), "ENA Express"),
                (self.primary_ipv6, "a primary IPv6 address"),
                (
                    self.connection_tracking != ConnectionTracking::default(),
                    "connection tracking",
                ),
            ];
            if let Some((_, what)) = with.into_iter().find(|(is_there, _)| *is_there) {
                return Err(Ec2Error::combination(format!(
                    "A network interface may not specify both a network interface ID and {what}"
                )));
            }
        }
        let explicit = self.eni.is_some()
            || !self.primaries.is_empty()
            || matches!(
                self.ipv4.first(),
                Some(Ask::Addresses(_) | Ask::Prefixes(_))
            )
            || matches!(
                self.ipv6.first(),
                Some(Ask::Addresses(_) | Ask::Prefixes(_))
            );
        if instances > 1 && explicit {
            return Err(Ec2Error::combination(
                "Multiple instances creation is not compatible with private IP address or network \
                 interface ID parameters.",
            ));
        }
        Ok(())
    }

    fn resolve(
        mut self,
        world: &World,
        input: &Input<'_>,
        kind: &InstanceType,
        tags: &Tags,
    ) -> Result<Nic> {
        let device_index = self
            .device_index
            .ok_or_else(|| Ec2Error::invalid("Each network interface requires a device index."))?;
        let is_existing = self.eni.is_some();
        let source = match self.eni {
            Some(id) => Source::Existing(available(world, input, id, kind)?),
            None => Source::New(Box::new(self.spec(world, input, kind, tags)?)),
        };
        Ok(Nic {
            device_index,
            card: self.card.unwrap_or(kind.default_card),
            source,
            public_address: self.public_address,
            ena_srd: self.ena_srd,
            delete_on_termination: self.delete_on_termination.unwrap_or(!is_existing),
        })
    }

    fn spec(
        &mut self,
        world: &World,
        input: &Input<'_>,
        kind: &InstanceType,
        tags: &Tags,
    ) -> Result<EniSpec> {
        let subnet = self.subnet.ok_or_else(no_default_vpc)?;
        let subnet = ids::owned_subnet(world, input, &ids::subnet_id(subnet)?)?;
        let groups = self.groups.iter().map(|id| ids::group_id(id));
        let groups = groups.collect::<Result<Vec<GroupId>>>()?;
        if groups.len() > 5 {
            return Err(Ec2Error::client(
                "SecurityGroupsPerInstanceLimitExceeded",
                "The maximum number of security groups for network interface has been reached",
            ));
        }
        for id in &groups {
            let owned = |vpc| world.owns(input.account(), vpc);
            let group = world.group(id).filter(|group| owned(&group.vpc));
            if group.ok_or_else(|| Ec2Error::no_such_group(id))?.vpc != subnet.vpc {
                let message = format!(
                    "Security group {id} and subnet {} belong to different networks.",
                    subnet.id
                );
                return Err(Ec2Error::client("InvalidParameter", message));
            }
        }
        let gives_ipv6 = subnet.attributes.assign_ipv6_on_creation
            && subnet.ipv6.is_some()
            && !self.no_ipv6
            && self.kind != Some(EniKind::EfaOnly.as_str());
        let spec = EniSpec {
            groups,
            primary: self.primaries.first().copied(),
            ipv4: self.ipv4.pop().unwrap_or_default(),
            ipv6: self.ipv6.pop().unwrap_or(if gives_ipv6 {
                Ask::AddressCount(1)
            } else {
                Ask::default()
            }),
            primary_ipv6: self.primary_ipv6,
            kind: match self.kind {
                None => EniKind::Interface,
                Some(name) => [EniKind::Interface, EniKind::Efa, EniKind::EfaOnly]
                    .into_iter()
                    .find(|kind| kind.as_str() == name)
                    .ok_or_else(|| {
                        Ec2Error::invalid(format!(
                            "invalid value for parameter interface-type: {name}"
                        ))
                    })?,
            },
            description: self.description.unwrap_or_default().to_owned(),
            connection_tracking: self.connection_tracking,
            tags: tags.clone(),
            ..EniSpec::new(&subnet.id)
        };
        check_description(&spec.description)?;
        let asks = spec.primary.is_some() || spec.ipv4.slots() > 0 || spec.ipv6.slots() > 0;
        if spec.kind == EniKind::EfaOnly && asks {
            return Err(Ec2Error::combination(
                "IP addresses cannot be specified for a network interface of type efa-only.",
            ));
        }
        let primary = usize::from(spec.kind != EniKind::EfaOnly);
        check_slots(
            kind,
            primary.saturating_add(spec.ipv4.slots()),
            spec.ipv6.slots(),
            spec.ipv4.is_prefixes() || spec.ipv6.is_prefixes(),
        )?;
        Ok(spec)
    }
}

/// An ENI that is there and free.
fn available(world: &World, input: &Input<'_>, id: &str, kind: &InstanceType) -> Result<EniId> {
    let id = ids::eni_id(id)?;
    let eni = world
        .eni(&id)
        .filter(|eni| world.owns(input.account(), &eni.vpc))
        .ok_or_else(|| Ec2Error::no_such_eni(&id))?;
    if eni.status() == "in-use" {
        let message = format!("Interface: [{id}] in use.");
        return Err(Ec2Error::client("InvalidNetworkInterface.InUse", message));
    }
    if eni.kind == EniKind::Branch {
        return Err(Ec2Error::invalid(format!(
            "Network interface '{id}' of type branch cannot be attached to an instance."
        )));
    }
    if eni.kind == EniKind::Trunk && !kind.takes_prefixes() {
        return Err(Ec2Error::invalid(format!(
            "{} instances do not support trunk interfaces.",
            kind.name
        )));
    }
    let prefixes = !eni.prefixes.is_empty() || !eni.ipv6_prefixes.is_empty();
    check_slots(kind, eni.slots(), eni.ipv6_slots(), prefixes)?;
    Ok(id)
}

/// What an ENI may hold on an instance of this type.
fn check_slots(kind: &InstanceType, ipv4: usize, ipv6: usize, prefixes: bool) -> Result<()> {
    let limit = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    if ipv4 > limit(kind.ipv4_per_eni) || ipv6 > limit(kind.ipv6_per_eni) {
        return Err(Ec2Error::address_limit());
    }
    takes_prefixes(Some(kind).filter(|_| prefixes))
}

fn no_default_vpc() -> Ec2Error {
    Ec2Error::client(
        "VPCIdNotSpecified",
        "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.",
    )
}
