//! Making a pod's link: all of it that needs no address.

use std::os::fd::AsRawFd;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rustix::io::Errno;

use super::present::{absent, ask};
use super::{PodError, PodWiring, Sides, delete_any};
use crate::layout::{self, LINK_GROUP, VethPrefix};
use crate::netlink::KernelError;
use crate::rtnl::{self, Step};
use crate::sysctl::{self, IfAbsent, SysctlError};

/// What of a [`PodLink`](super::PodLink) is known before the pod has addresses.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    /// As in [`PodLink`](super::PodLink).
    pub container_id: &'a str,
    /// As in [`PodLink`](super::PodLink).
    pub ifname: &'a str,
    /// As in [`PodLink`](super::PodLink).
    pub veth_prefix: &'a VethPrefix,
    /// As in [`PodLink`](super::PodLink).
    pub alias: &'a str,
    /// The MTU that the pod will have, as far as is known, in bytes. To give it another one later costs time.
    pub mtu: u32,
}

/// A link that [`Sides::make`] made: both of its ends are up, and have no address. Whoever drops it without
/// [`Sides::wire`] or [`Sides::unmake`] leaves it, for [`disconnect`](super::disconnect).
#[derive(Debug)]
#[must_use]
pub struct Ends {
    pub(super) wiring: PodWiring,
    /// As it was when it had come up.
    pub(super) host: LinkMessage,
    /// As it was just before it came up.
    pub(super) pod: LinkMessage,
}

impl Sides<'_> {
    /// Makes the link, a veth whose pod end is born in the pod, and brings it up. It needs no address, so it can be made while
    /// one is asked for. On failure nothing is left, unless the error is [`PodError::RollBack`].
    ///
    /// # Errors
    /// When the interface exists already, or the kernel refuses.
    pub async fn make(&self, new: &NewLink<'_>) -> Result<Ends, PodError> {
        let NewLink {
            container_id,
            ifname,
            veth_prefix,
            ..
        } = *new;
        let (host_mac, pod_mac) = layout::link_macs(container_id, ifname);
        let wiring = PodWiring {
            host_veth: veth_prefix.host_veth_name(container_id, ifname),
            host_mac,
            pod_mac,
        };
        let created = match self.create(&wiring, new).await {
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                // Either end's name is taken. The host's is ours, so an end that is not in this namespace is
                // what a sandbox of the same id left, and goes.
                if self.has(ifname).await? {
                    return Err(PodError::InterfaceExists(ifname.to_owned()));
                }
                delete_any(&self.host, veth_prefix, container_id, ifname).await?;
                self.create(&wiring, new).await
            }
            created => created,
        };
        let made = match created {
            Ok(()) => self.bring_up(&wiring, new).await,
            // It refused, so there is nothing.
            Err(error) if error.errno().is_some() => return Err(error.into()),
            Err(unanswered) => Err(unanswered.into()),
        };
        match made {
            Ok((host, pod)) => Ok(Ends { wiring, host, pod }),
            Err(failure) => Err(self.undo(&wiring, failure).await),
        }
    }

    /// Makes the veth in one message, both ends in their places and down. A veth that is moved or renamed
    /// afterwards costs two orders of magnitude more; and one that is given its MTU afterwards, a look at all IPv6 routes of the node
    /// (rt6_mtu_change in net/ipv6/route.c).
    async fn create(&self, wiring: &PodWiring, new: &NewLink<'_>) -> Result<(), KernelError> {
        let NewLink { ifname, mtu, .. } = *new;
        let mut peer = rtnl::named(ifname);
        peer.attributes.extend([
            LinkAttribute::Address(wiring.pod_mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsFd(self.netns.fd().as_raw_fd()),
        ]);
        peer.attributes.extend(ONE_QUEUE);
        let mut veth = rtnl::named(&wiring.host_veth);
        veth.attributes.extend([
            LinkAttribute::Address(wiring.host_mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Group(LINK_GROUP),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        veth.attributes.extend(ONE_QUEUE);
        let what = format!(
            "make the link {} with its other end {ifname} in {} (MTU {mtu})",
            wiring.host_veth,
            self.netns.path().display()
        );
        let message = RouteNetlinkMessage::NewLink(veth);
        let made = Step::new(what, message, NLM_F_CREATE | NLM_F_EXCL);
        self.host.run(vec![made]).await?;
        Ok(())
    }

    /// Brings up both ends, and answers the host's and the pod's.
    async fn bring_up(
        &self,
        wiring: &PodWiring,
        new: &NewLink<'_>,
    ) -> Result<(LinkMessage, LinkMessage), PodError> {
        take_no_advertisements(&wiring.host_veth)?;
        if *new.veth_prefix != VethPrefix::default() {
            let also = layout::host_veth_name(new.container_id, new.ifname);
            let named = rtnl::add_alternative_name(&wiring.host_veth, also);
            self.host.run(vec![named]).await?;
        }
        // One right after the other, and no question to the pod's end in between: an end that is up while the other is not has
        // no carrier, and once the kernel notes that, which a question has it do, it waits for all CPUs with the lock that all
        // wiring needs (dev_deactivate in net/sched/sch_generic.c).
        let name = new.ifname;
        let steps = vec![prepare(name), ask(name), raise(name, None)];
        let pod = rtnl::link_of(self.pod.run(steps).await?).ok_or_else(|| absent(name))?;
        let name = &wiring.host_veth;
        let steps = vec![prepare(name), raise(name, Some(new.alias)), ask(name)];
        let host = rtnl::link_of(self.host.run(steps).await?).ok_or_else(|| absent(name))?;
        Ok((host, pod))
    }
}

/// As many as a veth uses unless it is told to use more. Where nobody says so, the kernel first makes one for each CPU, and
/// then waits for all CPUs, with the lock that all wiring needs, to use one alone (veth_init_queues in drivers/net/veth.c).
const ONE_QUEUE: [LinkAttribute; 2] =
    [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

/// For the node's end of a link, which has IPv6 also if the pod has none: it must not take router advertisements. Nobody but
/// the node could send the pod any, and a look at the settings in a pod's namespace makes the same look of
/// all others slower ([`sysctl::set_all`]): so that end is left as it is where the pod has no IPv6.
fn take_no_advertisements(link: &str) -> Result<(), SysctlError> {
    let folder = format!("ipv6/conf/{link}");
    sysctl::set_all(&folder, &["accept_ra"], "0", IfAbsent::Skip)
}

/// What a new link needs before it comes up. A link without IPv6 takes it for an address family that there is not: one with an
/// MTU below [`LEAST_MTU_V6`](crate::layout::LEAST_MTU_V6), or any on a node that has none.
fn prepare(name: &str) -> Step {
    let mut prepared = rtnl::named(name);
    prepared.attributes.push(rtnl::no_link_local());
    rtnl::set_link(format!("prepare link {name}"), prepared).tolerating(Errno::AFNOSUPPORT)
}

fn raise(name: &str, alias: Option<&str>) -> Step {
    let mut raised = rtnl::up(rtnl::named(name));
    let alias = alias.map(|alias| LinkAttribute::IfAlias(cut(alias).to_owned()));
    raised.attributes.extend(alias);
    rtnl::set_link(format!("bring up link {name}"), raised)
}

/// At most the 255 bytes that the kernel takes for an alias (IFALIASZ), and whole characters.
fn cut(alias: &str) -> &str {
    alias.get(..alias.floor_char_boundary(255)).unwrap_or(alias)
}
