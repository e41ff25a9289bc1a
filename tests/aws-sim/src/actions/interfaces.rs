//! Create, Delete, Modify and Describe network interfaces.

pub(super) mod attributes;
mod create;
mod describe;

use self::create::create;
use self::describe::describe;
use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{EniKind, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("CreateNetworkInterface", create),
    ("DeleteNetworkInterface", delete),
    ("DescribeNetworkInterfaceAttribute", attributes::describe),
    ("DescribeNetworkInterfaces", describe),
    ("ModifyNetworkInterfaceAttribute", attributes::modify),
    ("ResetNetworkInterfaceAttribute", attributes::reset),
];

pub(super) fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    input.finish()?;

    let eni = ids::eni(world, input)?;
    let id = eni.id.clone();
    let has_branches = eni.kind == EniKind::Trunk && world.branches(&id).next().is_some();
    if eni.status() == "in-use" || has_branches {
        return Err(Ec2Error::in_use(id));
    }
    world.delete_eni(&id);
    Ok(render::done())
}
