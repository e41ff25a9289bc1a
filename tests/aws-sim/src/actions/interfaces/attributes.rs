//! Attributes of an ENI: Modify, Reset and DescribeNetworkInterfaceAttribute, and their rules.

use crate::actions::{addresses, ids, render};
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Ask, AttachmentStatus, ConnectionTracking, EnaSrd, Eni, World};
use crate::xml::Xml;

/// What ModifyNetworkInterfaceAttribute changes: one at a time.
enum Change<'a> {
    SourceDestCheck(bool),
    Description(&'a str),
    Groups(Vec<&'a str>),
    Attachment { id: &'a str, delete: bool },
    EnaSrd(EnaSrd),
    PrimaryIpv6(bool),
    ConnectionTracking(ConnectionTracking),
    AssociatePublicAddress(bool),
}

impl Change<'_> {
    /// EC2's name for the attribute.
    fn name(&self) -> &'static str {
        match self {
            Change::SourceDestCheck(_) => "sourceDestCheck",
            Change::Description(_) => "description",
            Change::Groups(_) => "groupSet",
            Change::Attachment { .. } => "attachment",
            Change::EnaSrd(_) => "enaSrdSpecification",
            Change::PrimaryIpv6(_) => "enablePrimaryIpv6",
            Change::ConnectionTracking(_) => "connectionTrackingSpecification",
            Change::AssociatePublicAddress(_) => "associatePublicIpAddress",
        }
    }
}

pub(in crate::actions) fn modify(
    world: &mut World,
    _now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    let asked = read(input)?;
    input.finish()?;

    let mut asked = asked.into_iter();
    let change = match (asked.next(), asked.len()) {
        (None, _) => return Err(Ec2Error::combination("No attributes specified.")),
        (Some(change), 0) => change,
        (Some(first), _) => {
            let names: Vec<&str> = [first]
                .iter()
                .chain(asked.as_slice())
                .map(Change::name)
                .collect();
            return Err(Ec2Error::combination(format!(
                "Fields for multiple attribute types specified: {}",
                names.join(", ")
            )));
        }
    };
    apply(world, input, change)?;
    Ok(render::done())
}

fn read<'a>(input: &Input<'a>) -> Result<Vec<Change<'a>>> {
    let mut asked = Vec::new();
    if input.text_or_empty("SourceDestCheck.Value") == Some("") {
        let message = "The attribute value must be specified.";
        return Err(Ec2Error::client("MissingParameter", message));
    }
    asked.extend(
        input
            .flag("SourceDestCheck.Value")?
            .map(Change::SourceDestCheck),
    );
    asked.extend(
        input
            .text_or_empty("Description.Value")
            .map(Change::Description),
    );
    let groups = input.list("SecurityGroupId");
    asked.extend((!groups.is_empty()).then_some(Change::Groups(groups)));
    let attachment = input.text("Attachment.AttachmentId");
    match (attachment, input.flag("Attachment.DeleteOnTermination")?) {
        (None, None) => {}
        (Some(id), Some(delete)) => asked.push(Change::Attachment { id, delete }),
        (None, Some(_)) => return Err(Ec2Error::missing("Attachment.AttachmentId")),
        (Some(_), None) => return Err(Ec2Error::missing("Attachment.DeleteOnTermination")),
    }
    asked.extend(ena_srd(input)?.map(Change::EnaSrd));
    asked.extend(input.flag("EnablePrimaryIpv6")?.map(Change::PrimaryIpv6));
    asked.extend(connection_tracking(input)?.map(Change::ConnectionTracking));
    let public = input.flag("AssociatePublicIpAddress")?;
    asked.extend(public.map(Change::AssociatePublicAddress));
    Ok(asked)
}

fn apply(world: &mut World, input: &Input<'_>, change: Change<'_>) -> Result<()> {
    let eni = ids::eni(world, input)?;
    let id = eni.id.clone();
    match change {
        Change::SourceDestCheck(check) => {
            world.change_eni(&id, |eni| eni.source_dest_check = check)
        }
        Change::Description(description) => {
            check_description(description)?;
            world.change_eni(&id, |eni| description.clone_into(&mut eni.description))
        }
        Change::Groups(groups) => {
            let groups = groups.into_iter().map(ids::group_id);
            let groups = world.groups_for(&eni.vpc, groups.collect::<Result<Vec<_>>>()?)?;
            world.change_eni(&id, |eni| eni.groups = groups)
        }
        Change::Attachment { id: asked, delete } => {
            let (_, found) = ids::attachment(world, input, asked)?;
            if eni.attachment.as_ref().is_none_or(|own| own.id != found.id) {
                return Err(Ec2Error::no_such_attachment(asked));
            }
            if found.status == AttachmentStatus::Detaching {
                let message = format!("The attachment '{asked}' is being detached.");
                return Err(Ec2Error::client("IncorrectState", message));
            }
            world.change_eni(&id, |eni| {
                if let Some(attachment) = &mut eni.attachment {
                    attachment.delete_on_termination = delete;
                }
            })
        }
        Change::EnaSrd(ena_srd) => {
            let Some(kind) = addresses::kind_of(world, eni) else {
                let message = format!("Network interface '{id}' is not attached to an instance.");
                return Err(Ec2Error::client("IncorrectState", message));
            };
            if ena_srd.enabled && !kind.ena_srd {
                let message = format!("{} instances do not support ENA Express.", kind.name);
                return Err(Ec2Error::invalid(message));
            }
            world.change_eni(&id, |eni| eni.ena_srd = Some(ena_srd))
        }
        Change::PrimaryIpv6(enable) => primary_ipv6(world, &eni.clone(), enable),
        Change::ConnectionTracking(tracking) => {
            world.change_eni(&id, |eni| eni.connection_tracking = tracking)
        }
        Change::AssociatePublicAddress(associate) => {
            world.change_eni(&id, |eni| eni.associate_public_address = associate)
        }
    }
}

