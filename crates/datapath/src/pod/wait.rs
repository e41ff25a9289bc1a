//! Waiting for workers of the kernel that finish what it has answered for already.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::KernelError;
use crate::rtnl::{self, Rtnl, Step};

/// How long they are waited for, in milliseconds.
const PATIENCE_MS: u32 = 200;

/// Waits until the host's end, seen last as `end`, sends what it is given. An end has no carrier until the other one has come up, and the
/// kernel drops all that is to leave by it until a worker of its own has noted the carrier (net/core/link_watch.c):
/// soon as a rule, but later than the answer to a pod's first packet where the CPUs are busy. Since Linux 6.8
/// the question itself has it noted.
pub(super) async fn until_it_sends(host: &Rtnl, end: &LinkMessage) -> Result<(), KernelError> {
    let sends = |end: &LinkMessage| {
        let up = LinkAttribute::OperState(State::Up);
        end.attributes.contains(&up)
    };
    if sends(end) {
        return Ok(());
    }
    for _ in 0..PATIENCE_MS {
        let asked = rtnl::get_link("find the host's end", rtnl::indexed(end.header.index));
        let found = rtnl::link_of(host.run(vec![asked]).await?);
        if found.as_ref().is_some_and(sends) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Still not: it will, and no pod is refused for it.
    Ok(())
}

/// Waits until the pod takes what is sent to an IPv6 address of it. The kernel adds the local route to one by a worker of
/// its own, also without duplicate address detection (`addrconf_dad_work`), and until then drops what comes.
pub(super) async fn until_it_receives(pod: &Rtnl, address: IpAddr) -> Result<(), KernelError> {
    for _ in 0..PATIENCE_MS {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet6;
        route.header.destination_prefix_length = IpNet::from(address).prefix_len();
        let to = RouteAttribute::Destination(address.into());
        route.attributes.push(to);
        let what = format!("find the way to {address}");
        let asked = Step::new(what, RouteNetlinkMessage::GetRoute(route), 0);
        let found = pod.run(vec![asked]).await?;
        let is_local = |reply: &RouteNetlinkMessage| match reply {
            RouteNetlinkMessage::NewRoute(route) => route.header.kind == RouteType::Local,
            _ => false,
        };
        if found.iter().any(is_local) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
