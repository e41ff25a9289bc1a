//! A secondary ENI: its link, address, table and rules.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressFlags;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, Prop,
};
use rustix::io::Errno;
use tokio::time::Instant;

use super::{EniPlan, Host, HostError, ipv6, rule};
use crate::layout::{ENI_MARK_MASK, Mac, Place, RULE_ENI, RULE_ENI_PRIMARY};
use crate::rtnl::{self, Route, Rule, Selector, Step, Way};
use crate::sysctl::{IfAbsent, Setting};

/// A link of the host.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Other names of it.
    pub(super) also: Vec<String>,
    pub(super) mac: Option<Mac>,
    pub(super) group: u32,
    pub(super) is_up: bool,
    pub(super) mtu: u32,
    /// It is made on top of another link, and has its MAC.
    is_stacked: bool,
}

fn alternative_name(prop: Prop) -> Option<String> {
    match prop {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    }
}

impl Link {
    pub(super) fn read(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = message else {
            return None;
        };
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            also: Vec::new(),
            mac: None,
            group: 0,
            is_up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            is_stacked: false,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::Address(address) => {
                    link.mac = <[u8; 6]>::try_from(address).ok().map(Mac);
                }
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::PropList(props) => {
                    link.also = props.into_iter().filter_map(alternative_name).collect();
                }
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::LinkInfo(info) => link.is_stacked = info.iter().any(is_stacked),
                _ => {}
            }
        }
        Some(link)
    }

    /// Whether it is the ENI with this MAC.
    pub(super) fn is_eni(&self, mac: Mac) -> bool {
        self.mac == Some(mac) && !self.is_stacked
    }

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
        // A place that is none is told before it is waited for.
        mark_rule(eni.place)?;
        let link = self.find_link(eni.mac, deadline).await?;
        let _shared = self.order.read().await;
        let Link { index, name, .. } = &link;
        let index = *index;
        for setting in eni.settings(name) {
            setting.apply()?;
        }

        let mut steps: Vec<_> = link.bring_up(eni.mtu).into_iter().collect();
        // A DHCP client or cloud-init may have given the link more addresses, even the pods': the node
        // would take their packets for its own. They go first, as ours may be secondary to one of them.
        let mut others = self.addresses(index, AddressFamily::Inet).await?;
        others.retain(|found| *found != eni.own());
        if eni.ipv6 {
            others.extend(self.addresses(index, AddressFamily::Inet6).await?);
        }
        for address in others {
            steps.push(rtnl::delete_address(index, address));
        }
        steps.push(eni.add_own(index));
        steps.push(rtnl::delete_connected_route(index, eni.subnet.trunc()));

        steps.extend(eni.routes(index).into_iter().map(Route::settle));
        steps.extend(eni.rules()?.map(Rule::ensure));
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
        let _shared = self.order.read().await;
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
            let request = rtnl::links(LinkMessage::default());
            let links = self.rtnl.dump("list the links", request).await?;
            let mut links = links.into_iter().filter_map(Link::read);
            if let Some(link) = links.find(|link| link.is_eni(mac)) {
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
    pub(super) async fn addresses(
        &self,
        index: u32,
        family: AddressFamily,
    ) -> Result<Vec<IpNet>, HostError> {
        let request = rtnl::addresses_of(index, family);
        let found = self.rtnl.dump("list the link's addresses", request).await?;
        let global = found
            .into_iter()
            .filter_map(|address| rtnl::global_address(address, index));
        Ok(global.collect())
    }
}

impl EniPlan {
    /// Its own address, with the length of its subnet.
    pub(super) fn own(&self) -> IpNet {
        Ipv4Net::new_assert(self.primary_address, self.subnet.prefix_len()).into()
    }

    pub(super) fn add_own(&self, index: u32) -> Step {
        // The subnet is reached by the ENI's own table, so the main one gets no route to it.
        let flags = AddressFlags::Noprefixroute;
        rtnl::add_address(index, self.own(), flags).tolerating(Errno::EXIST)
    }

    /// The routes of its table, in the order in which the kernel takes them.
    pub(super) fn routes(&self, index: u32) -> Vec<Route> {
        let table = self.place.table();
        let router = router(self.subnet);
        let to_router = Route {
            destination: IpNet::V4(router.into()),
            table,
            way: Way::Link { index },
        };
        let default = Route {
            destination: Ipv4Net::default().into(),
            table,
            way: Way::Via {
                gateway: router.into(),
                index,
            },
        };
        let ipv6 = self.ipv6.then(|| ipv6::default_route(index, table));
        [to_router, default].into_iter().chain(ipv6).collect()
    }

    pub(super) fn rules(&self) -> Result<impl Iterator<Item = Rule>, HostError> {
        let own_traffic = from_host(self.primary_address);
        let own = rule(RULE_ENI_PRIMARY, own_traffic, self.place.table());
        Ok([own].into_iter().chain(mark_rule(self.place)?))
    }

    /// The settings of its link.
    pub(super) fn settings(&self, link: &str) -> Vec<Setting> {
        let ipv6 = self.ipv6.then(|| ipv6::quiet(link));
        let ipv6 = ipv6.into_iter().flatten();
        std::iter::once(loose_reverse_path_filter(link))
            .chain(ipv6)
            .collect()
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
pub(super) fn loose_reverse_path_filter(link: &str) -> Setting {
    Setting::new(format!("ipv4/conf/{link}/rp_filter"), "2", IfAbsent::Fail)
}

/// The VPC's router: the subnet's second address (VPC user guide, "Subnet CIDR blocks").
fn router(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1))
}

fn is_stacked(info: &LinkInfo) -> bool {
    use InfoKind::{Bond, Bridge, IpVlan, MacVlan, MacVtap, Vlan};
    matches!(
        info,
        LinkInfo::Kind(Bond | Bridge | IpVlan | MacVlan | MacVtap | Vlan)
    )
}
