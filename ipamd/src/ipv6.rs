//! Whether the node can give pods IPv6 addresses. What it lacks would show as pods that wait in vain, or that nothing
//! on the node reaches, so it is said at start.

use std::net::Ipv6Addr;
use std::time::Duration;

use cloud::{Ipv6Facts, Metadata, MetadataError};
use ipam::{EniId, Node, SubnetId};

/// What the node lacks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ipv6Error {
    #[error(
        "ENABLE_IPv6 is true, and ENIs of a {0} can't have /80 prefixes, which pods' IPv6 addresses come from: take a \
         Nitro instance type, or turn ENABLE_IPv6 off"
    )]
    InstanceType(String),
    #[error(
        "ENABLE_IPv6 is true, and subnet {0} has no IPv6 CIDR, which pods' addresses come from: associate one with it \
         (AssociateSubnetCidrBlock), or turn ENABLE_IPv6 off"
    )]
    Subnet(SubnetId),
    #[error(
        "ENABLE_IPv6 is true, and the primary ENI {0} has no IPv6 address of its own, so the node could not reach its \
         pods: assign it one (AssignIpv6Addresses, or the launch template's Ipv6AddressCount), or turn ENABLE_IPv6 off"
    )]
    Address(EniId),
    #[error("the node's IPv6 can't be learned")]
    Metadata(#[from] MetadataError),
}

/// The node's own address, where it has all that it takes.
pub(crate) async fn address_of(
    node: &Node,
    metadata: &Metadata,
    patience: Duration,
) -> Result<Ipv6Addr, Ipv6Error> {
    if !node.limits.prefixes || node.limits.ipv6_slots_per_eni == 0 {
        return Err(Ipv6Error::InstanceType(node.instance_type.clone()));
    }
    let Ipv6Facts {
        address,
        subnet_cidr,
    } = metadata.ipv6(node.primary_mac, patience).await?;
    if subnet_cidr.is_none() {
        return Err(Ipv6Error::Subnet(node.subnet_id.clone()));
    }
    address.ok_or_else(|| Ipv6Error::Address(node.primary_eni.clone()))
}
