//! A node with its pods, by either layout.
//!
//! ```text
//! pod one ── node ── pod two
//!             └── eth0, eth1 ── vpc
//! ```

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;

use anyhow::{Context, ensure};
use datapath::layout::VethPrefix;
use datapath::pod::{self, PodLink};
use datapath::{EniPlan, EniSlots, Host, Mac, NetNs, NodePlan, Place, Snat, SourcePorts, layout};
use ipnet::IpNet;
use suites::node::text_of;
use vpc_lab::Netns;

use crate::traffic::{self, Figures, Way};

/// How a node sends pods their packets, and pods' packets to the ENI that they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As `datapath` lays it out.
    Weir,
    /// The same node and the same nftables table, but as in aws-node a rule to each pod at 512, and a rule from each at
    /// 1536, as all pods are on a secondary ENI.
    TwoRulesPerPod,
}

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weir => "Weir",
            Self::TwoRulesPerPod => "two rules per pod",
        }
    }
}

/// A node, ready to be measured.
pub(crate) struct World {
    pub(crate) layout: Layout,
    pub(crate) pods: usize,
    pub(crate) rules: usize,
    one: Netns,
    two: Netns,
    vpc: Netns,
    _node: Netns,
}

const ONE: Ipv4Addr = Ipv4Addr::new(10, 1, 200, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 1, 200, 2);
/// A host of the VPC.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
const ETH0: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
const ETH1: Mac = Mac([2, 0, 0, 0, 0, 0x11]);
/// Of a pod that is silent.
const NOBODY: &str = "02:00:00:00:99:99";

impl World {
    pub(crate) fn new(layout: Layout, pods: usize) -> anyhow::Result<Self> {
        let name = |role: &str| {
            let layout = if layout == Layout::Weir { "w" } else { "r" };
            format!("{role}-{layout}{pods}")
        };
        let (node, vpc) = (Netns::create(&name("node"))?, Netns::create(&name("vpc"))?);
        let (one, two) = (Netns::create(&name("one"))?, Netns::create(&name("two"))?);
        for (end, mac, place) in [("eth0", ETH0, "10.0.0"), ("eth1", ETH1, "10.0.1")] {
            let other = format!("to-{end}");
            let mac = mac.to_string();
            let create = [
                "link",
                "add",
                end,
                "address",
                &mac,
                "mtu",
                "9001",
                "type",
                "veth",
                "peer",
                "name",
                &other,
                "mtu",
                "9001",
                "netns",
                vpc.name(),
            ];
            text_of(&node, "ip", &create)?;
            text_of(
                &vpc,
                "ip",
                &["addr", "add", &format!("{place}.1/24"), "dev", &other],
            )?;
            text_of(&vpc, "ip", &["link", "set", &other, "up"])?;
            text_of(&node, "ip", &["link", "set", end, "up"])?;
        }
        text_of(
            &node,
            "ip",
            &["addr", "add", &format!("{NODE}/24"), "dev", "eth0"],
        )?;
        text_of(&node, "ip", &["route", "add", "default", "via", "10.0.0.1"])?;
        text_of(
            &vpc,
            "ip",
            &["addr", "add", &format!("{FAR}/32"), "dev", "lo"],
        )?;
        // The VPC delivers pods' addresses to the ENI that holds them.
        text_of(
            &vpc,
            "ip",
            &["route", "add", "10.1.0.0/16", "via", &SECOND.to_string()],
        )?;

        let silent: Vec<Ipv4Addr> = (0..pods.saturating_sub(1))
            .map(|n| {
                Ipv4Addr::from_bits(
                    Ipv4Addr::new(10, 1, 0, 1).to_bits() + u32::try_from(n).unwrap_or(0),
                )
            })
            .collect();
        // Those that talk are in the middle of the list.
        let (before, after) = silent.split_at(silent.len() / 2);
        let all: Vec<Ipv4Addr> = [before, &[ONE, TWO], after].concat();
        inside(&node, async || {
            let host = Host::open()?;
            let slots: Vec<IpNet> = all.iter().map(|ip| IpNet::from(IpAddr::V4(*ip))).collect();
            let held = vec![EniSlots {
                place: Place::first_card(1),
                slots,
            }];
            host.prepare(&NodePlan {
                primary_mac: ETH0,
                primary_address: NODE,
                primary_mtu: 9001,
                vpc_cidrs: vec!["10.0.0.0/8".parse()?],
                snat: Snat::Node(SourcePorts::FullyRandom),
                tcp_early_demux: None,
                external_services: Vec::new(),
                ipv6: false,
                held,
            })
            .await?;
            let eni = EniPlan {
                mac: ETH1,
                place: Place::first_card(1),
                primary_address: SECOND,
                subnet: "10.0.1.0/24".parse()?,
                mtu: 9001,
                ipv6: false,
            };
            host.set_up_eni(&eni, traffic::PATIENCE).await?;
            for (netns, address) in [(&one, ONE), (&two, TWO)] {
                let link = PodLink {
                    container_id: netns.name().to_owned(),
                    ifname: "eth0".to_owned(),
                    veth_prefix: VethPrefix::default(),
                    alias: netns.name().to_owned(),
                    addresses: vec![address.into()],
                    mtu: 9001,
                };
                pod::connect(&NetNs::open(netns.path())?, &link).await?;
            }
            Ok(())
        })?;
        let mut batch = String::new();
        silent_pods(&mut batch, layout, &silent)?;
        if layout == Layout::TwoRulesPerPod {
            two_rules(&mut batch, &all, (&one, &two))?;
        }
        run_batch(&node, &batch)?;
        let rules = text_of(&node, "ip", &["rule"])?.lines().count();
        let world = Self {
            layout,
            pods,
            rules,
            one,
            two,
            vpc,
            _node: node,
        };
        for way in [world.to_a_pod(), world.to_the_vpc()] {
            ensure!(
                way.works()?,
                "no packet in {} with {pods} pods",
                layout.name()
            );
        }
        Ok(world)
    }

