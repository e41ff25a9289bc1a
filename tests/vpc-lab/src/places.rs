//! The fixed points of the lab: names and addresses that are the same in every one.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

/// What a VPC carries (EC2 user guide, "Network maximum transmission unit").
pub const MTU: u32 = 9001;

/// What an internet gateway carries.
pub const INTERNET_MTU: u32 = 1500;

/// The instance metadata.
pub const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The EC2 API, on port 80.
pub const EC2: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

/// The VPC's router for IPv6, on the link of every ENI.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);

/// By what the VPC knows each ENI on its link; the operating system's end of a primary one has it too.
pub(crate) const ENI_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xe);

/// The host in the internet.
pub const INTERNET_HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// The VPC's end of the link to the internet.
pub(crate) const INTERNET_GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The peered network.
pub const PEER_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 9, 0, 0), 16);

/// The host in the peered network.
pub const PEER_HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 10);

/// The VPC's end of the link to the peered network.
pub(crate) const PEER_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// The VPC's link to the internet.
pub(crate) const INTERNET: &str = "internet";

/// The VPC's link to the peered network.
pub(crate) const PEER: &str = "peer";

/// The VPC's link to nowhere: there goes what nobody holds. A route to it, unlike a blackhole, makes the kernel
/// answer ARP for the address, as a VPC's router does.
pub(crate) const NOWHERE: &str = "nowhere";
