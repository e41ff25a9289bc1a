//! EC2's actions, one module for each family.
//!
//! Each action reads all its parameters, calls [`Input::finish`], checks everything, and only then changes the
//! world: a refused call has changed nothing.

mod addresses;
mod attachments;
mod groups;
mod ids;
mod images;
mod instance_types;
mod instances;
mod interfaces;
mod ipv6;
mod permissions;
mod render;
mod reservations;
mod routes;
mod select;
mod subnets;
mod tags;
mod trunks;
mod vpcs;
mod zones;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::error::Result;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

/// Does one action, and returns what is inside its response.
pub type Action = fn(&mut World, SimTime, &Input<'_>) -> Result<Xml>;

/// The actions of one module, by name.
type Family = &'static [(&'static str, Action)];

const FAMILIES: &[Family] = &[
    addresses::ACTIONS,
    attachments::ACTIONS,
    groups::ACTIONS,
    images::ACTIONS,
    instance_types::ACTIONS,
    instances::ACTIONS,
    interfaces::ACTIONS,
    ipv6::ACTIONS,
    permissions::ACTIONS,
    reservations::ACTIONS,
    routes::ACTIONS,
    subnets::ACTIONS,
    tags::ACTIONS,
    trunks::ACTIONS,
    vpcs::ACTIONS,
    zones::ACTIONS,
];

static ALL: LazyLock<BTreeMap<&'static str, Action>> =
    LazyLock::new(|| FAMILIES.iter().copied().flatten().copied().collect());

/// The names of all actions, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.keys().copied()
}

/// The action of this name.
#[must_use]
pub fn find(name: &str) -> Option<Action> {
    ALL.get(name).copied()
}
