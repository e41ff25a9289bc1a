//! Ids in requests: first their form, then whether they exist.

use crate::error::{Ec2Error, Result};
use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::params::Input;
use crate::world::{Attachment, Eni, Instance, World};

/// `NetworkInterfaceId`, of one that is there.
pub(super) fn eni<'w>(world: &'w World, input: &Input<'_>) -> Result<&'w Eni> {
    let id = eni_id(input.required("NetworkInterfaceId")?)?;
    world.eni(&id).ok_or_else(|| Ec2Error::no_such_eni(&id))
}

/// `InstanceId`, of one that is there.
pub(super) fn instance<'w>(world: &'w World, input: &Input<'_>) -> Result<&'w Instance> {
    let id = instance_id(input.required("InstanceId")?)?;
    world
        .instance(&id)
        .ok_or_else(|| Ec2Error::no_such_instance(&id))
}

/// An attachment by its id, with the ENI.
pub(super) fn attachment<'w>(world: &'w World, id: &str) -> Result<(&'w Eni, &'w Attachment)> {
    if !AttachmentId::is_well_formed(id) {
        return Err(malformed(
            "InvalidAttachmentID.Malformed",
            id,
            AttachmentId::PREFIX,
        ));
    }
    world
        .enis()
        .filter_map(|eni| Some((eni, eni.attachment.as_ref()?)))
        .find(|(_, attachment)| attachment.id.as_str() == id)
        .ok_or_else(|| Ec2Error::no_such_attachment(id))
}

pub(super) fn eni_id(text: &str) -> Result<EniId> {
    check(
        EniId::is_well_formed(text),
        "InvalidNetworkInterfaceID.Malformed",
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

pub(super) fn group_id(text: &str) -> Result<GroupId> {
    check(
        GroupId::is_well_formed(text),
        "InvalidGroupId.Malformed",
        text,
        GroupId::PREFIX,
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

fn malformed(code: &str, text: &str, prefix: &str) -> Ec2Error {
    Ec2Error::client(
        code,
        format!("Invalid id: \"{text}\" (expecting \"{prefix}...\")"),
    )
}
