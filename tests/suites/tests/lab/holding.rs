//! Who holds an address gets its packets, and may send from it; nobody else.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use suites::harness::test;
use vpc_lab::probe::{self, Tcp};
use vpc_lab::{Lab, Node};

use crate::ec2;
use crate::fixture::{ip, lost, neighbours, quick, source};

/// In the default lab's subnet a; the simulator gives out others first.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 77);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("nodes_see_each_others_private_address", private),
        test("a_source_that_the_eni_does_not_hold_is_dropped", spoofed),
        test("a_source_is_not_checked_where_ec2_says_so", unchecked),
        test(
            "an_address_that_nobody_holds_gets_nothing_though_arp_is_answered",
            unheld,
        ),
        test("an_address_follows_at_once_when_it_moves", moved),
        test(
            "nothing_that_is_right_is_dropped_while_ec2_changes",
            changing,
        ),
        test("a_prefix_is_routed_to_its_eni", prefix),
        test("a_secondary_eni_has_packets_of_its_own", secondary),
    ]
}

/// Makes an address a node's own, in its kernel alone.
fn configure(node: &Node, address: Ipv4Addr) -> anyhow::Result<()> {
    ip(node.netns(), &format!("address add {address}/32 dev lo")).map(drop)
}

/// Gives an ENI a prefix.
fn delegate(lab: &Lab, eni: &str) -> anyhow::Result<()> {
    let params = [("NetworkInterfaceId", eni), ("Ipv4PrefixCount", "1")];
    ec2::ask(lab, "AssignPrivateIpAddresses", &params).map(drop)
}

fn private() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    for (from, to) in [(a, b), (b, a)] {
        let seen = probe::tcp(from.netns(), to.netns(), to.primary_address())?;
        assert_eq!(source(&seen)?, from.primary_address());
    }
    Ok(())
}

fn spoofed() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    configure(a, ADDRESS)?;
    let probe = Tcp {
        bind: Some(ADDRESS),
        ..Tcp::to(b.primary_address())
    };
    lost(&probe, a.netns(), b.netns())?;
    assert!(lab.drops()?.spoofed_source > 0, "{:?}", lab.drops()?);

    ec2::assign(&lab, &ec2::primary(&lab, a)?.id, ADDRESS)?;
    assert_eq!(source(&probe.send(a.netns(), b.netns())?)?, ADDRESS);
    Ok(())
}

fn unchecked() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, peer) = (lab.node("a"), lab.peer());
    let eni = ec2::primary(&lab, a)?.id;
    let params = [
        ("NetworkInterfaceId", eni.as_str()),
        ("SourceDestCheck.Value", "false"),
    ];
    ec2::ask(&lab, "ModifyNetworkInterfaceAttribute", &params)?;
    configure(a, ADDRESS)?;
    let probe = Tcp {
        bind: Some(ADDRESS),
        ..Tcp::to(peer.address())
    };
    // Out it gets; the reply is for an address that nobody holds.
    let seen = probe.send(a.netns(), peer.netns())?;
    assert!(!seen.reply_ok, "{seen:?}");
    assert_eq!(lab.drops()?.spoofed_source, 0);
    assert!(lab.drops()?.nobody_holds_it > 0, "{:?}", lab.drops()?);
    Ok(())
}

fn unheld() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    configure(b, ADDRESS)?;
    lost(&Tcp::to(ADDRESS), a.netns(), b.netns())?;
    assert!(lab.drops()?.nobody_holds_it > 0, "{:?}", lab.drops()?);
    let neighbours = ip(a.netns(), &format!("neigh show {ADDRESS}"))?;
    assert!(
        neighbours.contains("lladdr"),
        "no answer to ARP: {neighbours:?}"
    );
    // The VPC's own router does not talk either.
    lost(&Tcp::to(Ipv4Addr::new(10, 0, 1, 1)), a.netns(), b.netns())
}

