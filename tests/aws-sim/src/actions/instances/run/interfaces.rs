//! The interfaces that RunInstances asks for: `NetworkInterface.N`, or the one that the instance's own parameters
//! describe.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::actions::ids;
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, GroupId};
use crate::instance_types::InstanceType;
use crate::params::Input;
use crate::world::{Ask, ConnectionTracking, EnaSrd, Eni, EniKind, EniSpec, Tags, World};

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

/// All that the request says about interfaces.
///
/// # Errors
/// `InvalidParameterValue` for what can't be parsed, `InvalidParameterCombination` for both forms at once.
pub(super) fn read<'a>(input: &Input<'a>) -> Result<Vec<Asked<'a>>> {
    let alone = read_instance(input)?;
    let elements = input.elements("NetworkInterface");
    if elements.is_empty() {
        return Ok(vec![alone]);
    }
    let clash = [
        (alone.subnet.is_some(), "subnet ID"),
        (!alone.groups.is_empty(), "security groups"),
        (!alone.primaries.is_empty(), "private IP address"),
        (!alone.ipv6.is_empty(), "IPv6 addresses"),
    ];
    if let Some((_, what)) = clash.into_iter().find(|(is_there, _)| *is_there) {
        return Err(Ec2Error::combination(format!(
            "Network interfaces and an instance-level {what} may not be specified on the same request"
        )));
    }
    elements.iter().map(|name| read_one(input, name)).collect()
}

/// The one interface of a request that names none.
fn read_instance<'a>(input: &Input<'a>) -> Result<Asked<'a>> {
    let subnet = input.text("SubnetId");
    let names = input.list("SecurityGroup");
    if !names.is_empty() {
        return Err(match subnet {
            // No VPC here is a default VPC.
            None => no_default_vpc(),
            Some(_) => Ec2Error::combination(
                "The parameter groupName cannot be used with the parameter subnet",
            ),
        });
    }
    let ipv6 = members(input, "Ipv6Address", "Ipv6Address")?;
    for element in input.elements("Ipv6Address") {
        input.flag(&format!("{element}.IsPrimaryIpv6"))?;
    }
    Ok(Asked {
        device_index: Some(0),
        subnet,
        groups: input.list("SecurityGroupId"),
        primaries: input.parsed("PrivateIpAddress")?.into_iter().collect(),
        ipv6: asks(ipv6, number(input, "Ipv6AddressCount")?, Vec::new(), None),
        no_ipv6: input.text("Ipv6AddressCount") == Some("0"),
        primary_ipv6: input.flag("EnablePrimaryIpv6")?.unwrap_or(false),
        ..Asked::default()
    })
}

fn read_one<'a>(input: &Input<'a>, name: &str) -> Result<Asked<'a>> {
    let of = |member: &str| format!("{name}.{member}");
    let mut primaries: Vec<Ipv4Addr> = input.parsed(&of("PrivateIpAddress"))?.into_iter().collect();
    let mut secondary = Vec::new();
    for element in input.elements(&of("PrivateIpAddresses")) {
        let member = format!("{element}.PrivateIpAddress");
        let address = input.parsed(&member)?;
        let address = address.ok_or_else(|| Ec2Error::missing(&member))?;
        if input.flag(&format!("{element}.Primary"))?.unwrap_or(false) {
            primaries.push(address);
        } else {
            secondary.push(address);
        }
    }
    let ipv4 = asks(
        secondary,
        number(input, &of("SecondaryPrivateIpAddressCount"))?,
        members(input, &of("Ipv4Prefix"), "Ipv4Prefix")?,
        number(input, &of("Ipv4PrefixCount"))?,
    );
    let ipv6 = asks(
        members(input, &of("Ipv6Addresses"), "Ipv6Address")?,
        number(input, &of("Ipv6AddressCount"))?,
        members(input, &of("Ipv6Prefix"), "Ipv6Prefix")?,
        number(input, &of("Ipv6PrefixCount"))?,
    );
    let tracking =
        |member: &str| input.parsed(&of(&format!("ConnectionTrackingSpecification.{member}")));
    let srd = input.flag(&of("EnaSrdSpecification.EnaSrdEnabled"))?;
    let srd_udp = input.flag(&of(
        "EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled",
    ))?;
    Ok(Asked {
        device_index: input.parsed(&of("DeviceIndex"))?,
        card: input.parsed(&of("NetworkCardIndex"))?,
        eni: input.text(&of("NetworkInterfaceId")),
        subnet: input.text(&of("SubnetId")),
        groups: input.list(&of("SecurityGroupId")),
        description: input.text(&of("Description")),
        primaries,
        ipv4,
        ipv6,
        no_ipv6: input.text(&of("Ipv6AddressCount")) == Some("0"),
        primary_ipv6: input.flag(&of("PrimaryIpv6"))?.unwrap_or(false),
        kind: input.text(&of("InterfaceType")),
        connection_tracking: ConnectionTracking {
            tcp_established: tracking("TcpEstablishedTimeout")?,
            udp_stream: tracking("UdpStreamTimeout")?,
            udp: tracking("UdpTimeout")?,
        },
        ena_srd: srd.or(srd_udp).map(|enabled| EnaSrd {
            enabled,
            udp: srd_udp.unwrap_or(false),
        }),
        public_address: input.flag(&of("AssociatePublicIpAddress"))?,
        delete_on_termination: input.flag(&of("DeleteOnTermination"))?,
    })
}

