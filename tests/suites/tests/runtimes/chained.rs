//! The reference plugins chained after ours: they live on what our result says.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use suites::harness::async_test;
use suites::node::{json_of, text_of};
use vpc_lab::Netns;
use vpc_lab::probe::{IMPATIENCE, PATIENCE, Tcp};

use crate::cnitool::Pod;
use crate::programs::program;
use crate::world::{Host, lab};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "portmap_after_ours_gives_pods_on_each_eni_a_port_of_the_node",
            host_port,
        ),
        async_test("bandwidth_after_ours_limits_both_ways", bandwidth),
        async_test("firewall_after_ours_lets_out_pods_on_each_eni", firewall),
        async_test("what_tuning_changes_after_ours_is_no_fault", tuning),
        async_test("a_mac_that_tuning_changes_is_told_by_check", tuned_mac),
        async_test(
            "a_chained_plugin_that_fails_leaves_nothing_of_the_pod",
            failing,
        ),
    ]
}

/// Adds a plugin to the end of the conflist.
fn chain(host: &Host<'_>, conf: Value) -> anyhow::Result<()> {
    host.edit_conflist(|conflist| {
        if let Some(plugins) = conflist["plugins"].as_array_mut() {
            plugins.push(conf);
        }
    })
}

async fn host_port() -> anyhow::Result<()> {
    let lab = lab()?;
    // ipamd itself chains portmap where it finds it.
    let host = Host::start(&lab, Some(&program("portmap"))).await?;
    let (node, b) = (lab.node("a"), lab.node("b").netns());
    let mut pods = Vec::new();
    // 9 pods fill the primary ENI; what comes in there for the tenth must go out there again.
    for number in 0..10_u16 {
        let netns = lab.pod_netns(&format!("pod-{number}"))?;
        let port = 30080 + number;
        let ports = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        let pod = Pod::in_netns(&host, &netns).with("portMappings", ports);
        let address = pod.call("add")?.address()?;
        pods.push((netns, pod, port, address));
    }
    lab.settle()?;
    let last = pods.last().context("ten pods")?.3.to_string();
    let pool = host.node.pool().await?;
    let on_second = pool
        .enis
        .iter()
        .any(|eni| eni.device_index > 0 && eni.addresses.iter().any(|held| held.address == last));
    ensure!(on_second, "{last} is on the primary ENI: {pool:#?}");

    let to = |port: u16, patience| Tcp {
        port: Some(port),
        listen_port: Some(80),
        patience,
        ..Tcp::to(node.primary_address())
    };
    for (netns, pod, port, address) in [&pods[0], &pods[9]] {
        let seen = to(*port, PATIENCE).send(b, netns)?;
        assert!(seen.reply_ok, "port {port} of {address}: {}", seen.why);
        pod.silently("check")?;
    }
    for (netns, pod, port, _) in &pods {
        pod.silently("del")?;
        if *port == 30080 {
            let seen = to(*port, IMPATIENCE).send(b, netns)?;
            assert!(seen.is_lost(), "the port outlives the pod: {seen:?}");
        }
    }
    host.is_clean().await
}

/// 4 Mbit/s, in bits per second as the convention has it; and how long half a megabyte takes at least, the burst off.
const RATE: u64 = 4_000_000;
const BURST: u64 = 400_000;
const BYTES: usize = 500_000;
const AT_LEAST: Duration = Duration::from_millis(850);

async fn bandwidth() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    // It limits what a pod sends on a device of a kind that a kernel may lack.
    let node = host.node.lab().netns();
    if let Err(why) = text_of(node, "ip", &["link", "add", "ifb-here", "type", "ifb"]) {
        println!("SKIPPED runtimes::bandwidth_after_ours_limits_both_ways: {why:#}");
        return Ok(());
    }
    text_of(node, "ip", &["link", "del", "ifb-here"])?;
    host.add_plugin(&program("bandwidth"))?;
    chain(
        &host,
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
    )?;
    let b = lab.node("b");
    let limit = json!({
        "ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST,
    });
    for (name, limited) in [("free", false), ("limited", true)] {
        let netns = lab.pod_netns(name)?;
        let mut pod = Pod::in_netns(&host, &netns);
        if limited {
            pod = pod.with("bandwidth", limit.clone());
        }
        let address = pod.call("add")?.address()?;
        lab.settle()?;
        pod.silently("check")?;
        let took = [
            transfer(b.netns(), &netns, address)?,
            transfer(&netns, b.netns(), b.primary_address())?,
        ];
        // How fast the other is, nobody promises.
        let slow = took.iter().all(|took| *took > AT_LEAST);
        assert!(slow || !limited, "{name}: in, out {took:?}");
        pod.silently("del")?;
        host.is_clean().await?;
    }
    let links = text_of(node, "ip", &["link", "show", "type", "ifb"])?;
    assert_eq!(links, "", "bandwidth's own device outlives the pod");
    Ok(())
}