fn moved() -> anyhow::Result<()> {
    let lab = neighbours()?;
    let (a, b, peer) = (lab.node("a"), lab.node("b"), lab.peer());
    for node in [a, b] {
        configure(node, ADDRESS)?;
    }
    for (holder, other) in [(a, b), (b, a), (a, b)] {
        ec2::assign(&lab, &ec2::primary(&lab, holder)?.id, ADDRESS)?;
        let seen = probe::tcp(peer.netns(), holder.netns(), ADDRESS)?;
        assert_eq!(source(&seen)?, peer.address());
        let spoofed = Tcp {
            bind: Some(ADDRESS),
            ..Tcp::to(peer.address())
        };
        lost(&spoofed, other.netns(), peer.netns())?;
    }
    Ok(())
}

/// The kernel takes sets of a ruleset that is being replaced for empty.
fn changing() -> anyhow::Result<()> {
    let lab = neighbours()?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    let (from, to) = (a.primary_address(), b.primary_address());
    // With a range in a set, it is one of the kind that was seen empty.
    delegate(&lab, &ec2::primary(&lab, a)?.id)?;
    let socket = a.netns().run(|| UdpSocket::bind((from, 0)))?;
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let due = Instant::now() + Duration::from_secs(60);
            let mut sent = 0_u32;
            while !done.load(Ordering::Relaxed) && Instant::now() < due {
                sent += u32::from(socket.send_to(b"right", (to, 9)).is_ok());
            }
            sent
        });
        let moved = (0..100).try_for_each(|n| {
            let holder = if n % 2 == 0 { a } else { b };
            ec2::assign(&lab, &ec2::primary(&lab, holder)?.id, ADDRESS)
        });
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().map_err(|_| anyhow::anyhow!("no sender"));
        moved.and(sent)
    })?;
    assert!(sent > 10_000, "{sent} datagrams tell little");
    let drops = lab.drops()?;
    assert_eq!(
        (drops.spoofed_source, drops.security_group),
        (0, 0),
        "of {sent}: {drops:?}"
    );
    Ok(())
}

fn prefix() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    let eni = ec2::primary(&lab, a)?.id;
    delegate(&lab, &eni)?;
    let prefix = ec2::eni(&lab, &eni)?.prefixes[0];
    for address in [prefix.network(), prefix.broadcast()] {
        configure(a, address)?;
        let seen = probe::tcp(b.netns(), a.netns(), address)?;
        assert_eq!(source(&seen)?, b.primary_address());
        let out = Tcp {
            bind: Some(address),
            ..Tcp::to(b.primary_address())
        };
        assert_eq!(source(&out.send(a.netns(), b.netns())?)?, address);
    }
    let outside = Ipv4Addr::from(u32::from(prefix.broadcast()) + 1);
    configure(a, outside)?;
    lost(&Tcp::to(outside), b.netns(), a.netns())
}

fn secondary() -> anyhow::Result<()> {
    let lab = Lab::start(quick())?;
    let (a, b) = (lab.node("a"), lab.node("b"));
    let eni = ec2::attach(&lab, a)?;
    let address = eni.primary_address;
    // What ipamd would do: the address on the link, and a table for it.
    for step in [
        "link set ens6 up",
        &format!("address add {address}/32 dev ens6"),
        "route add default via 10.0.1.1 dev ens6 onlink table 2",
    ] {
        ip(a.netns(), step)?;
    }
    let probe = Tcp {
        bind: Some(address),
        ..Tcp::to(b.primary_address())
    };
    // By the wrong ENI it is spoofed, though the node holds it.
    lost(&probe, a.netns(), b.netns())?;
    assert!(lab.drops()?.spoofed_source > 0);
    ip(a.netns(), &format!("rule add from {address} lookup 2"))?;
    assert_eq!(source(&probe.send(a.netns(), b.netns())?)?, address);
    Ok(())
}
