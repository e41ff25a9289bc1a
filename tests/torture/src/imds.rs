//! What ipamd learns from IMDS, without sockets: what `crates/cloud` reads there.

use aws_sim::world::{AttachmentStatus, Eni};
use aws_sim::{InstanceId, SimTime, World};
use ipam::{EniId, InstanceLimits, Mac, Node, Place, SecurityGroupId, SeenEni, SubnetId, VpcId};
use ipnet::IpNet;

/// The instance, and what its type allows; none when it is not there.
#[must_use]
pub fn node(world: &World, instance: &InstanceId) -> Option<Node> {
    let instance = world.instance(instance)?;
    let eni = world.primary_eni(&instance.id)?;
    let groups = eni
        .groups
        .iter()
        .map(|id| SecurityGroupId::new(id.as_str()));
    let kind = instance.kind;
    Some(Node {
        instance_id: ipam::InstanceId::new(instance.id.as_str()),
        instance_type: kind.name.clone(),
        availability_zone: instance.az.clone(),
        vpc_id: VpcId::new(instance.vpc.as_str()),
        primary_eni: EniId::new(eni.id.as_str()),
        primary_mac: Mac(eni.mac),
        subnet_id: SubnetId::new(eni.subnet.as_str()),
        subnet_cidr: world.subnet(&eni.subnet)?.pool.cidr(),
        security_groups: groups.collect(),
        limits: InstanceLimits {
            enis_per_card: kind.enis_per_card.clone(),
            ipv4_slots_per_eni: kind.ipv4_per_eni,
            ipv6_slots_per_eni: kind.ipv6_per_eni,
            prefixes: kind.takes_prefixes(),
        },
    })
}

/// The security groups of the primary ENI, as they were at `then`.
#[must_use]
pub fn groups(world: &World, instance: &InstanceId, then: SimTime) -> Vec<SecurityGroupId> {
    let mut enis = world.enis_of_at(instance, then);
    let at = |eni: &&Eni| {
        let at = eni.attachment.as_ref();
        at.is_some_and(|at| (at.card, at.device_index) == (0, 0))
    };
    let groups = enis.find(at).into_iter().flat_map(|eni| &eni.groups);
    groups.map(|id| SecurityGroupId::new(id.as_str())).collect()
}

/// The instance's ENIs, as they were at `then`.
#[must_use]
pub fn seen(world: &World, instance: &InstanceId, then: SimTime) -> Vec<SeenEni> {
    let enis = world.enis_of_at(instance, then);
    let seen = enis.filter_map(|eni| {
        let at = eni.attachment.as_ref()?;
        if at.status == AttachmentStatus::Detaching {
            return None;
        }
        let single = eni
            .secondary
            .iter()
            .map(|ip| IpNet::from(std::net::IpAddr::V4(*ip)));
        let prefixes = eni.prefixes.iter().map(|net| IpNet::V4(*net));
        let ipv6 = eni.ipv6_prefixes.iter().map(|net| IpNet::V6(*net));
        Some(SeenEni {
            mac: Mac(eni.mac),
            place: Place {
                card: at.card,
                device_index: at.device_index,
            },
            slots: single.chain(prefixes).chain(ipv6).collect(),
        })
    });
    seen.collect()
}
