//! Ids in requests: first their form, then whether they exist.

use crate::error::{Ec2Error, Result};
use crate::ids::{
    AttachmentId, EniId, GroupId, InstanceId, ReservationId, RuleId, SubnetId, VpcId,
};
use crate::params::Input;
use crate::world::{Attachment, Eni, Group, Instance, Subnet, Vpc, World};

/// `NetworkInterfaceId`, of one that is there.
pub(super) fn eni<'w>(world: &'w World, input: &Input<'_>) -> Result<&'w Eni> {
    let id = eni_id(input.required("NetworkInterfaceId")?)?;
    world
        .eni(&id)
        .filter(|eni| world.owns(input.account(), &eni.vpc))
        .ok_or_else(|| Ec2Error::no_such_eni(&id))
}

/// `InstanceId`, of one that is there.
pub(super) fn instance<'w>(world: &'w World, input: &Input<'_>) -> Result<&'w Instance> {
    let id = instance_id(input.required("InstanceId")?)?;
    world
        .instance(&id)
        .filter(|instance| world.owns(input.account(), &instance.vpc))
        .ok_or_else(|| Ec2Error::no_such_instance(&id))
}

/// An attachment by its id, with the ENI.
pub(super) fn attachment<'w>(
    world: &'w World,
    input: &Input<'_>,
    id: &str,
) -> Result<(&'w Eni, &'w Attachment)> {
    if !AttachmentId::is_well_formed(id) {
        return Err(malformed(
            "InvalidNetworkInterfaceAttachmentId.Malformed",
            id,
            AttachmentId::PREFIX,
        ));
    }
    world
        .attachment(id)
        .filter(|(eni, _)| world.owns(input.account(), &eni.vpc))
        .ok_or_else(|| Ec2Error::no_such_attachment(id))
}

/// `SubnetId`, of one that is there.
pub(super) fn subnet<'w>(world: &'w World, input: &Input<'_>) -> Result<&'w Subnet> {
    let id = subnet_id(input.required("SubnetId")?)?;
    owned_subnet(world, input, &id)
}

/// The subnet, if it is the caller's.
pub(super) fn owned_subnet<'w>(
    world: &'w World,
    input: &Input<'_>,
    id: &SubnetId,
) -> Result<&'w Subnet> {
    world
        .subnet(id)
        .filter(|subnet| world.owns(input.account(), &subnet.vpc))
        .ok_or_else(|| Ec2Error::no_such_subnet(id))
}

/// The VPC, if it is the caller's.
pub(super) fn owned_vpc<'w>(world: &'w World, input: &Input<'_>, id: &VpcId) -> Result<&'w Vpc> {
    world
        .vpc(id)
        .filter(|vpc| vpc.account == input.account())
        .ok_or_else(|| Ec2Error::no_such_vpc(id))
}

/// The group, if it is the caller's.
pub(super) fn owned_group<'w>(
    world: &'w World,
    input: &Input<'_>,
    id: &GroupId,
) -> Result<&'w Group> {
    world
        .group(id)
        .filter(|group| world.owns(input.account(), &group.vpc))
        .ok_or_else(|| Ec2Error::no_such_group(id))
}

pub(super) fn eni_id(text: &str) -> Result<EniId> {
    check(
        // EC2 looks for hexadecimal digits, but does not count them.
        text.strip_prefix(EniId::PREFIX)
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(is_hex)),
        "InvalidNetworkInterfaceId.Malformed",
        text,
        EniId::PREFIX,
    )
}

pub(super) fn instance_id(text: &str) -> Result<InstanceId> {
    let well_formed = InstanceId::is_well_formed(text);
    check(
        well_formed,
        "InvalidInstanceID.Malformed",
        text,
        InstanceId::PREFIX,
    )
}

pub(super) fn subnet_id(text: &str) -> Result<SubnetId> {
    check(
        SubnetId::is_well_formed(text),
        "InvalidSubnetID.Malformed",
        text,
        SubnetId::PREFIX,
    )
}

pub(super) fn vpc_id(text: &str) -> Result<VpcId> {
    check(
        VpcId::is_well_formed(text),
        "InvalidVpcID.Malformed",
        text,
        VpcId::PREFIX,
    )
}

/// EC2 takes up to eight digits or seventeen, which are not all 0.
pub(super) fn group_id(text: &str) -> Result<GroupId> {
    let digits = text.strip_prefix(GroupId::PREFIX).unwrap_or_default();
    let looks_right = matches!(digits.len(), 1..=8 | 17)
        && digits.bytes().all(is_hex)
        && digits.bytes().any(|digit| digit != b'0');
    check(
        looks_right,
        "InvalidGroupId.Malformed",
        text,
        GroupId::PREFIX,
    )
}

pub(super) fn reservation_id(text: &str) -> Result<ReservationId> {
    check(
        ReservationId::is_well_formed(text),
        "InvalidSubnetCidrReservationId.Malformed",
        text,
        ReservationId::PREFIX,
    )
}

/// EC2 looks less closely at these: what is too short or has other letters is one that does not exist.
pub(super) fn rule_id(text: &str) -> Result<RuleId> {
    check(
        text.strip_prefix(RuleId::PREFIX)
            .is_some_and(|digits| digits.len() <= 17),
        "InvalidSecurityGroupRuleId.Malformed",
        text,
        RuleId::PREFIX,
    )
}

fn check<T: for<'t> From<&'t str>>(
    well_formed: bool,
    code: &str,
    text: &str,
    prefix: &str,
) -> Result<T> {
    if well_formed {
        Ok(T::from(text))
    } else {
        Err(malformed(code, text, prefix))
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn malformed(code: &str, text: &str, prefix: &str) -> Ec2Error {
    let message = if text.starts_with(prefix) {
        format!("Invalid id: \"{text}\"")
    } else {
        format!("Invalid id: \"{text}\" (expecting \"{prefix}...\")")
    };
    Ec2Error::client(code, message)
}
