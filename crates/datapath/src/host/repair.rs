//! Comparing the kernel with what should be there, and putting back what is not: that, and nothing else.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::LinkAttribute;
use rustix::io::Errno;
use tokio::sync::RwLockWriteGuard;

use super::eni::Link;
use super::seen::Seen;
use super::{EgressPlan, EniPlan, Host, HostError, NodePlan, ipv6, sources, unreachable};
use crate::layout::{self, LINK_GROUP, Mac, PODS_TABLE};
use crate::nft::{Change, Others};
use crate::rtnl::{self, Route, Rule, Step, Way};
use crate::sysctl::Setting;

/// All that ipamd has made in the kernel, and what plugins have made on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What all pods share, with what is held.
    pub node: NodePlan,
    /// How pods reach the family that they have no address in, if at all.
    pub egress: Option<EgressPlan>,
    /// The secondary ENIs that are set up.
    pub enis: Vec<EniPlan>,
    /// The pods whose links are looked after, where they are there.
    pub pods: Vec<PodPlan>,
}

/// A pod, as far as the host has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlan {
    /// The sandbox's id (`CNI_CONTAINERID`).
    pub container_id: String,
    /// The interface's name in the pod (`CNI_IFNAME`).
    pub ifname: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A kind of thing that can be missing, in the order in which they are put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A setting under `/proc/sys`.
    Setting,
    /// An ENI's link: down, or with another MTU.
    Link,
    /// An ENI's address: its own is gone, or it has others.
    Address,
    /// A route of an ENI's table, or the `unreachable` one of what is held.
    Route,
    /// A rule.
    Rule,
    /// The nftables table.
    Nftables,
    /// The host's end of a pod's link, or the route or neighbour that leads to the pod.
    Pod,
}

impl Part {
    /// Its name, for logs and counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Nftables => "nftables",
            Self::Pod => "pod",
        }
    }
}

/// One thing that is missing or wrong.
#[derive(Debug)]
pub struct Fault {
    part: Part,
    what: String,
    fix: Fix,
}

enum Fix {
    Setting(Setting),
    Steps(Vec<Step>),
    Nftables(Change),
}

impl fmt::Debug for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(setting) => write!(f, "set {setting}"),
            Self::Steps(steps) => write!(f, "{} steps", steps.len()),
            Self::Nftables(change) => write!(f, "{change:?}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Fault {
    /// What kind of thing it is.
    #[must_use]
    pub fn part(&self) -> Part {
        self.part
    }

    pub(super) fn steps(part: Part, what: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            part,
            what: what.into(),
            fix: Fix::Steps(steps),
        }
    }
}

/// While it lives, this [`Host`] makes and undoes nothing else: what is wanted can be asked for, compared and put
/// back without anything going out of date in between.
#[derive(Debug)]
pub struct Turn<'a> {
    host: &'a Host,
    _alone: RwLockWriteGuard<'a, ()>,
}

impl Host {
    /// Waits until nothing is being made or undone, and keeps it so.
    pub async fn turn(&self) -> Turn<'_> {
        Turn {
            host: self,
            _alone: self.order.write().await,
        }
    }
}

