//! What the pods of a node share.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use datapath::{EniPlan, EniSlots, Host, HostError, Mac, Place};
use ipnet::IpNet;

use crate::Test;
use crate::world::{
    Ns, PATIENCE, SECOND, SECOND_PREFIX_6, World, eni_plan, eventually, held, link,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "prepare makes settings, rules, holds and the nftables table",
        prepared,
    ),
    (
        "the primary ENI's link gets the MTU of the plan",
        primary_mtu,
    ),
    (
        "tcp_early_demux is as the plan has it, and left alone where it has none",
        early_demux,
    ),
    ("a second run of everything changes nothing", idempotent),
    (
        "changed CIDRs change their own elements of the table, and nothing else",
        changed_cidrs,
    ),
    (
        "a hold that the plan does not name goes, a missing one comes",
        holds_follow_the_plan,
    ),
    (
        "a rule deleted by hand comes back with the next prepare",
        repaired,
    ),
    (
        "others' rules and tables stay, and ours stand once beside them",
        foreign_rules_are_kept,
    ),
    (
        "an address that moves to another ENI changes its mark",
        moved,
    ),
    (
        "a prefix is one unreachable route, and on a secondary ENI one rule",
        prefixes,
    ),
    (
        "ENIs at one device index of two cards share neither table nor rule nor mark",
        cards,
    ),
    (
        "a prefix that moves to another ENI takes its rule along",
        prefix_moved,
    ),
    (
        "hold and release undo each other, and repeats are harmless",
        hold_and_release,
    ),
    ("two thousand addresses are held in one call", many),
    (
        "holds of one new ENI at the same time make one chain",
        at_once,
    ),
    ("overlapping and full CIDRs make a table", odd_cidrs),
    (
        "a primary ENI that is not there is an error that names its MAC",
        no_primary,
    ),
];

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 50);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 51);
const P: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

fn prepared() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    plan.held = vec![held(0, &[P]), held(1, &[A, B])];
    world.prepare(&plan)?;
    ensure!(world.node.read_sysctl("ipv4/ip_forward")? == "1");
    ensure!(world.node.read_sysctl("ipv4/conf/eth0/rp_filter")? == "2");

    let rules = world.node.ip("rule")?;
    for rule in [
        "512:\tfrom all lookup 5120 proto 87",
        "1024:\tfrom all fwmark 0x80/0x80 lookup main proto 87",
        "1536:\tfrom all fwmark 0x1/0x7f lookup 2 proto 87",
    ] {
        ensure!(
            rules.lines().any(|line| line.trim() == rule),
            "{rule} is not in:\n{rules}"
        );
    }
    let holds = world.node.ip("route show table 5120")?;
    for address in [P, A, B] {
        let hold = format!("unreachable {address} proto 87 metric 4278198272");
        ensure!(
            holds.lines().any(|line| line.trim() == hold),
            "{hold} is not in:\n{holds}"
        );
    }

    let table = world.node.nft(&["list", "table", "ip", "weir"])?;
    for line in [
        "elements = { 10.0.0.0/16 }",
        "type filter hook prerouting priority mangle; policy accept;",
        "iif \"eth0\" fib daddr . iif type local ct mark set ct mark | 0x00000080",
        "iifgroup != 5120 return",
        "ct mark & 0x00000080 != 0x00000000 meta mark set meta mark | 0x00000080",
        "ip saddr vmap @eni",
        "ct state new ip daddr != @vpc fib daddr type != local ct mark set ct mark | 0x00000080 \
         meta mark set meta mark | 0x00000080",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip daddr @vpc return",
        "fib saddr type local return",
        "snat to 10.0.0.10 fully-random",
        "meta mark set meta mark & 0xffffff81 | 0x00000001",
    ] {
        ensure!(table.contains(line), "{line}\nis not in:\n{table}");
    }
    ensure!(table.contains("10.0.1.50 : jump eni-1"), "{table}");
    ensure!(
        !table.contains("10.0.0.50"),
        "an address of the primary ENI needs no mark:\n{table}"
    );
    Ok(())
}

