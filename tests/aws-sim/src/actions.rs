//! EC2's actions, one module for each family.
//!
//! Each action reads all its parameters, calls [`Input::finish`], checks everything, and only then changes the
//! world: a refused call has changed nothing.

mod addresses;
mod attachments;
mod ids;
mod instance_types;
mod instances;
mod interfaces;
mod networks;
mod render;
mod tags;

pub(crate) use self::instances::IMAGE;

use crate::error::Result;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

/// Does one action, and returns what is inside its response.
pub type Action = fn(&mut World, SimTime, &Input<'_>) -> Result<Xml>;

/// All actions that there are, by name.
pub const ALL: &[(&str, Action)] = &[
    ("AssignPrivateIpAddresses", addresses::assign),
    ("AttachNetworkInterface", attachments::attach),
    ("CreateNetworkInterface", interfaces::create),
    ("CreateTags", tags::create),
    ("DeleteNetworkInterface", interfaces::delete),
    ("DeleteTags", tags::delete),
    ("DescribeInstanceTypes", instance_types::describe),
    ("DescribeInstances", instances::describe),
    ("DescribeNetworkInterfaces", interfaces::describe),
    ("DescribeSecurityGroups", networks::describe_groups),
    ("DescribeSubnets", networks::describe_subnets),
    ("DescribeVpcs", networks::describe_vpcs),
    ("DetachNetworkInterface", attachments::detach),
    ("ModifyNetworkInterfaceAttribute", interfaces::modify),
    ("UnassignPrivateIpAddresses", addresses::unassign),
];

/// The action of this name.
#[must_use]
pub fn find(name: &str) -> Option<Action> {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, action)| *action)
}