/// Structures that have one member that is parsed.
fn members<T: FromStr>(input: &Input<'_>, name: &str, member: &str) -> Result<Vec<T>> {
    let elements = input.elements(name);
    let names = elements.iter().map(|element| format!("{element}.{member}"));
    names
        .map(|name| input.parsed(&name)?.ok_or_else(|| Ec2Error::missing(&name)))
        .collect()
}

/// How many; none is as good as not said.
fn number(input: &Input<'_>, name: &str) -> Result<Option<usize>> {
    Ok(input.parsed(name)?.filter(|count| *count > 0))
}

/// What is asked for of one family, each form that is used.
fn asks<A, P>(
    addresses: Vec<A>,
    address_count: Option<usize>,
    prefixes: Vec<P>,
    prefix_count: Option<usize>,
) -> Vec<Ask<A, P>> {
    let forms = [
        (!addresses.is_empty()).then_some(Ask::Addresses(addresses)),
        address_count.map(Ask::AddressCount),
        (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
        prefix_count.map(Ask::PrefixCount),
    ];
    forms.into_iter().flatten().collect()
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
    check_places(&nics, kind)?;
    check_network(world, &nics)?;
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
        if spec.description.chars().count() > 255 {
            return Err(Ec2Error::invalid(
                "Invalid interface description. Valid descriptions are strings less than 256 \
                 characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
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
    if eni.attachment.is_some() {
        let message = format!("Interface: [{id}] in use.");
        return Err(Ec2Error::client("InvalidNetworkInterface.InUse", message));
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
    if prefixes && !kind.takes_prefixes() {
        return Err(Ec2Error::invalid(format!(
            "Prefixes are not supported on {}: it is not built on the Nitro System.",
            kind.name
        )));
    }
    Ok(())
}

/// Whether the interfaces have room on the cards, each in a place of its own, and one of them in the first.
fn check_places(nics: &[Nic], kind: &InstanceType) -> Result<()> {
    let mut places = BTreeSet::new();
    let mut existing = BTreeSet::new();
    let mut on_card: BTreeMap<u32, u32> = BTreeMap::new();
    for nic in nics {
        if !places.insert((nic.card, nic.device_index)) {
            let message = "Each network interface requires a unique device index.";
            return Err(Ec2Error::invalid(message));
        }
        if let Source::Existing(id) = &nic.source
            && !existing.insert(id)
        {
            return Err(Ec2Error::invalid(format!(
                "Network interface ID '{id}' may not be specified on multiple interfaces."
            )));
        }
        *on_card.entry(nic.card).or_default() += 1;
    }
    if !places.contains(&(0, 0)) {
        return Err(Ec2Error::client(
            "UnsupportedOperation",
            "When specifying network interfaces, you must include a device at index 0.",
        ));
    }
    for (card, count) in on_card {
        let index = usize::try_from(card).unwrap_or(usize::MAX);
        let Some(limit) = kind.enis_per_card.get(index) else {
            let why = format!(
                "{} has {} network cards.",
                kind.name,
                kind.enis_per_card.len()
            );
            return Err(Ec2Error::value(card, "networkCardIndex", &why));
        };
        if count > *limit {
            let count = nics.len();
            let message = format!(
                "Interface count {count} exceeds the limit for {}",
                kind.name
            );
            return Err(Ec2Error::client("AttachmentLimitExceeded", message));
        }
    }
    Ok(())
}

/// Whether all are in one VPC and one zone.
fn check_network(world: &World, nics: &[Nic]) -> Result<()> {
    let mut vpcs = BTreeSet::new();
    let mut zones = BTreeSet::new();
    for nic in nics {
        let subnet = match &nic.source {
            Source::Existing(id) => world.eni(id).map(|eni: &Eni| &eni.subnet),
            Source::New(spec) => Some(&spec.subnet),
        };
        if let Some(subnet) = subnet.and_then(|id| world.subnet(id)) {
            vpcs.insert(&subnet.vpc);
            zones.insert(&subnet.az);
        }
    }
    if vpcs.len() > 1 {
        let message = "Network interface attachments may not cross VPC boundaries.";
        return Err(Ec2Error::invalid(message));
    }
    if zones.len() > 1 {
        return Err(Ec2Error::combination(
            "You may not attach a network interface to an instance if they are not in the same \
             availability zone",
        ));
    }
    Ok(())
}

fn no_default_vpc() -> Ec2Error {
    Ec2Error::client(
        "VPCIdNotSpecified",
        "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.",
    )
}
