//! Security groups, in either family. They are stateful by `ct state established` before them, so only first packets come
//! here: from an ENI through `egress`, then all through `ingress`.

use aws_sim::{Fabric, FabricEni, Peer, Rule};

use super::super::{Link, line};
use super::{GROUP, drop_as};

/// What differs between the families.
pub(super) struct Family {
    /// What nftables calls its header.
    pub(super) header: &'static str,
    /// All that an ENI holds.
    pub(super) held: fn(&FabricEni) -> Vec<String>,
    /// A peer that is a range; `None` if it is of the other family.
    pub(super) range: fn(&Peer) -> Option<String>,
    /// Protocol and ports; `None` if no packet of the family matches.
    pub(super) traffic: fn(&Rule) -> Option<String>,
}

/// Where a packet goes, seen from the group that allows it.
#[derive(Debug, Clone, Copy)]
enum Direction {
    In,
    Out,
}

impl Direction {
    /// How nftables names the group's own side, and the other one.
    fn sides(self) -> (&'static str, &'static str) {
        match self {
            Self::In => ("oifname", "saddr"),
            Self::Out => ("iifname", "daddr"),
        }
    }

    /// What becomes of an allowed packet.
    fn verdict(self) -> &'static str {
        match self {
            Self::In => "accept",
            Self::Out => "goto ingress",
        }
    }

    /// The chain that tells whether the other side is in a group.
    fn members_chain(self, group: &str) -> String {
        match self {
            Self::In => format!("from-{group}"),
            Self::Out => format!("to-{group}"),
        }
    }
}

impl Family {
    /// The chains `ingress` and `egress`, and what they jump to.
    pub(super) fn add(&self, text: &mut String, fabric: &Fabric, enis: &[(&FabricEni, &Link)]) {
        for group in &fabric.security_groups {
            for direction in [Direction::In, Direction::Out] {
                self.add_members(text, direction, &group.id, enis);
            }
        }
        text.push_str("  chain ingress {\n    oifname != \"eni-*\" accept\n");
        for group in &fabric.security_groups {
            for allowed in &group.ingress {
                self.allow(text, Direction::In, allowed, members(enis, &group.id));
            }
        }
        line(
            text,
            format_args!("    {}\n  }}\n  chain egress {{", drop_as(GROUP)),
        );
        for group in &fabric.security_groups {
            for allowed in &group.egress {
                self.allow(text, Direction::Out, allowed, members(enis, &group.id));
            }
        }
        line(text, format_args!("    {}\n  }}", drop_as(GROUP)));
    }

    fn add_members(
        &self,
        text: &mut String,
        direction: Direction,
        group: &str,
        enis: &[(&FabricEni, &Link)],
    ) {
        let (header, (_, peer)) = (self.header, direction.sides());
        let (chain, verdict) = (direction.members_chain(group), direction.verdict());
        line(text, format_args!("  chain {chain} {{"));
        for held in members(enis, group).flat_map(|(eni, _)| (self.held)(eni)) {
            line(text, format_args!("    {header} {peer} {held} {verdict}"));
        }
        text.push_str("  }\n");
    }

    /// What one rule allows to the members of its group.
    fn allow<'m>(
        &self,
        text: &mut String,
        direction: Direction,
        allowed: &Rule,
        members: impl Iterator<Item = &'m (&'m FabricEni, &'m Link)>,
    ) {
        let Some(traffic) = (self.traffic)(allowed) else {
            return;
        };
        let (own, peer) = direction.sides();
        let outcome = match (&allowed.peer, (self.range)(&allowed.peer)) {
            (Peer::Group(group), _) => format!("jump {}", direction.members_chain(group.as_str())),
            (_, Some(range)) => {
                format!("{} {peer} {range} {}", self.header, direction.verdict())
            }
            (_, None) => return,
        };
        for (_, link) in members {
            let own = format!("{own} {}", link.vpc_end);
            line(text, format_args!("    {own} {traffic} {outcome}"));
        }
    }
}

/// The ENIs that are in a group.
fn members<'a>(
    enis: &'a [(&FabricEni, &Link)],
    group: &str,
) -> impl Iterator<Item = &'a (&'a FabricEni, &'a Link)> {
    enis.iter()
        .filter(move |(eni, _)| eni.groups.iter().any(|id| id == group))
}
