//! An address that goes from one pod to the next.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::{Node, text_of};
use vpc_lab::{Netns, probe};

use crate::world::{lab, pod};

const PORT: u16 = 5353;
const NODE_PORT: u16 = 30053;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_client_of_a_pod_that_is_gone_does_not_reach_the_next_pod_with_its_address",
            connections_are_forgotten,
        ),
        async_test(
            "connections_of_a_pod_that_went_while_ipamd_was_down_are_forgotten_too",
            forgotten_at_a_restart,
        ),
    ]
}

fn open(netns: &Netns, port: u16) -> anyhow::Result<UdpSocket> {
    let socket = netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    socket.set_read_timeout(Some(probe::IMPATIENCE))?;
    Ok(socket)
}

fn hears(socket: &UdpSocket) -> anyhow::Result<bool> {
    match socket.recv(&mut [0; 16]) {
        Ok(_) => Ok(true),
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends until something arrives: on a busy machine a datagram may take its time.
fn reaches(client: &UdpSocket, server: &UdpSocket) -> anyhow::Result<()> {
    for _ in 0..10 {
        client.send(b"hello")?;
        if hears(server)? {
            return Ok(());
        }
    }
    anyhow::bail!("nothing arrives")
}

async fn connections_are_forgotten() -> anyhow::Result<()> {
    old_client_meets_new_pod(false).await
}

async fn forgotten_at_a_restart() -> anyhow::Result<()> {
    old_client_meets_new_pod(true).await
}

async fn old_client_meets_new_pod(restart: bool) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("IP_COOLDOWN_PERIOD", 1);
    a.start_ipamd().await?;
    let (name, netns, address) = {
        let first = pod(&lab, &a, "first")?;
        (
            first.sandbox.container_id.clone(),
            first.netns,
            first.address,
        )
    };
    let mut others = Vec::new();
    for n in 0..6 {
        let other = pod(&lab, &a, &format!("other-{n}"))?;
        others.push((other.sandbox.container_id.clone(), other.netns));
    }
    let host = a.lab().netns();
    // As kube-proxy or portmap lead to the pod.
    let rules = format!(
        "table ip node-port {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
         udp dport {NODE_PORT} fib daddr type local dnat to {address}:{PORT}; }}; }}"
    );
    text_of(host, "nft", &[&rules])?;
    let client = open(lab.node("b").netns(), 0)?;
    client.connect((a.lab().primary_address(), NODE_PORT))?;
    let server = open(&netns, PORT)?;
    reaches(&client, &server).context("the first pod")?;

    // Its service has no endpoint any more; what is tracked goes on to lead there.
    text_of(
        host,
        "nft",
        &["flush", "chain", "ip", "node-port", "prerouting"],
    )?;
    reaches(&client, &server).context("by what is tracked")?;
    if restart {
        a.kill_ipamd();
    }
    // More than the kernel is asked about one by one.
    for (name, netns) in &others {
        let sandbox = a.sandbox(name, "other", netns.path());
        assert_eq!(sandbox.del()?.code, Some(0));
    }
    let sandbox = a.sandbox(&name, "first", netns.path());
    assert_eq!(sandbox.del()?.code, Some(0));
    drop(others);
    drop(server);
    if restart {
        a.start_ipamd().await?;
    }
    a.wait_for_pool_within(Duration::from_secs(30), "nothing cools", |pool| {
        pool.totals
            .is_some_and(|totals| totals.cooling == 0 && totals.owned == 0)
    })
    .await?;

    let mut pods = Vec::new();
    let next = loop {
        let next = pod(&lab, &a, &format!("next-{}", pods.len()))?;
        if next.address == address {
            break next;
        }
        pods.push(next);
        ensure!(pods.len() < 25, "nobody gets {address} again");
    };
    let server = open(&next.netns, PORT)?;
    client.send(b"late").context("sending to the node")?;
    ensure!(
        !hears(&server)?,
        "the new pod hears what was sent to the old one"
    );
    Ok(())
}