fn primary_mtu() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    for mtu in [1500, plan.primary_mtu] {
        plan.primary_mtu = mtu;
        world.prepare(&plan)?;
        let link = world.node.ip("link show eth0")?;
        ensure!(
            link.contains(&format!("mtu {mtu} ")) && link.contains(",UP"),
            "not {mtu}: {link}"
        );
    }
    Ok(())
}

fn early_demux() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    for (wanted, expected) in [
        (None, "1"),
        (Some(false), "0"),
        (None, "0"),
        (Some(true), "1"),
    ] {
        plan.tcp_early_demux = wanted;
        world.prepare(&plan)?;
        let found = world.node.read_sysctl("ipv4/tcp_early_demux")?;
        ensure!(found == expected, "{wanted:?}: {found}");
    }
    Ok(())
}

fn idempotent() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    let prefixes = ["10.0.1.64/28", SECOND_PREFIX_6];
    plan.ipv6 = true;
    plan.held = vec![held(0, &[P]), held(1, &[A, B]), held(1, &prefixes)];
    let eni = EniPlan {
        ipv6: true,
        ..eni_plan()
    };
    let all = || -> Result<()> {
        world.prepare(&plan)?;
        world.set_up_eni(&eni)?;
        world.hold(0, &[P])?;
        world.hold(1, &[A, B])?;
        world.hold(1, &prefixes)
    };
    all()?;
    let mut link = link("c1", A);
    link.addresses.push("2001:db8:0:1:b::1".parse()?);
    let _pod = world.bare_pod(link)?;
    let before = world.node.state()?;
    let monitor = Monitor::start(&world.node)?;
    all()?;
    world
        .node
        .state()?
        .ensure_same(&before, "the second run changed")?;
    let changes = monitor.stop()?;
    ensure!(changes.is_empty(), "the kernel told of changes:\n{changes}");
    Ok(())
}

fn changed_cidrs() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    plan.held = vec![held(1, &[A])];
    world.prepare(&plan)?;
    // With handles: what was made anew has another.
    let list = || world.node.nft(&["-a", "list", "table", "ip", "weir"]);
    let before = list()?;
    plan.vpc_cidrs.push("100.64.0.0/16".parse()?);
    world.prepare(&plan)?;
    let more = list()?;
    let elements = "elements = { 10.0.0.0/16";
    ensure!(
        more == before.replace(elements, &format!("{elements}, 100.64.0.0/16")),
        "{more}"
    );
    plan.vpc_cidrs.pop();
    world.prepare(&plan)?;
    ensure!(list()? == before, "{}", list()?);
    Ok(())
}

fn holds_follow_the_plan() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    plan.held = vec![held(0, &[P]), held(1, &[A])];
    world.prepare(&plan)?;
    let pod = world.bare_pod(link("c1", A))?;
    plan.held = vec![held(2, &[B])];
    world.prepare(&plan)?;
    let routes = world.node.ip("route show table 5120")?;
    ensure!(routes.contains(&format!("unreachable {B} ")), "{routes}");
    ensure!(!routes.contains(&format!("unreachable {A} ")), "{routes}");
    ensure!(!routes.contains(&P.to_string()), "{routes}");
    let own = format!("{A} dev {}", pod.wiring.host_veth);
    ensure!(routes.contains(&own), "the pod's own route went:\n{routes}");
    let table = world.node.nft(&["list", "map", "ip", "weir", "eni"])?;
    ensure!(
        table.contains("elements = { 10.0.1.51 : jump eni-2 }"),
        "{table}"
    );
    Ok(())
}

fn repaired() -> Result<()> {
    let world = World::new()?;
    world.prepare(&world.plan())?;
    world
        .node
        .nft(&["flush", "chain", "ip", "weir", "outbound"])?;
    world.node.ip("rule del priority 512")?;
    world.prepare(&world.plan())?;
    let table = world.node.nft(&["list", "table", "ip", "weir"])?;
    ensure!(table.contains("ct state new ip daddr != @vpc"), "{table}");
    ensure!(world.node.ip("rule")?.contains("512:"));
    Ok(())
}