impl Turn<'_> {
    /// What is missing or wrong, and nothing that is more than wanted: that may be on its way. An ENI without a link, and
    /// a pod without one, are not looked after.
    ///
    /// # Errors
    /// When the primary ENI is not there, or the kernel does not tell.
    pub async fn look(&self, wanted: &Wanted) -> Result<Vec<Fault>, HostError> {
        let seen = self.host.see(&wanted.enis).await?;
        let primary = seen
            .eni(wanted.node.primary_mac)
            .ok_or(HostError::LinkMissing {
                mac: wanted.node.primary_mac,
                waited: std::time::Duration::ZERO,
            })?;
        let mut faults = Vec::new();
        settings(&mut faults, wanted.node.settings(&primary.name));
        if let Some(EgressPlan::V6 { .. }) = wanted.egress {
            settings(&mut faults, ipv6::forwarding(&primary.name).into());
        }
        faults.extend(down(primary, wanted.node.primary_mtu));
        for eni in &wanted.enis {
            if let Some(link) = seen.eni(eni.mac) {
                self.look_at_eni(&mut faults, &seen, eni, link).await?;
            }
        }
        look_at_node(&mut faults, &seen, &wanted.node)?;
        let rules = wanted.node.ruleset(primary.index);
        let marks = wanted.node.marks();
        let ipv4 = self.host.nft.compare(&rules, &marks, Others::Stay).await?;
        let ipv6 = if wanted.node.ipv6 {
            self.host.nft.compare_v6(primary.index).await?
        } else {
            None
        };
        let egress = self.host.compare_egress(wanted.egress).await?;
        let tables = ipv4.into_iter().chain(ipv6).chain(egress);
        faults.extend(tables.map(|change| Fault {
            part: Part::Nftables,
            what: change.what.clone(),
            fix: Fix::Nftables(change),
        }));
        let pods = wanted.pods.iter();
        faults.extend(pods.filter_map(|pod| look_at_pod(&seen, pod)));
        if let Some(plan) = wanted.egress {
            let pods = self.host.look_at_egress(&seen, &wanted.pods, plan.egress());
            faults.extend(pods.await?);
        }
        Ok(faults)
    }

    /// Puts it back.
    ///
    /// # Errors
    /// When the kernel refuses a step; the others are taken.
    pub async fn mend(&self, mut faults: Vec<Fault>) -> Result<(), HostError> {
        faults.sort_by_key(Fault::part);
        let mut failure = None;
        for fault in faults {
            let mended = match fault.fix {
                Fix::Setting(setting) => setting.apply().map_err(HostError::from),
                Fix::Steps(steps) => match self.host.rtnl.run(steps).await {
                    // The pod's link has gone since.
                    Err(gone) if fault.part == Part::Pod && gone.errno() == Some(Errno::NODEV) => {
                        Ok(())
                    }
                    done => done.map(drop).map_err(HostError::from),
                },
                Fix::Nftables(change) => {
                    let done = self.host.nft.carry_out(change).await;
                    done.map_err(HostError::from)
                }
            };
            if let Err(error) = mended {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn look_at_eni(
        &self,
        faults: &mut Vec<Fault>,
        seen: &Seen,
        eni: &EniPlan,
        link: &Link,
    ) -> Result<(), HostError> {
        let Link { index, name, .. } = link;
        settings(faults, eni.settings(name));
        faults.extend(down(link, eni.mtu));

        let mut found = self.host.addresses(*index, AddressFamily::Inet).await?;
        let has_own = found.contains(&eni.own());
        found.retain(|address| *address != eni.own());
        if eni.ipv6 {
            found.extend(self.host.addresses(*index, AddressFamily::Inet6).await?);
        }
        for other in &found {
            // Ours goes with it where it is secondary to it, and routes with ours.
            let mut steps = vec![rtnl::delete_address(*index, *other), eni.add_own(*index)];
            steps.extend(eni.routes(*index).into_iter().map(Route::settle));
            let what = format!("{name} has address {other}, which is not the ENI's own");
            faults.push(Fault::steps(Part::Address, what, steps));
        }
        if !has_own {
            let what = format!("address {} of {name}", eni.own());
            faults.push(Fault::steps(Part::Address, what, vec![eni.add_own(*index)]));
        }
        if self.host.has_connected_route(*index, eni.subnet).await? {
            let subnet = eni.subnet.trunc();
            let what = format!("the main table has a route {subnet} by {name}");
            let step = rtnl::delete_connected_route(*index, subnet);
            faults.push(Fault::steps(Part::Route, what, vec![step]));
        }
        let missing = eni.routes(*index).into_iter();
        let missing = missing.filter(|route| !seen.routes.contains(route));
        faults.extend(missing.map(|it| Fault::steps(Part::Route, it.describe(), vec![it.put()])));
        rules(faults, seen, eni.rules()?);
        Ok(())
    }
}

/// What all pods share, but for the nftables table.
fn look_at_node(faults: &mut Vec<Fault>, seen: &Seen, node: &NodePlan) -> Result<(), HostError> {
    let held = node.held.iter().flat_map(|eni| &eni.slots);
    let missing = held.map(|net| unreachable(*net));
    let missing = missing.filter(|route| !seen.routes.contains(route));
    faults.extend(missing.map(|it| Fault::steps(Part::Route, it.describe(), vec![it.ensure()])));
    rules(faults, seen, node.rules()?);
    for eni in &node.held {
        rules(faults, seen, sources::rules(eni.place, &eni.slots));
    }
    Ok(())
}

/// The host's end of a pod's link, and how the host finds the pod behind it.
fn look_at_pod(seen: &Seen, pod: &PodPlan) -> Option<Fault> {
    let link = seen.of_pod(pod)?;
    let (host_mac, pod_mac) = layout::link_macs(&pod.container_id, &pod.ifname);
    let index = link.index;
    let (mut what, mut steps) = (Vec::new(), Vec::new());
    if !link.is_up || link.mac != Some(host_mac) || link.group != LINK_GROUP {
        what.push("its state, MAC or group".to_owned());
        steps.push(as_made(index, &link.name, host_mac));
    }
    for address in &pod.addresses {
        // One that somebody has changed is left alone: it may be after a change of the pod's MAC.
        if !seen.neighbours.contains(&(index, *address)) {
            what.push(format!("neighbour {address}"));
            steps.push(rtnl::permanent_neighbour(index, *address, pod_mac));
        }
        let route = Route {
            destination: IpNet::from(*address),
            table: PODS_TABLE,
            way: Way::Link { index },
        };
        if !seen.routes.contains(&route) {
            what.push(route.describe());
            steps.push(route.put());
        }
    }
    if steps.is_empty() {
        return None;
    }
    let what = format!("pod link {}: {}", link.name, what.join(", "));
    Some(Fault::steps(Part::Pod, what, steps))
}

/// The host's end of a pod's link as the plugin makes it.
fn as_made(index: u32, name: &str, mac: Mac) -> Step {
    let mut change = rtnl::up(rtnl::indexed(index));
    change.attributes.extend([
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Group(LINK_GROUP),
    ]);
    rtnl::set_link(format!("bring up link {name} with MAC {mac}"), change)
}

fn settings(faults: &mut Vec<Fault>, wanted: Vec<Setting>) {
    let off = wanted.into_iter().filter(Setting::is_off);
    faults.extend(off.map(|setting| Fault {
        part: Part::Setting,
        what: format!("setting {setting}"),
        fix: Fix::Setting(setting),
    }));
}

fn rules(faults: &mut Vec<Fault>, seen: &Seen, wanted: impl IntoIterator<Item = Rule>) {
    let missing = wanted.into_iter().filter(|it| !seen.rules.contains(it));
    for rule in missing {
        // An ENI's rule is wanted by its slots and by its link.
        let what = rule.describe();
        if faults.iter().all(|fault| fault.what != what) {
            faults.push(Fault::steps(Part::Rule, what, vec![rule.ensure()]));
        }
    }
}

fn down(link: &Link, mtu: u32) -> Option<Fault> {
    let step = link.bring_up(mtu)?;
    let what = format!("link {} up with MTU {mtu}", link.name);
    Some(Fault::steps(Part::Link, what, vec![step]))
}
