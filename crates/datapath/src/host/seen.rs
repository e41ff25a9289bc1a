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
use super::repair::PodPlan;
use super::{EniPlan, Host, HostError, ipv6};
use crate::layout::{self, MAIN_TABLE, Mac, PODS_TABLE};
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

    /// The host's end of the pod's link, whatever its prefix.
    pub(super) fn of_pod(&self, pod: &PodPlan) -> Option<&Link> {
        let name = layout::host_veth_name(&pod.container_id, &pod.ifname);
        let called = |link: &&Link| link.name == name || link.also.contains(&name);
        self.links.iter().find(called)
    }
}

impl Host {
    /// Lists that changed while they were read are read again, and are an error if that does not help.
    pub(super) async fn see(&self, enis: &[EniPlan]) -> Result<Seen, HostError> {
        let request = rtnl::links(LinkMessage::default());
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
                seen.routes.extend(self.routes(family, *table).await?);
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

    /// The routes of a table.
    pub(super) async fn routes(
        &self,
        family: AddressFamily,
        table: u32,
    ) -> Result<impl Iterator<Item = Route>, HostError> {
        let what = format!("list the routes of table {table}");
        let filter = rtnl::routes_in(family, table, None);
        let routes = self.rtnl.dump(&what, filter).await?;
        let routes = routes.into_iter().filter_map(|it| Route::read(&it));
        // Without the right filter the kernel lists all tables.
        Ok(routes.filter(move |it| it.table == table))
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