fn foreign_rules_are_kept() -> Result<()> {
    let world = World::new()?;
    world
        .node
        .ip("rule add priority 1024 fwmark 0x80/0x80 lookup main")?;
    world
        .node
        .nft(&["add table ip kube-proxy; add chain ip kube-proxy x"])?;
    world.prepare(&world.plan())?;
    world.prepare(&world.plan())?;
    let rules = world.node.ip("rule")?;
    // aws-node deletes its own when it leaves: ours must not depend on it.
    ensure!(rules.matches("1024:").count() == 2, "{rules}");
    ensure!(
        rules.contains("fwmark 0x80/0x80 lookup main proto 87"),
        "{rules}"
    );
    ensure!(world.node.nft(&["list", "ruleset"])?.contains("kube-proxy"));
    Ok(())
}

fn prefixes() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    plan.ipv6 = true;
    plan.held = vec![
        held(0, &["10.0.0.64/28", "2001:db8:0:1:a::/80"]),
        held(1, &["10.0.1.64/28", SECOND_PREFIX_6]),
    ];
    // From another life of the node.
    world
        .node
        .ip("rule add from 10.0.1.96/28 lookup 2 priority 1536 protocol 87")?;
    world.prepare(&plan)?;
    for (family, unreachable, from) in [
        ("-4", ["10.0.0.64/28", "10.0.1.64/28"], "10.0.1.64/28"),
        (
            "-6",
            ["2001:db8:0:1:a::/80", SECOND_PREFIX_6],
            SECOND_PREFIX_6,
        ),
    ] {
        let holds = world
            .node
            .ip(&format!("{family} route show table 5120 type unreachable"))?;
        ensure!(holds.lines().count() == 2, "{holds}");
        for prefix in unreachable {
            ensure!(holds.contains(&format!("unreachable {prefix} ")), "{holds}");
        }
        let rules = world.node.ip(&format!("{family} rule"))?;
        ensure!(
            rules.contains("512:\tfrom all lookup 5120 proto 87"),
            "{rules}"
        );
        let sources: Vec<_> = rules
            .lines()
            .filter(|line| line.contains("from 1"))
            .collect();
        let sources = [
            sources,
            rules
                .lines()
                .filter(|line| line.contains("from 2"))
                .collect(),
        ]
        .concat();
        ensure!(
            sources == [format!("1536:\tfrom {from} lookup 2 proto 87")],
            "{rules}"
        );
    }
    let map = world.node.nft(&["list", "map", "ip", "weir", "eni"])?;
    ensure!(!map.contains("10.0.1.64"), "no address has a mark: {map}");
    Ok(())
}

fn prefix_moved() -> Result<()> {
    let world = World::new()?;
    world.prepare(&world.plan())?;
    let rules = |family: &str| world.node.ip(&format!("{family} rule show priority 1536"));
    for (family, prefix) in [("-4", "10.0.1.64/28"), ("-6", SECOND_PREFIX_6)] {
        let fresh = rules(family)?;
        world.hold(1, &[prefix])?;
        world.hold(2, &[prefix])?;
        let moved = rules(family)?;
        let line = format!("1536:\tfrom {prefix} lookup 3 proto 87");
        ensure!(moved.lines().any(|rule| rule == line), "{moved}");
        ensure!(moved.matches(prefix).count() == 1, "{moved}");
        world.hold(0, &[prefix])?;
        let primary = rules(family)?;
        ensure!(!primary.contains(prefix), "{fresh}{primary}");
    }
    Ok(())
}

