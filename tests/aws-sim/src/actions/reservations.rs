//! Subnet CIDR reservations, of IPv4.

use ipnet::IpNet;

use super::select::Selection;
use super::vpcs::parse_cidr;
use super::{ids, render, tags};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, tag_field};
use crate::ids::ReservationId;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Reservation, ReservationKind, Subnet, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("CreateSubnetCidrReservation", create),
    ("DeleteSubnetCidrReservation", delete),
    ("GetSubnetCidrReservations", get),
];

fn create(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let subnet = input.required("SubnetId")?;
    let cidr = input.required("Cidr")?;
    let kind = input.required("ReservationType")?;
    let description = input.text("Description");
    let tags = tags::specified(input, "subnet-cidr-reservation")?;
    input.finish()?;

    let subnet = ids::owned_subnet(world, input, &ids::subnet_id(subnet)?)?;
    let subnet = subnet.id.clone();
    let kind = match kind {
        "prefix" => ReservationKind::Prefix,
        "explicit" => ReservationKind::Explicit,
        other => {
            let why = "Must be prefix or explicit.";
            return Err(Ec2Error::value(other, "reservationType", why));
        }
    };
    let cidr = match parse_cidr::<IpNet>(cidr, "cidr")? {
        IpNet::V4(cidr) => cidr,
        IpNet::V6(cidr) => {
            let message = format!("aws-sim has no reservations of IPv6, such as {cidr}");
            return Err(Ec2Error::client("UnsupportedOperation", message));
        }
    };
    let id = world.add_reservation(&subnet, cidr, kind)?;
    world.change_subnet(&subnet, |subnet| {
        if let Some(made) = subnet.reservations.get_mut(&id) {
            made.description = description.map(str::to_owned);
            made.tags = tags;
        }
    })?;
    response(world, input, "subnetCidrReservation", &id)
}

fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("SubnetCidrReservationId")?;
    input.finish()?;

    let id = ids::reservation_id(id)?;
    let answer = response(world, input, "deletedSubnetCidrReservation", &id)?;
    let (subnet, _) = find(world, input, &id)?;
    let subnet = subnet.id.clone();
    world.delete_reservation(&subnet, &id)?;
    Ok(answer)
}

fn get(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let subnet = input.required("SubnetId")?;
    let asked = Selection::read_all(input, |name| field(subnet, name))?;
    let subnet = ids::owned_subnet(world, input, &ids::subnet_id(subnet)?)?;

    let (shown, next) = asked.choose_all(subnet.reservations.values(), |found| found.id.as_str());
    let mut xml = Xml::new();
    xml.set("subnetIpv4CidrReservationSet", shown, |xml, found| {
        show(xml, world, subnet, found);
    });
    xml.set(
        "subnetIpv6CidrReservationSet",
        std::iter::empty::<()>(),
        |_, ()| {},
    );
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn find<'w>(
    world: &'w World,
    input: &Input<'_>,
    id: &ReservationId,
) -> Result<(&'w Subnet, &'w Reservation)> {
    let own = world
        .subnets
        .values()
        .filter(|subnet| world.owns(input.account(), &subnet.vpc));
    own.filter_map(|subnet| Some((subnet, subnet.reservations.get(id)?)))
        .next()
        .ok_or_else(|| no_such_reservation(id.as_str()))
}

pub(super) fn no_such_reservation(id: &str) -> Ec2Error {
    let message = format!("The subnet-cidr-reservation ID '{id}' does not exist");
    Ec2Error::client("InvalidSubnetCidrReservationID.NotFound", message)
}

fn response(world: &World, input: &Input<'_>, name: &str, id: &ReservationId) -> Result<Xml> {
    let (subnet, found) = find(world, input, id)?;
    let mut xml = Xml::new();
    xml.node(name, |xml| show(xml, world, subnet, found));
    Ok(xml)
}

fn show(xml: &mut Xml, world: &World, subnet: &Subnet, found: &Reservation) {
    xml.text("subnetCidrReservationId", &found.id)
        .text("subnetId", &subnet.id)
        .text("cidr", found.cidr)
        .text("reservationType", found.kind.as_str())
        .text("ownerId", world.owner(&subnet.vpc))
        .maybe("description", found.description.as_ref());
    render::tags(xml, &found.tags);
}

fn field<'a>(subnet: &'a str, name: &str) -> Option<Field<'a, Reservation>> {
    if let Some(field) = tag_field(name, |found: &Reservation| &found.tags) {
        return Some(field);
    }
    Some(match name {
        "reservationType" => Box::new(|found| vec![found.kind.as_str().to_owned()]),
        "subnet-id" => Box::new(|_| vec![subnet.to_owned()]),
        _ => return None,
    })
}