/// How long some data take one way, until the receiver has all.
fn transfer(from: &Netns, to: &Netns, address: Ipv4Addr) -> anyhow::Result<Duration> {
    let listener = to.run(|| TcpListener::bind((address, 0)))?;
    let target = listener.local_addr()?;
    thread::scope(|scope| {
        let receiver = scope.spawn(move || -> anyhow::Result<Instant> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut data = vec![0; BYTES];
            stream.read_exact(&mut data)?;
            Ok(Instant::now())
        });
        let mut stream = from.run(|| TcpStream::connect_timeout(&target, PATIENCE))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        let start = Instant::now();
        stream.write_all(&vec![7; BYTES])?;
        let end = receiver.join().expect("the receiver does not panic")?;
        Ok(end.saturating_duration_since(start))
    })
}

/// On a node that forwards nothing else, as some container engines leave it, firewall lets each pod out by its address.
async fn firewall() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let node = host.node.lab().netns();
    if let Err(why) = text_of(node, "iptables", &["-P", "FORWARD", "DROP"]) {
        println!(
            "SKIPPED runtimes::firewall_after_ours_lets_out_pods_on_each_eni: no iptables: {why:#}"
        );
        return Ok(());
    }
    host.add_plugin(&program("firewall"))?;
    let b = lab.node("b");
    let out = |netns: &Netns, patience| {
        let probe = Tcp {
            patience,
            ..Tcp::to(b.primary_address())
        };
        probe.send(netns, b.netns())
    };
    let shut = lab.pod_netns("shut")?;
    let without = Pod::in_netns(&host, &shut);
    without.call("add")?.address()?;
    assert!(out(&shut, IMPATIENCE)?.is_lost(), "the node forwards all");
    without.silently("del")?;

    chain(&host, json!({"type": "firewall", "backend": "iptables"}))?;
    let mut pods = Vec::new();
    for number in 0..10 {
        let netns = lab.pod_netns(&format!("pod-{number}"))?;
        let pod = Pod::in_netns(&host, &netns);
        let address = pod.call("add")?.address()?;
        pods.push((netns, pod, address));
    }
    lab.settle()?;
    for (netns, pod, address) in [&pods[0], &pods[9]] {
        let seen = out(netns, PATIENCE)?;
        assert_eq!(seen.answered_from(), Some((*address).into()), "{seen:?}");
        pod.silently("check")?;
    }
    for (_, pod, address) in &pods {
        pod.silently("del")?;
        let rules = text_of(node, "iptables", &["-S"])?;
        assert!(!rules.contains(&format!("{address}/")), "{rules}");
    }
    host.is_clean().await
}

async fn tuning() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    host.add_plugin(&program("tuning"))?;
    chain(
        &host,
        json!({
            "type": "tuning", "mtu": 1400, "dataDir": host.node.lab().run_dir().join("tuning"),
            "sysctl": {"net.ipv4.conf.eth0.accept_redirects": "0"},
        }),
    )?;
    let netns = lab.pod_netns("one")?;
    let pod = Pod::in_netns(&host, &netns);
    let address = pod.call("add")?.address()?;
    lab.settle()?;
    let link = json_of(&netns, "ip", &["-j", "link", "show", "dev", "eth0"])?;
    assert_eq!(link[0]["mtu"], 1400, "{link:#}");
    pod.silently("check")?;
    let seen = Tcp::to(address).send(lab.node("b").netns(), &netns)?;
    assert!(seen.reply_ok, "{}", seen.why);
    pod.silently("del")?;
    host.is_clean().await
}

/// The host's neighbour entry of a pod is permanent, with the MAC that our result has. So another MAC cuts the pod off;
/// that must be told and not be taken for right because the final result has it.
async fn tuned_mac() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    host.add_plugin(&program("tuning"))?;
    chain(
        &host,
        json!({
            "type": "tuning", "mac": "02:00:5e:00:53:01",
            "dataDir": host.node.lab().run_dir().join("tuning"),
        }),
    )?;
    let netns = lab.pod_netns("one")?;
    let pod = Pod::in_netns(&host, &netns);
    let result = pod.call("add")?.result()?;
    assert!(
        result.to_string().contains("02:00:5e:00:53:01"),
        "{result:#}"
    );
    pod.refused("check", &["02:00:5e:00:53:01", "does not know"])?;
    pod.silently("del")?;
    host.is_clean().await
}

async fn failing() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    host.add_plugin(&program("tuning"))?;
    chain(
        &host,
        json!({
            "type": "tuning", "dataDir": host.node.lab().run_dir().join("tuning"),
            "sysctl": {"net.ipv4.no_such_sysctl": "1"},
        }),
    )?;
    let netns = lab.pod_netns("one")?;
    let pod = Pod::in_netns(&host, &netns);
    pod.refused("add", &["no_such_sysctl"])?;
    // libcni undoes nothing by itself; a DEL follows a failed ADD.
    pod.silently("del")?;
    host.is_clean().await
}