fn cards() -> Result<()> {
    let world = World::new()?;
    let fresh = || world.node.ip("rule show priority 1536");
    let map = || world.node.nft(&["list", "map", "ip", "weir", "eni"]);
    let (first, second) = (
        Place::first_card(1),
        Place {
            card: 1,
            device_index: 1,
        },
    );
    world.prepare(&world.plan())?;
    world.set_up_eni(&eni_plan())?;
    let alone = fresh()?;
    world.set_up_eni(&EniPlan {
        place: second,
        ..eni_plan()
    })?;
    let routes = world.node.ip("route show table 10101")?;
    ensure!(routes.contains("default via 10.0.1.1"), "{routes}");
    let own = world.node.ip("rule show priority 32765")?;
    ensure!(
        own.contains(&format!("from {SECOND} lookup 10101")),
        "{own}"
    );
    world.hold_at(first, &[A])?;
    world.hold_at(second, &[B])?;
    let rules = fresh()?;
    let of_b = "1536:\tfrom 10.0.1.51 lookup 10101 proto 87\n";
    ensure!(
        rules.replace(of_b, "") == alone && rules.contains(of_b),
        "{rules}"
    );
    ensure!(map()?.contains("10.0.1.50 : jump eni-1"), "{}", map()?);
    ensure!(!map()?.contains("10.0.1.51"), "{}", map()?);
    // To the other card, and back.
    world.hold_at(first, &[B])?;
    ensure!(fresh()? == alone, "{}", fresh()?);
    ensure!(map()?.contains("10.0.1.51 : jump eni-1"), "{}", map()?);
    world.hold_at(second, &[B])?;
    ensure!(
        fresh()? == rules && !map()?.contains("10.0.1.51"),
        "{}",
        map()?
    );
    // The next preparation knows it, too.
    let mut plan = world.plan();
    plan.held = vec![
        held(1, &[A]),
        EniSlots {
            place: second,
            slots: vec![IpNet::from(IpAddr::V4(B))],
        },
    ];
    world.prepare(&plan)?;
    ensure!(fresh()? == rules, "{}", fresh()?);
    world.release_at(second, &[B])?;
    world.release_at(first, &[A])?;
    world.node.block_on(|| async {
        let host = Host::open()?;
        Ok(host.take_down_eni(second, SECOND).await?)
    })?;
    ensure!(fresh()? == alone, "{}", fresh()?);
    Ok(())
}

fn moved() -> Result<()> {
    let world = World::new()?;
    world.prepare(&world.plan())?;
    let map = || world.node.nft(&["list", "map", "ip", "weir", "eni"]);
    world.hold(1, &[A, B])?;
    world.hold(2, &[A])?;
    let elements = map()?;
    ensure!(elements.contains("10.0.1.50 : jump eni-2"), "{elements}");
    ensure!(elements.contains("10.0.1.51 : jump eni-1"), "{elements}");
    world.hold(0, &[A])?;
    ensure!(!map()?.contains("10.0.1.50"), "{}", map()?);
    Ok(())
}

fn hold_and_release() -> Result<()> {
    let world = World::new()?;
    world.prepare(&world.plan())?;
    world.hold(1, &[B])?;
    let before = world.node.state()?;
    let prefixes = ["10.0.1.64/28", SECOND_PREFIX_6];
    for _ in 0..2 {
        world.hold(1, &[A])?;
        world.hold(1, &[A])?;
        world.hold(1, &prefixes)?;
        ensure!(world.node.state()? != before);
        world.release(1, &[A])?;
        world.release(1, &[A])?;
        world.release(1, &prefixes)?;
        world.release(1, &prefixes)?;
        world.node.state()?.ensure_same(&before, "left of a hold")?;
    }
    let error = world.hold(128, &[A]).err().context("128 fits no mark")?;
    ensure!(error.to_string().contains("device index 128"), "{error}");
    Ok(())
}

fn many() -> Result<()> {
    let world = World::new()?;
    world.prepare(&world.plan())?;
    let addresses: Vec<_> = (0..2000_u32)
        .map(|n| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 128, 0)) + n))
        .collect();
    world.hold(1, &addresses)?;
    world.hold(1, &addresses)?;
    ensure!(world.node.ip_json("route show table 5120")?.len() == 2000);
    let map = world.node.nft(&["list", "map", "ip", "weir", "eni"])?;
    ensure!(map.matches("jump eni-1").count() == 2000);
    // Lists longer than one read, asked for at once: ENIs are set up side by side.
    world.node.block_on(|| async {
        let host = Host::open()?;
        let (a, b) = tokio::join!(host.pods(), host.pods());
        ensure!(a?.is_empty() && b?.is_empty(), "no pod has come");
        Ok(())
    })?;
    world.release(1, &addresses)?;
    ensure!(world.node.ip_json("route show table 5120")?.is_empty());
    Ok(())
}

