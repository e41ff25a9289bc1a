//! The node's part in [egress](crate::pod::egress): it forwards, and translates.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::repair::{Fault, Part, PodPlan};
use super::seen::Seen;
use super::{Host, HostError, ipv6};
use crate::layout::{self, MAIN_TABLE, Mac};
use crate::nft::{self, Change};
use crate::pod::egress::Egress;
use crate::rtnl::{self, Route, Way};

/// What pods without the family are translated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressPlan {
    /// The primary ENI's own IPv4 address, for pods with IPv6 alone.
    V4(Ipv4Addr),
    /// The primary ENI's own IPv6 address, for pods with IPv4 alone.
    V6 {
        /// The address.
        address: Ipv6Addr,
        /// The MAC of the primary ENI, whose link must keep its way out when the node forwards IPv6.
        primary_mac: Mac,
    },
}

impl EgressPlan {
    /// The family that pods reach by it.
    #[must_use]
    pub const fn egress(self) -> Egress {
        match self {
            Self::V4(_) => Egress::V4,
            Self::V6 { .. } => Egress::V6,
        }
    }
}

impl Host {
    /// Lets pods reach the family that they have no address in, or no longer: one nftables table of that family, with
    /// as many rules for one pod as for all. What is right already is left alone. After [`Host::prepare`].
    ///
    /// # Errors
    /// When the primary ENI is not there, or the kernel refuses a step.
    pub async fn prepare_egress(&self, plan: Option<EgressPlan>) -> Result<(), HostError> {
        if let Some(EgressPlan::V6 { primary_mac, .. }) = plan {
            let primary = self.find_link(primary_mac, Duration::ZERO).await?;
            for setting in ipv6::forwarding(&primary.name) {
                setting.apply()?;
            }
        }
        for change in self.compare_egress(plan).await? {
            self.nft.carry_out(change).await?;
        }
        Ok(())
    }

    /// What makes the tables of both families what they should be.
    pub(super) async fn compare_egress(
        &self,
        plan: Option<EgressPlan>,
    ) -> Result<Vec<Change>, HostError> {
        let (mut v4, mut v6) = (None, None);
        match plan {
            Some(EgressPlan::V4(address)) => v4 = Some(address.into()),
            Some(EgressPlan::V6 { address, .. }) => v6 = Some(address.into()),
            None => {}
        }
        let mut changes = Vec::new();
        for (egress, source) in [(Egress::V4, v4), (Egress::V6, v6)] {
            let netlink = self.nft.netlink();
            changes.extend(nft::egress::compare(netlink, egress.range(), source).await?);
        }
        Ok(changes)
    }

    /// Which pods without the family have but one of the two that lead to their node-local address, a route or a
    /// neighbour, and what is missing. Where both are gone, nobody on the host knows the address: CHECK tells.
    pub(super) async fn look_at_egress(
        &self,
        seen: &Seen,
        pods: &[PodPlan],
        egress: Egress,
    ) -> Result<Vec<Fault>, HostError> {
        let range = egress.range();
        let routes = self.routes(egress.family(), MAIN_TABLE).await?;
        let routes: Vec<Route> = routes
            .filter(|it| range.contains(&it.destination))
            .collect();
        let mut faults = Vec::new();
        for pod in pods.iter().filter(|pod| egress.is_for(&pod.addresses)) {
            let Some(link) = seen.of_pod(pod) else {
                continue;
            };
            let (_, pod_mac) = layout::link_macs(&pod.container_id, &pod.ifname);
            let (index, way) = (link.index, Way::Link { index: link.index });
            let all = (index, range.network())..=(index, range.broadcast());
            let known: BTreeSet<IpAddr> = seen.neighbours.range(all).map(|(_, ip)| *ip).collect();
            let mut missing = |what: String, step| {
                let what = format!("pod link {}: {what}", link.name);
                faults.push(Fault::steps(Part::Pod, what, vec![step]));
            };
            for destination in known.iter().copied().map(IpNet::from) {
                // Another pod may have taken it meanwhile.
                if routes.iter().all(|it| it.destination != destination) {
                    let table = MAIN_TABLE;
                    let route = Route {
                        destination,
                        table,
                        way,
                    };
                    missing(route.describe(), route.ensure());
                }
            }
            for route in routes.iter().filter(|it| it.way == way) {
                let address = route.destination.addr();
                if !known.contains(&address) {
                    let step = rtnl::permanent_neighbour(index, address, pod_mac);
                    missing(format!("neighbour {address}"), step);
                }
            }
        }
        Ok(faults)
    }
}