    fn to_a_pod(&self) -> Way<'_> {
        Way {
            from: (&self.one, ONE),
            to: (&self.two, TWO),
        }
    }

    fn to_the_vpc(&self) -> Way<'_> {
        Way {
            from: (&self.one, ONE),
            to: (&self.vpc, FAR),
        }
    }

    /// One turn: from a pod to a pod of the same node, and to a host of the VPC.
    pub(crate) fn measure(&self) -> anyhow::Result<[Figures; 2]> {
        Ok([self.to_a_pod().measure()?, self.to_the_vpc().measure()?])
    }
}

/// What the kernel has of pods that do not talk: they share a link here.
fn silent_pods(batch: &mut String, layout: Layout, silent: &[Ipv4Addr]) -> anyhow::Result<()> {
    writeln!(batch, "link add silent type veth peer name silent-end")?;
    writeln!(batch, "link set silent up")?;
    writeln!(batch, "link set silent-end up")?;
    let table = match layout {
        Layout::Weir => layout::PODS_TABLE,
        Layout::TwoRulesPerPod => layout::MAIN_TABLE,
    };
    for address in silent {
        writeln!(batch, "route add {address} dev silent table {table}")?;
        writeln!(
            batch,
            "neigh add {address} lladdr {NOBODY} dev silent nud permanent"
        )?;
    }
    Ok(())
}

/// aws-node's rules in place of ours.
fn two_rules(batch: &mut String, all: &[Ipv4Addr], talk: (&Netns, &Netns)) -> anyhow::Result<()> {
    let table = layout::Place::first_card(1).table();
    writeln!(batch, "rule del pref {}", layout::RULE_PODS)?;
    writeln!(batch, "rule del pref {}", layout::RULE_ENI)?;
    for (netns, address) in [(talk.0, ONE), (talk.1, TWO)] {
        let veth = layout::host_veth_name(netns.name(), "eth0");
        writeln!(batch, "route add {address} dev {veth}")?;
    }
    for address in all {
        writeln!(
            batch,
            "rule add pref {} to {address} lookup main",
            layout::RULE_PODS
        )?;
        writeln!(
            batch,
            "rule add pref {} from {address} lookup {table}",
            layout::RULE_ENI
        )?;
    }
    Ok(())
}

fn run_batch(node: &Netns, batch: &str) -> anyhow::Result<()> {
    let mut command = node.command("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("ip's input")?;
    stdin.write_all(batch.as_bytes())?;
    drop(stdin);
    ensure!(
        child.wait()?.success(),
        "ip -batch failed in {}",
        node.name()
    );
    Ok(())
}

fn inside<R: Send>(
    node: &Netns,
    work: impl AsyncFnOnce() -> anyhow::Result<R> + Send,
) -> anyhow::Result<R> {
    node.run(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(work())
    })
}