/// Makes the first IPv6 address the primary one, which an ENI gets when it has none. It can't be undone, but by
/// detaching the ENI.
fn primary_ipv6(world: &mut World, eni: &Eni, enable: bool) -> Result<()> {
    if !enable {
        return match eni.primary_ipv6 {
            None => Ok(()),
            Some(_) => Err(Ec2Error::invalid(format!(
                "The primary IPv6 address of network interface '{}' cannot be disabled.",
                eni.id
            ))),
        };
    }
    addresses::takes_addresses(eni)?;
    let mut new = None;
    if eni.ipv6.is_empty() {
        let kind = addresses::kind_of(world, eni);
        if eni.ipv6_slots() >= addresses::slots(kind.map(|kind| kind.ipv6_per_eni)) {
            return Err(Ec2Error::address_limit());
        }
        let (taken, _) = world.take_ipv6(&eni.subnet, Ask::AddressCount(1))?;
        new = taken.first().copied();
    }
    world.change_eni(&eni.id, |eni| {
        eni.ipv6.extend(new);
        if eni.primary_ipv6.is_none() {
            eni.primary_ipv6 = eni.ipv6.first().copied();
        }
    })
}

pub(in crate::actions) fn reset(
    world: &mut World,
    _now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    let asked = input.text_or_empty("SourceDestCheck");
    input.finish()?;

    if asked.is_none() {
        return Err(Ec2Error::combination("No attributes specified."));
    }
    let id = ids::eni(world, input)?.id.clone();
    world.change_eni(&id, |eni| eni.source_dest_check = true)?;
    Ok(render::done())
}

pub(in crate::actions) fn describe(
    world: &mut World,
    now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    input.required("NetworkInterfaceId")?;
    let attribute = input.text("Attribute");
    input.finish()?;

    let id = ids::eni_id(input.required("NetworkInterfaceId")?)?;
    let eni = world
        .eni_at(&id, then)
        .filter(|eni| world.owns(input.account(), &eni.vpc))
        .ok_or_else(|| Ec2Error::no_such_eni(&id))?;
    let mut xml = Xml::new();
    xml.text("networkInterfaceId", &eni.id);
    match attribute {
        None => return Err(Ec2Error::combination("No attributes specified.")),
        Some("attachment") => render::attachment(&mut xml, world, eni),
        Some("description") => {
            xml.node("description", |xml| {
                xml.text("value", &eni.description);
            });
        }
        Some("groupSet") => render::groups(&mut xml, world, eni),
        Some("sourceDestCheck") => {
            xml.node("sourceDestCheck", |xml| {
                xml.text("value", eni.source_dest_check);
            });
        }
        Some("associatePublicIpAddress") => {
            xml.text("associatePublicIpAddress", eni.associate_public_address);
        }
        Some(other) => return Err(Ec2Error::value(other, "attribute", "Unknown attribute.")),
    }
    Ok(xml)
}

/// EC2 allows fewer than 256 characters of these.
pub(in crate::actions) fn check_description(description: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ". _-:/()#,@[]+=&;{}!$*".contains(c);
    if description.len() < 256 && description.chars().all(allowed) {
        return Ok(());
    }
    // Two spaces, as in EC2.
    Err(Ec2Error::invalid(
        "Invalid interface description. Valid descriptions are strings less than 256 characters \
         from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
    ))
}

/// `ConnectionTrackingSpecification`, in seconds; what is not said is EC2's default.
pub(in crate::actions) fn connection_tracking(
    input: &Input<'_>,
) -> Result<Option<ConnectionTracking>> {
    let read = |name: &str, least: u32, most: u32| -> Result<Option<u32>> {
        let full = format!("ConnectionTrackingSpecification.{name}");
        let seconds = input.parsed::<u32>(&full)?;
        match seconds.filter(|seconds| !(least..=most).contains(seconds)) {
            None => Ok(seconds),
            Some(wrong) => {
                let why = format!("Must be between {least} and {most} seconds.");
                Err(Ec2Error::value(wrong, name, &why))
            }
        }
    };
    let tracking = ConnectionTracking {
        tcp_established: read("TcpEstablishedTimeout", 60, 432_000)?,
        udp_stream: read("UdpStreamTimeout", 60, 180)?,
        udp: read("UdpTimeout", 30, 60)?,
    };
    Ok(Some(tracking).filter(|tracking| *tracking != ConnectionTracking::default()))
}

/// `EnaSrdSpecification`.
pub(in crate::actions) fn ena_srd(input: &Input<'_>) -> Result<Option<EnaSrd>> {
    let enabled = input.flag("EnaSrdSpecification.EnaSrdEnabled")?;
    let udp = input.flag("EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled")?;
    if enabled.is_none() && udp.is_none() {
        return Ok(None);
    }
    let (enabled, udp) = (enabled.unwrap_or(false), udp.unwrap_or(false));
    if udp && !enabled {
        return Err(Ec2Error::combination(
            "EnaSrdUdpEnabled can only be true when EnaSrdEnabled is true.",
        ));
    }
    Ok(Some(EnaSrd { enabled, udp }))
}
