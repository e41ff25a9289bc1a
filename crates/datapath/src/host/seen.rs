//! What the kernel has of what ipamd makes. Nothing is changed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteProtocol;

use super::eni::Link;
use super::{EniPlan, Host, HostError, ipv6};
use crate::layout::{MAIN_TABLE, Mac, PODS_TABLE};
use crate::rtnl::{self, Route, Rule};

/// One look at all of it.
#[derive(Debug)]
pub(super) struct Seen {
    links: Vec<Link>,
    pub(super) rules: BTreeSet<Rule>,
    /// Of the table of pods and of each ENI.
    pub(super) routes: BTreeSet<Route>,
    /// Permanent ones, with their links.
    pub(super) neighbours: BTreeSet<(u32, IpAddr)>,
}

impl Seen {
    pub(super) fn eni(&self, mac: Mac) -> Option<&Link> {
        self.links.iter().find(|link| link.is_eni(mac))
    }

    pub(super) fn named(&self, name: &str) -> Option<&Link> {
        let called = |link: &&Link| link.name == name || link.also.iter().any(|it| it == name);
        self.links.iter().find(called)
    }
}

impl Host {
    /// Lists that changed while they were read are read again, and are an error if that does not help.
    pub(super) async fn see(&self, enis: &[EniPlan]) -> Result<Seen, HostError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.rtnl.dump("list the links", request).await?;
        let mut seen = Seen {
            links: links.into_iter().filter_map(Link::read).collect(),
            rules: BTreeSet::new(),
            routes: BTreeSet::new(),
            neighbours: BTreeSet::new(),
        };
        let tables = enis.iter().map(|eni| eni.place.table());
        let tables: BTreeSet<u32> = tables.chain([PODS_TABLE]).collect();
        for family in ipv6::families() {
            let rules = rtnl::rules(family);
            let rules = self.rtnl.dump("list the rules", rules).await?;
            seen.rules.extend(rules.into_iter().filter_map(Rule::read));
            for table in &tables {
                let what = format!("list the routes of table {table}");
                let filter = rtnl::routes_in(family, *table, None);
                let routes = self.rtnl.dump(&what, filter).await?;
                let routes = routes.iter().filter_map(Route::read);
                // Without the right filter the kernel lists all tables.
                seen.routes.extend(routes.filter(|it| it.table == *table));
            }
            let mut filter = NeighbourMessage::default();
            filter.header.family = family;
            let request = RouteNetlinkMessage::GetNeighbour(filter);
            let neighbours = self.rtnl.dump("list the neighbours", request).await?;
            let neighbours = neighbours.iter().filter_map(rtnl::read_neighbour);
            seen.neighbours.extend(neighbours);
        }
        Ok(seen)
    }

    /// Whether the kernel has a route to the ENI's subnet in the main table, which it makes with an address.
    pub(super) async fn has_connected_route(
        &self,
        index: u32,
        subnet: Ipv4Net,
    ) -> Result<bool, HostError> {
        let main = MAIN_TABLE;
        let what = format!("list the routes of table {main}");
        let filter = rtnl::routes_in(AddressFamily::Inet, main, Some(index));
        let routes = self.rtnl.dump(&what, filter).await?;
        let to_subnet = IpNet::from(subnet.trunc());
        Ok(routes.iter().any(|route| {
            rtnl::protocol_of(route) == Some(RouteProtocol::Kernel)
                && Route::read(route).is_some_and(|it| it.destination == to_subnet)
        }))
    }
}
