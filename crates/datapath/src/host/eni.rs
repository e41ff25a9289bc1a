//! A secondary ENI: its link, address, table and rules.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressFlags;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rustix::io::Errno;
use tokio::time::Instant;

use super::{EniPlan, Host, HostError, ipv6, rule};
use crate::layout::{ENI_MARK_MASK, Mac, Place, RULE_ENI, RULE_ENI_PRIMARY};
use crate::rtnl::{self, Route, Rule, Selector, Step, Way};
use crate::sysctl::{self, IfAbsent};

/// A link of the host, as far as an ENI needs it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    mtu: u32,
    is_up: bool,
}

impl Link {
    /// Up, with this MTU in bytes; nothing when it is so already.
    pub(super) fn bring_up(&self, mtu: u32) -> Option<Step> {
        if self.mtu == mtu && self.is_up {
            return None;
        }
        let mut change = rtnl::up(rtnl::indexed(self.index));
        change.attributes.push(LinkAttribute::Mtu(mtu));
        let what = format!("bring up link {} with MTU {mtu}", self.name);
        Some(rtnl::set_link(what, change))
    }
}

impl Host {
    /// Sets up a secondary ENI: waits for its link until `deadline`, then MTU, up, `rp_filter` 2, its
    /// primary address and no other, its table and its rules. What is right already is left alone.
    ///
    /// # Errors
    /// When the link does not come, or the kernel refuses a step.
    pub async fn set_up_eni(&self, eni: &EniPlan, deadline: Duration) -> Result<(), HostError> {
        let mark_rule = mark_rule(eni.place)?;
        let table = eni.place.table();
        let link = self.find_link(eni.mac, deadline).await?;
        let Link { index, name, .. } = &link;
        let index = *index;
        loosen_reverse_path_filter(name)?;
        if eni.ipv6 {
            ipv6::quieten(name)?;
        }

        let mut steps: Vec<_> = link.bring_up(eni.mtu).into_iter().collect();
        // A DHCP client or cloud-init may have given the link more addresses, even the pods': the node
        // would take their packets for its own. They go first, as ours may be secondary to one of them.
        let own = Ipv4Net::new_assert(eni.primary_address, eni.subnet.prefix_len());
        let mut others = self.addresses(index, AddressFamily::Inet).await?;
        others.retain(|found| *found != IpNet::V4(own));
        if eni.ipv6 {
            others.extend(self.addresses(index, AddressFamily::Inet6).await?);
        }
        for address in others {
            steps.push(rtnl::delete_address(index, address));
        }
        // The subnet is reached by the ENI's own table, so the main one gets no route to it.
        let flags = AddressFlags::Noprefixroute;
        steps.push(rtnl::add_address(index, own, flags).tolerating(Errno::EXIST));
        steps.push(rtnl::delete_connected_route(index, eni.subnet.trunc()));

        let router = router(eni.subnet);
        let on_link = Way::Link { index };
        let by_router = Way::Via {
            gateway: router.into(),
            index,
        };
        steps.push(
            Route {
                destination: IpNet::V4(router.into()),
                table,
                way: on_link,
            }
            .put(),
        );
        steps.push(
            Route {
                destination: Ipv4Net::default().into(),
                table,
                way: by_router,
            }
            .put(),
        );
        if eni.ipv6 {
            steps.push(ipv6::default_route(index, table).ensure());
        }
        let own_traffic = from_host(eni.primary_address);
        steps.push(rule(RULE_ENI_PRIMARY, own_traffic, table).ensure());
        steps.extend(mark_rule.map(Rule::ensure));
        self.rtnl.run(steps).await?;
        Ok(())
    }

    /// The opposite of [`Host::set_up_eni`], before EC2 takes the ENI away: its rules go. What is on its link (its
    /// address, the routes of its table) goes with the link. Repeats are harmless.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn take_down_eni(
        &self,
        place: Place,
        primary_address: Ipv4Addr,
    ) -> Result<(), HostError> {
        let own_traffic = from_host(primary_address);
        let own = rule(RULE_ENI_PRIMARY, own_traffic, place.table());
        let marked = mark_rule(place)?.map(Rule::delete);
        let steps = marked.into_iter().chain([own.delete()]);
        self.rtnl.run(steps.collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// The link with this MAC, waited for until `patience` is over. An attached ENI appears within a second or
    /// two, so it is looked for ever more rarely.
    pub(super) async fn find_link(&self, mac: Mac, patience: Duration) -> Result<Link, HostError> {
        const FIRST: Duration = Duration::from_millis(20);
        const LONGEST: Duration = Duration::from_millis(500);
        let begin = Instant::now();
        let mut pause = FIRST;
        loop {
            let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
            let links = self.rtnl.dump("list the links", request).await?;
            if let Some(link) = links.into_iter().find_map(|link| eni_link(link, mac)) {
                return Ok(link);
            }
            let left = patience.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(HostError::LinkMissing {
                    mac,
                    waited: patience,
                });
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// The global addresses of a link.
    async fn addresses(&self, index: u32, family: AddressFamily) -> Result<Vec<IpNet>, HostError> {
        let request = rtnl::addresses_of(index, family);
        let found = self.rtnl.dump("list the link's addresses", request).await?;
        let global = found
            .into_iter()
            .filter_map(|address| rtnl::global_address(address, index));
        Ok(global.collect())
    }
}

fn from_host(address: Ipv4Addr) -> Selector {
    Selector::From(IpNet::V4(address.into()))
}

/// The rule that leads what bears the mark of a secondary ENI to its table; none on cards beyond the first, where nothing
/// is marked.
pub(super) fn mark_rule(place: Place) -> Result<Option<Rule>, HostError> {
    match place.mark() {
        Some(mark) => {
            let mask = ENI_MARK_MASK;
            let selector = Selector::Mark { mark, mask };
            Ok(Some(rule(RULE_ENI, selector, place.table())))
        }
        None if place.card > 0 && place.device_index < 100 => Ok(None),
        None => Err(HostError::Place(place)),
    }
}

/// Strict filtering asks for the way back without the mark, finds the primary ENI, and drops all that comes
/// to pods by others. 2 is loose; the kernel takes the larger of this and `all`.
pub(super) fn loosen_reverse_path_filter(link: &str) -> Result<(), HostError> {
    Ok(sysctl::set(
        &format!("ipv4/conf/{link}/rp_filter"),
        "2",
        IfAbsent::Fail,
    )?)
}

/// The VPC's router: the subnet's second address (VPC user guide, "Subnet CIDR blocks").
fn router(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1))
}

/// The message as a link, if it has the MAC and is the ENI itself and nothing stacked on it, which would
/// have the same.
fn eni_link(message: RouteNetlinkMessage, mac: Mac) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let is_up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        is_up,
    };
    let mut has_mac = false;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::Address(address) => has_mac = address == mac.0,
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::LinkInfo(info) if info.iter().any(is_stacked) => return None,
            _ => {}
        }
    }
    has_mac.then_some(link)
}

fn is_stacked(info: &LinkInfo) -> bool {
    use InfoKind::{Bond, Bridge, IpVlan, MacVlan, MacVtap, Vlan};
    matches!(
        info,
        LinkInfo::Kind(Bond | Bridge | IpVlan | MacVlan | MacVtap | Vlan)
    )
}
