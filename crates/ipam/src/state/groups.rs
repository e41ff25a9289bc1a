//! Security groups: the ENIs that the pool made have those of the primary ENI, and keep up with them.
//!
//! Nobody waits for it, and pods get addresses whether it works or not.

use super::{Phase, Spot, State};
use crate::planner::Gate;
use crate::pool::{Eni, Life};
use crate::retry::passes;
use crate::{Call, CallError, EniId, Haste, Mode, Place, SecurityGroupId, SubnetId, Subnets};

impl State {
    /// The primary ENI has these groups now.
    pub(super) fn regroup(&mut self, groups: Vec<SecurityGroupId>) {
        if groups.is_empty() || groups == self.node.security_groups {
            return;
        }
        self.node.security_groups = groups;
        // What was refused were other groups.
        self.setbacks
            .retain(|spot, _| !matches!(spot, Spot::Groups(_)));
    }

    /// Has EC2 give each ENI the groups that it should have.
    pub(super) fn keep_groups(&mut self) {
        if self.phase != Phase::Running || self.mode() == Mode::Frozen {
            return;
        }
        let astray = self.pool.enis().filter(|(_, eni)| self.is_astray(eni));
        let astray: Vec<EniId> = astray.map(|(id, _)| id.clone()).collect();
        for eni in astray {
            let waits = self.gate(|| Spot::Groups(eni.clone())) != Gate::Open;
            // One change of an ENI at a time.
            if waits || self.asked_of(&eni).busy {
                continue;
            }
            let groups = self.node.security_groups.clone();
            let call = Call::SetGroups { eni, groups };
            if self.may_ask(&call, Haste::Later) {
                self.call(call);
            }
        }
    }

    /// Whether it has other groups than it should have. Who made it, or whose ENIConfig it was made by, decides for
    /// itself.
    fn is_astray(&self, eni: &Eni) -> bool {
        let attached = matches!(eni.life, Life::SettingUp { .. } | Life::Ready);
        let Some(link) = eni.link.as_ref().filter(|link| attached && !link.borrowed) else {
            return false;
        };
        let wanted = &self.node.security_groups;
        let same =
            wanted.len() == eni.groups.len() && wanted.iter().all(|it| eni.groups.contains(it));
        !same
            && !wanted.is_empty()
            && eni.place != Place::PRIMARY
            && self.follows_the_primary(&link.subnet_id)
    }

    /// Whether ENIs of a subnet have the primary's groups.
    fn follows_the_primary(&self, subnet: &SubnetId) -> bool {
        match &self.settings.subnets {
            Subnets::Tagged { .. } => true,
            Subnets::Listed(others) => !others
                .iter()
                .any(|it| it.id == *subnet && !it.groups.is_empty()),
            // As aws-node has it, also where the ENIConfig names no groups.
            Subnets::Custom(_) => false,
        }
    }

    pub(super) fn groups_set(
        &mut self,
        id: &EniId,
        groups: &[SecurityGroupId],
        outcome: Result<(), CallError>,
    ) {
        let now = self.now;
        match outcome {
            Ok(()) => {
                self.setbacks.remove(&Spot::Groups(id.clone()));
                self.pool.change_eni(id, |eni| {
                    eni.groups = groups.iter().cloned().collect();
                    eni.changed = Some(now);
                });
                self.changed();
            }
            // Whether an unknown one has happened does not matter: it is asked for again, and changes nothing then.
            Err(error) => {
                let mut before = self.setbacks.iter();
                let known = before
                    .any(|(spot, it)| matches!(spot, Spot::Groups(_)) && !passes(it.error.kind));
                if !known && !passes(error.kind) {
                    self.tell(format!(
                        "the security groups of the primary ENI have changed, and {id} can't get them: {error}. Traffic of pods \
                         on it is filtered by the old ones. Allow ec2:ModifyNetworkInterfaceAttribute, and look whether the \
                         groups are there; it is tried again by itself"
                    ));
                }
                self.set_back(Spot::Groups(id.clone()), error);
            }
        }
    }
}
