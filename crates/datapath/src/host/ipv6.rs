//! What IPv6 needs of the node, beside what both families have.

use std::path::Path;

use rtnetlink::packet_route::AddressFamily;

use crate::layout::VPC_ROUTER_V6;
use crate::rtnl::{Route, Way};
use crate::sysctl::{IfAbsent, Setting};

/// The families that this kernel has: without IPv6 it answers questions about it with something else.
pub(super) fn families() -> impl Iterator<Item = AddressFamily> {
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let second = has_ipv6.then_some(AddressFamily::Inet6);
    std::iter::once(AddressFamily::Inet).chain(second)
}

/// Lets the node forward, and keep the way out that router advertisements give it: a router takes none of them unless
/// told to by 2, and drops the default routes that it had from them at the moment when it becomes one
/// (kernel, ip-sysctl, `accept_ra` and `forwarding`).
pub(super) fn forwarding(primary: &str) -> [Setting; 3] {
    let accept_ra = format!("ipv6/conf/{primary}/accept_ra");
    [
        Setting::new("ipv6/conf/all/disable_ipv6", "0", IfAbsent::Fail),
        Setting::new(accept_ra, "2", IfAbsent::Fail),
        Setting::new("ipv6/conf/all/forwarding", "1", IfAbsent::Fail),
    ]
}

/// For the link of a secondary ENI, before it is up. No advertisements: they would give the node a second way out, in
/// the main table. No duplicate address detection: its link-local address, which asks for the VPC's router, must be
/// there with the link, and nobody else can have it.
pub(super) fn quiet(link: &str) -> [Setting; 3] {
    [
        ("disable_ipv6", "0"),
        ("accept_ra", "0"),
        ("accept_dad", "0"),
    ]
    .map(|(setting, value)| {
        let key = format!("ipv6/conf/{link}/{setting}");
        Setting::new(key, value, IfAbsent::Fail)
    })
}

/// The way out of an ENI's table.
pub(super) fn default_route(index: u32, table: u32) -> Route {
    Route {
        destination: ipnet::Ipv6Net::default().into(),
        table,
        way: Way::Via {
            gateway: VPC_ROUTER_V6.into(),
            index,
        },
    }
}