fn at_once() -> Result<()> {
    let world = World::new()?;
    world.prepare(&world.plan())?;
    std::thread::scope(|scope| {
        let threads = [A, B, P].map(|address| {
            let world = &world;
            scope.spawn(move || world.hold(3, &[address]))
        });
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let table = world.node.nft(&["list", "table", "ip", "weir"])?;
    ensure!(table.matches("| 0x00000003").count() == 1, "{table}");
    ensure!(table.matches("jump eni-3").count() == 3, "{table}");
    Ok(())
}

fn odd_cidrs() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    let cidrs = ["10.0.0.0/8", "10.1.0.0/16", "10.0.0.7/16", "11.0.0.0/8"];
    for cidr in cidrs
        .into_iter()
        .chain(["192.0.2.0/25", "192.0.2.128/25", "240.0.0.0/4"])
    {
        plan.vpc_cidrs.push(cidr.parse()?);
    }
    world.prepare(&plan)?;
    let set = world.node.nft(&["list", "set", "ip", "weir", "vpc"])?;
    // Neighbours stay two, so that each can go alone.
    for range in [
        "10.0.0.0/8",
        "11.0.0.0/8",
        "192.0.2.0/25",
        "192.0.2.128/25",
        "240.0.0.0/4",
    ] {
        ensure!(set.contains(range), "{range} is not in {set}");
    }
    ensure!(
        !set.contains("/16"),
        "a CIDR within another is none of its own: {set}"
    );
    plan.vpc_cidrs
        .retain(|cidr| !cidr.to_string().starts_with("10."));
    world.prepare(&plan)?;
    let set = world.node.nft(&["list", "set", "ip", "weir", "vpc"])?;
    ensure!(
        set.contains("11.0.0.0/8") && !set.contains("10.0.0.0/8"),
        "{set}"
    );
    plan.vpc_cidrs = vec!["0.0.0.0/0".parse()?];
    world.prepare(&plan)?;
    plan.vpc_cidrs.clear();
    world.prepare(&plan)
}

fn no_primary() -> Result<()> {
    let world = World::new()?;
    let mut plan = world.plan();
    plan.primary_mac = Mac([2, 0, 0, 0, 9, 9]);
    let error = world
        .prepare(&plan)
        .err()
        .context("there is no such link")?;
    let error: HostError = error.downcast()?;
    ensure!(matches!(error, HostError::LinkMissing { .. }), "{error}");
    ensure!(error.to_string().contains("02:00:00:00:09:09"), "{error}");
    Ok(())
}

/// `ip monitor`: what the kernel tells of changes to links, addresses, routes and rules.
struct Monitor<'a> {
    ns: &'a Ns,
    child: std::process::Child,
    output: tempfile::NamedTempFile,
}

impl<'a> Monitor<'a> {
    fn start(ns: &'a Ns) -> Result<Self> {
        let output = tempfile::NamedTempFile::new()?;
        let child = ns.inside(|| {
            let mut command = std::process::Command::new("ip");
            command.args(["monitor", "link", "address", "route", "rule"]);
            Ok(command.stdout(output.reopen()?).spawn()?)
        })?;
        let monitor = Self { ns, child, output };
        monitor.mark("192.0.2.1")?;
        Ok(monitor)
    }

    /// Makes a change that shows that all before it was seen.
    fn mark(&self, address: &str) -> Result<()> {
        let begin = std::time::Instant::now();
        while !self.seen()?.contains(address) {
            ensure!(begin.elapsed() < PATIENCE, "the monitor sees nothing");
            self.ns
                .ip(&format!("route add blackhole {address} table 999"))?;
            self.ns
                .ip(&format!("route del blackhole {address} table 999"))?;
            eventually("a moment", || Ok(true))?;
        }
        Ok(())
    }

    fn seen(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.output.path())?)
    }

    /// The changes between start and stop.
    fn stop(self) -> Result<String> {
        self.mark("192.0.2.2")?;
        let seen = self.seen()?;
        let changes = seen.lines().filter(|line| !line.contains("192.0.2."));
        Ok(changes.collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
