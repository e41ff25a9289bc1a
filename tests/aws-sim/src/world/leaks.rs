//! What callers have left behind. Not a fault of the simulator, but of those who use it.

use std::time::Duration;

use super::{Eni, InstanceState, World};
use crate::time::SimTime;

/// An ENI that someone made for a node and then forgot.
#[derive(Clone, Copy, Debug)]
pub struct LeakedEni<'w> {
    /// The ENI.
    pub eni: &'w Eni,
    /// What its tag says: usually an instance's id.
    pub node: &'w str,
    /// Whether that is the id or the `Name` tag of an instance that is pending or running. If it is not, nobody is
    /// left who could clean up.
    pub node_lives: bool,
    /// For how long it has been attached to nothing.
    pub idle: Duration,
}

impl World {
    /// The ENIs that have this tag and have been attached to nothing for longer than `grace`: a CNI marks what it
    /// makes so, and none of it should be left lying about for long.
    #[must_use]
    pub fn leaked_enis(&self, now: SimTime, grace: Duration, tag_key: &str) -> Vec<LeakedEni<'_>> {
        let tagged = self.enis().filter_map(|eni| {
            let node = eni.tags.get(tag_key)?.as_str();
            Some(LeakedEni {
                eni,
                node,
                node_lives: self.is_there(node),
                idle: now.since(eni.idle_since),
            })
        });
        tagged
            .filter(|leaked| leaked.eni.attachment.is_none() && leaked.idle > grace)
            .collect()
    }

    fn is_there(&self, node: &str) -> bool {
        let mut named = self.instances().filter(|instance| {
            instance.id.as_str() == node
                || instance.tags.get("Name").is_some_and(|name| name == node)
        });
        named.any(|instance| {
            matches!(
                instance.state,
                InstanceState::Pending | InstanceState::Running
            )
        })
    }
}
