//! Every path of a packet: to, from and between pods on primary and secondary ENIs.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;
use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::{Node, text_of};
use vpc_lab::probe::{self, Tcp};
use vpc_lab::{Lab, Netns};

use crate::world::{Pod, device_index_in_ec2, lab, pod, pods_until_second_eni};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("pods_reach_each_other_without_nat", pod_to_pod),
        async_test("nodes_and_pods_reach_each_other", node_and_pod),
        async_test("outside_the_vpc_a_pod_is_its_node", outside),
        async_test("a_jumbo_frame_passes_whole", jumbo),
        async_test(
            "a_node_port_connection_returns_by_the_primary_eni",
            node_port,
        ),
        async_test("a_pod_that_is_gone_is_refused_at_once", gone),
    ]
}

pub(crate) fn assert_seen(
    from: &Netns,
    to: &Netns,
    address: impl Into<IpAddr>,
    expected: impl Into<IpAddr>,
) -> anyhow::Result<()> {
    let address = address.into();
    let seen = probe::tcp(from, to, address)?;
    assert_eq!(
        seen.answered_from(),
        Some(expected.into()),
        "{} to {address} in {}: {seen:?}",
        from.name(),
        to.name()
    );
    Ok(())
}

/// Nothing may have left by an ENI that does not hold its source.
pub(crate) fn assert_no_wrong_way(lab: &Lab) -> anyhow::Result<()> {
    let drops = lab.drops()?;
    assert_eq!(
        (drops.spoofed_source, drops.nobody_holds_it),
        (0, 0),
        "{drops:?}"
    );
    Ok(())
}

fn on_primary_and_secondary<'p, 'a>(
    lab: &Lab,
    pods: &'p [Pod<'a>],
) -> anyhow::Result<(&'p Pod<'a>, &'p Pod<'a>)> {
    let [first, .., last] = pods else {
        anyhow::bail!("fewer than two pods")
    };
    assert_eq!(device_index_in_ec2(lab, first.address), Some(0));
    assert_eq!(device_index_in_ec2(lab, last.address), Some(1));
    Ok((first, last))
}

async fn pod_to_pod() -> anyhow::Result<()> {
    let lab = lab()?;
    let (mut a, mut b) = (Node::new(&lab, "a"), Node::new(&lab, "b"));
    a.start_ipamd().await?;
    b.start_ipamd().await?;
    let (on_a, on_b) = (
        pods_until_second_eni(&lab, &a).await?,
        pods_until_second_eni(&lab, &b).await?,
    );
    let (a_primary, a_secondary) = on_primary_and_secondary(&lab, &on_a)?;
    let (b_primary, b_secondary) = on_primary_and_secondary(&lab, &on_b)?;
    let all = [a_primary, a_secondary, b_primary, b_secondary];
    for from in all {
        for to in all {
            if from.address != to.address {
                assert_seen(&from.netns, &to.netns, to.address, from.address)?;
            }
        }
        assert_seen(
            &from.netns,
            &from.netns,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::LOCALHOST,
        )?;
    }
    assert_no_wrong_way(&lab)
}

async fn node_and_pod() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let (primary, secondary) = on_primary_and_secondary(&lab, &pods)?;
    for pod in [primary, secondary] {
        for node in [lab.node("a"), lab.node("b")] {
            let node_address = node.primary_address();
            assert_seen(node.netns(), &pod.netns, pod.address, node_address)?;
            assert_seen(&pod.netns, node.netns(), node_address, pod.address)?;
        }
    }
    assert_no_wrong_way(&lab)
}

async fn outside() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let (primary, secondary) = on_primary_and_secondary(&lab, &pods)?;
    let public = a
        .lab()
        .public_address()
        .context("node a has no public address")?;
    for pod in [primary, secondary] {
        assert_seen(
            &pod.netns,
            lab.internet().netns(),
            lab.internet().address(),
            public,
        )?;
        let node = a.lab().primary_address();
        assert_seen(&pod.netns, lab.peer().netns(), lab.peer().address(), node)?;
        // What comes from there to a pod's own address is not translated.
        let from = lab.peer();
        assert_seen(from.netns(), &pod.netns, pod.address, from.address())?;
    }
    assert_no_wrong_way(&lab)
}

async fn jumbo() -> anyhow::Result<()> {
    let lab = lab()?;
    let (mut a, mut b) = (Node::new(&lab, "a"), Node::new(&lab, "b"));
    a.start_ipamd().await?;
    b.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let (primary, secondary) = on_primary_and_secondary(&lab, &pods)?;
    let far = pod(&lab, &b, "far")?;
    // The VPC's MTU, less the headers of IPv4 and UDP.
    let whole = 9001 - 20 - 8;
    for near in [primary, secondary] {
        for (from, to) in [(near, &far), (&far, near)] {
            let seen = probe::udp(&from.netns, &to.netns, to.address, whole)?;
            assert_eq!(
                seen.answered_from(),
                Some(IpAddr::V4(from.address)),
                "{seen:?}"
            );
        }
        let seen = probe::udp(&near.netns, &far.netns, far.address, whole + 1)?;
        assert!(!seen.reply_ok, "a packet larger than the MTU passed whole");
    }
    Ok(())
}

async fn node_port() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let (_, secondary) = on_primary_and_secondary(&lab, &pods)?;
    // As kube-proxy writes it for externalTrafficPolicy Local.
    let rules = format!(
        "table ip node-port {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
         tcp dport 30080 fib daddr type local dnat to {}:8080; }}; }}",
        secondary.address
    );
    text_of(a.lab().netns(), "nft", &[&rules])?;
    let (node, public) = (
        a.lab().primary_address(),
        a.lab()
            .public_address()
            .context("node a has no public address")?,
    );
    let b = lab.node("b");
    for (from, source, to) in [
        (b.netns(), b.primary_address(), node),
        (lab.internet().netns(), lab.internet().address(), public),
    ] {
        let probe = Tcp {
            port: Some(30080),
            listen_port: Some(8080),
            ..Tcp::to(to)
        };
        let seen = probe.send(from, &secondary.netns)?;
        assert_eq!(seen.answered_from(), Some(IpAddr::V4(source)), "{seen:?}");
    }
    assert_no_wrong_way(&lab)
}

async fn gone() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let (stays, goes) = (pod(&lab, &a, "stays")?, pod(&lab, &a, "goes")?);
    assert_seen(&stays.netns, &goes.netns, goes.address, stays.address)?;
    assert_eq!(goes.sandbox.del()?.code, Some(0));
    let error = stays
        .netns
        .run(|| {
            std::net::TcpStream::connect_timeout(&(goes.address, 80).into(), probe::PATIENCE)
                .map(drop)
        })
        .expect_err("something answered for a pod that is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "{error}");
    Ok(())
}
