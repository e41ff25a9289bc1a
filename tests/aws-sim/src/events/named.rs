//! Finds what an event is about, by id or by `Name` tag.

use super::EventError;
use crate::ids::{EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::world::{Tags, World};

/// Something that has tags.
#[derive(Clone, Debug)]
pub(super) enum Tagged {
    Eni(EniId),
    Instance(InstanceId),
    Subnet(SubnetId),
    Vpc(VpcId),
    Group(GroupId),
}

type Result<T> = std::result::Result<T, EventError>;

impl World {
    /// An ENI by its id, its `Name` tag, or as `NODE/INDEX`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_eni(&self, name: &str) -> Result<EniId> {
        if let Some((instance, index)) = name.rsplit_once('/') {
            let instance = self.find_instance(instance)?;
            let at = self.enis_of(&instance).find(|eni| {
                eni.attachment
                    .as_ref()
                    .is_some_and(|a| a.card == 0 && a.device_index.to_string() == index)
            });
            return at.map(|eni| eni.id.clone()).ok_or(no_such("ENI", name));
        }
        let enis = self.enis();
        only("ENI", name, enis.map(|eni| (&eni.id, &eni.tags)))
    }

    /// An instance that has not ended, by its id or its `Name` tag.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_instance(&self, name: &str) -> Result<InstanceId> {
        let alive = self.instances().filter(|instance| instance.is_alive());
        only(
            "instance",
            name,
            alive.map(|found| (&found.id, &found.tags)),
        )
    }

    /// A subnet by its id or its `Name` tag.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_subnet(&self, name: &str) -> Result<SubnetId> {
        let subnets = self.subnets.values();
        only(
            "subnet",
            name,
            subnets.map(|found| (&found.id, &found.tags)),
        )
    }

    /// A security group by its id or its `Name` tag.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_group(&self, name: &str) -> Result<GroupId> {
        let groups = self.groups.values();
        only(
            "security group",
            name,
            groups.map(|found| (&found.id, &found.tags)),
        )
    }

    pub(super) fn find_tagged(&self, name: &str) -> Result<Tagged> {
        let vpcs = self.vpcs.values().map(|vpc| (&vpc.id, &vpc.tags));
        let found = [
            self.find_eni(name).map(Tagged::Eni),
            self.find_instance(name).map(Tagged::Instance),
            self.find_subnet(name).map(Tagged::Subnet),
            self.find_group(name).map(Tagged::Group),
            only("VPC", name, vpcs).map(Tagged::Vpc),
        ];
        let mut found = found.into_iter().filter(|found| {
            // What is not there may be among the others.
            !matches!(found, Err(EventError::NoSuch { .. }))
        });
        match (found.next(), found.count()) {
            (None, _) => Err(no_such(
                "ENI, instance, subnet, VPC or security group",
                name,
            )),
            (Some(one), 0) => one,
            (Some(_), more) => Err(EventError::Ambiguous {
                kind: "thing",
                name: name.to_owned(),
                count: more + 1,
            }),
        }
    }
}

fn no_such(kind: &'static str, name: &str) -> EventError {
    EventError::NoSuch {
        kind,
        name: name.to_owned(),
    }
}

/// The one of these that has this id or `Name` tag.
fn only<'a, I>(
    kind: &'static str,
    name: &str,
    things: impl Iterator<Item = (&'a I, &'a Tags)>,
) -> Result<I>
where
    I: Clone + std::borrow::Borrow<str> + 'a,
{
    let mut named = Vec::new();
    for (id, tags) in things {
        let text: &str = id.borrow();
        if text == name {
            return Ok(id.clone());
        }
        if tags.get("Name").is_some_and(|tag| tag == name) {
            named.push(id);
        }
    }
    match named.as_slice() {
        [] => Err(no_such(kind, name)),
        [one] => Ok((*one).clone()),
        several => Err(EventError::Ambiguous {
            kind,
            name: name.to_owned(),
            count: several.len(),
        }),
    }
}
