//! `ENABLE_IPv6`: pods with an IPv6 address of a /80, alone and beside IPv4.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use aws_sim::fabric::FabricEni;
use ipnet::IpNet;
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually_within};
use suites::node::{Node, Sandbox, text_of};
use vpc_lab::{Lab, LabConfig, Netns, probe};

use crate::paths::{assert_no_wrong_way, assert_seen};
use crate::repairs::AT_THE_LATEST;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("ipv6_pods_reach_each_other_and_the_nodes", ipv6_alone),
        async_test(
            "dual_stack_pods_reach_each_other_in_both_families",
            dual_stack,
        ),
        async_test(
            "an_ipv6_prefix_of_a_secondary_eni_has_its_way_out_there",
            secondary,
        ),
        async_test("what_others_take_away_of_ipv6_is_back_soon", taken_away),
        async_test(
            "a_restart_and_a_del_leave_ipv6_as_it_should_be",
            restart_and_del,
        ),
    ]
}

/// Two m5.large nodes, each with so many IPv6 addresses of its own.
fn lab(ipv6_addresses: usize) -> anyhow::Result<Lab> {
    Lab::start(LabConfig {
        link_lag: Duration::from_millis(50),
        ipv6_addresses,
        ..LabConfig::default()
    })
}

fn node<'lab>(lab: &'lab Lab, name: &str, ipv4: bool) -> Node<'lab> {
    Node::new(lab, name)
        .with("ENABLE_IPv4", ipv4)
        .with("ENABLE_IPv6", true)
}

struct Pod<'a> {
    netns: Netns,
    sandbox: Sandbox<'a>,
    addresses: Vec<IpAddr>,
}

impl Pod<'_> {
    fn ipv6(&self) -> anyhow::Result<Ipv6Addr> {
        match self.addresses.last() {
            Some(IpAddr::V6(address)) => Ok(*address),
            other => anyhow::bail!("not IPv6: {other:?}"),
        }
    }
}

fn pod<'a>(lab: &Lab, node: &'a Node<'a>, name: &str) -> anyhow::Result<Pod<'a>> {
    let netns = lab.pod_netns(&format!("pod-{name}"))?;
    let sandbox = node.sandbox(&format!("sandbox-{name}"), name, netns.path());
    let result = sandbox.add()?.result()?;
    let ips = result["ips"].as_array().context("no ips")?;
    let addresses = ips
        .iter()
        .map(|ip| {
            let net: IpNet = ip["address"].as_str().context("no address")?.parse()?;
            anyhow::ensure!(net.prefix_len() == net.max_prefix_len(), "{net}");
            Ok(net.addr())
        })
        .collect::<anyhow::Result<_>>()?;
    lab.settle()?;
    Ok(Pod {
        netns,
        sandbox,
        addresses,
    })
}

/// Each pod reaches each other one in all families that both have, and is seen as itself.
fn assert_all_reach_all(pods: &[Pod<'_>]) -> anyhow::Result<()> {
    for from in pods {
        for to in pods {
            for (source, address) in from.addresses.iter().zip(&to.addresses) {
                assert_seen(&from.netns, &to.netns, *address, *source)?;
            }
        }
    }
    Ok(())
}

/// The ENI that holds a pod's address in a /80, by EC2's word.
fn holder(lab: &Lab, address: Ipv6Addr) -> anyhow::Result<FabricEni> {
    let mut enis = lab.sim().fabric().enis.into_iter();
    enis.find(|eni| eni.ipv6_prefixes.iter().any(|net| net.contains(&address)))
        .with_context(|| format!("no ENI holds {address}"))
}

async fn ipv6_alone() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let (mut a, mut b) = (node(&lab, "a", false), node(&lab, "b", false));
    a.start_ipamd().await?;
    b.start_ipamd().await?;
    let pods = [
        pod(&lab, &a, "a-0")?,
        pod(&lab, &a, "a-1")?,
        pod(&lab, &b, "b-0")?,
    ];
    for pod in &pods {
        assert_eq!(pod.addresses.len(), 1, "{:?}", pod.addresses);
        assert_eq!(holder(&lab, pod.ipv6()?)?.device_index, 0);
        let ipv4 = text_of(&pod.netns, "ip", &["-4", "addr", "show", "dev", "eth0"])?;
        assert_eq!(ipv4, "");
    }
    assert_all_reach_all(&pods)?;
    for pod in &pods {
        for node in lab.nodes() {
            let own = node.ipv6_address().context("a node without IPv6")?;
            assert_seen(node.netns(), &pod.netns, pod.ipv6()?, own)?;
            assert_seen(&pod.netns, node.netns(), own, pod.ipv6()?)?;
        }
    }
    // One /80 is enough for every pod that a node can have.
    let primary = holder(&lab, pods[0].ipv6()?)?;
    assert_eq!(primary.ipv6_prefixes.len(), 1, "{primary:?}");
    assert_eq!(primary.addresses, [primary.primary_address], "{primary:?}");
    assert_no_wrong_way(&lab)
}

async fn dual_stack() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let (mut a, mut b) = (node(&lab, "a", true), node(&lab, "b", true));
    a.start_ipamd().await?;
    b.start_ipamd().await?;
    // Nine IPv4 addresses fit on the primary ENI: the tenth pod has its IPv4 on another one.
    let mut pods = (0..10)
        .map(|n| pod(&lab, &a, &format!("a-{n}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    pods.drain(1..9);
    pods.push(pod(&lab, &b, "b-0")?);
    for pod in &pods {
        let [IpAddr::V4(ipv4), IpAddr::V6(ipv6)] = pod.addresses[..] else {
            anyhow::bail!("not one of each: {:?}", pod.addresses);
        };
        assert_eq!(holder(&lab, ipv6)?.device_index, 0);
        let second = crate::world::device_index_in_ec2(&lab, ipv4) == Some(1);
        assert_eq!(second, ipv4 == pods[1].addresses[0], "{ipv4}");
    }
    assert_all_reach_all(&pods)?;
    let public = a.lab().public_address().context("no public address")?;
    let internet = lab.internet();
    for pod in &pods[..2] {
        assert_seen(&pod.netns, internet.netns(), internet.address(), public)?;
    }
    assert_no_wrong_way(&lab)
}

async fn secondary() -> anyhow::Result<()> {
    // All ten IPv6 slots of the primary ENI are the node's own.
    let lab = lab(10)?;
    let (mut a, mut b) = (node(&lab, "a", true), node(&lab, "b", false));
    a.start_ipamd().await?;
    b.start_ipamd().await?;
    let pods = [
        pod(&lab, &a, "a-0")?,
        pod(&lab, &a, "a-1")?,
        pod(&lab, &b, "b-0")?,
    ];
    for pod in &pods {
        let eni = holder(&lab, pod.ipv6()?)?;
        assert_eq!(eni.device_index, 1, "{eni:?}");
    }
    let prefix = holder(&lab, pods[0].ipv6()?)?.ipv6_prefixes[0];
    let rules = text_of(a.lab().netns(), "ip", &["-6", "rule"])?;
    let rule = format!("1536:\tfrom {prefix} lookup 2 proto 87");
    assert!(rules.lines().any(|line| line == rule), "{rules}");
    for from in &pods {
        for to in &pods {
            assert_seen(&from.netns, &to.netns, to.ipv6()?, from.ipv6()?)?;
        }
        for node in lab.nodes() {
            let own = node.ipv6_address().context("a node without IPv6")?;
            assert_seen(&from.netns, node.netns(), own, from.ipv6()?)?;
        }
    }
    assert_no_wrong_way(&lab)
}

async fn taken_away() -> anyhow::Result<()> {
    let lab = lab(10)?;
    let mut a = node(&lab, "a", true);
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "a-0")?;
    let mac = datapath::Mac(holder(&lab, pod.ipv6()?)?.mac).to_string();
    let host = a.lab().netns();
    let links = text_of(host, "ip", &["-br", "link"])?;
    let eni = links.lines().find(|line| line.contains(&mac));
    let eni = eni.and_then(|line| line.split([' ', '@']).next());
    let eni = eni.with_context(|| format!("no link has {mac}: {links}"))?;
    // A look that finds all there.
    text_of(host, "ip", &["link", "set", eni, "alias", "looked-at"])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(a.pool().await?.repairs, [], "nobody broke anything");

    let other = lab.node("b");
    let own = other.ipv6_address().context("a node without IPv6")?;
    for command in [
        "ip -6 rule flush proto 87".to_owned(),
        "ip -6 route flush table 2".to_owned(),
        "ip -6 route flush table 5120".to_owned(),
        format!("ip link set {eni} down"),
        "sysctl -qw net.ipv6.conf.all.forwarding=0".to_owned(),
        "nft delete table ip6 weir".to_owned(),
    ] {
        let ours = || -> anyhow::Result<_> {
            let rules = text_of(host, "ip", &["-6", "rule"])?;
            let routes = text_of(
                host,
                "ip",
                &["-6", "route", "show", "table", "all", "proto", "87"],
            )?;
            let forwarding = text_of(host, "sysctl", &["-n", "net.ipv6.conf.all.forwarding"])?;
            let tables = text_of(host, "nft", &["list", "ruleset"])?;
            Ok((rules, routes, forwarding, tables))
        };
        let before = ours()?;
        let words: Vec<_> = command.split(' ').collect();
        text_of(host, words[0], &words[1..])?;
        let whole = eventually_within(AT_THE_LATEST, &command, async || {
            Ok((ours()? == before).then_some(()))
        });
        whole.await.with_context(|| a.log_tail())?;
        assert_seen(&pod.netns, other.netns(), own, pod.ipv6()?)?;
        let seen = probe::tcp(other.netns(), &pod.netns, pod.ipv6()?)?;
        assert!(seen.reply_ok, "after {command}: {seen:?}");
    }
    Ok(())
}

async fn restart_and_del() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", true);
    a.start_ipamd().await?;
    let (stays_at, goes_at) = {
        let (stays, goes) = (pod(&lab, &a, "stays")?, pod(&lab, &a, "goes")?);
        assert_all_reach_all(std::slice::from_ref(&stays))?;
        ((stays.netns, stays.addresses), (goes.netns, goes.addresses))
    };
    a.wait_for_pool("a quiet pool", |pool| pool.pending_calls.is_empty())
        .await?;
    crate::world::imds_shows_all(&lab);
    a.kill_ipamd();
    let calls = lab.sim().calls().len();
    a.start_ipamd().await?;
    assert_eq!(
        lab.sim().calls().len(),
        calls,
        "the books say what IMDS shows, so EC2 is asked nothing: {:?}",
        lab.sim().calls().last()
    );

    let again = a.sandbox("sandbox-stays", "stays", stays_at.0.path());
    let result = again.add()?.result()?;
    let shown = result["ips"][1]["address"].as_str();
    assert_eq!(shown, Some(format!("{}/128", stays_at.1[1]).as_str()));

    assert_seen(&stays_at.0, &goes_at.0, goes_at.1[1], stays_at.1[1])?;
    let gone = a.sandbox("sandbox-goes", "goes", goes_at.0.path());
    assert_eq!(gone.del()?.code, Some(0));
    let error = stays_at
        .0
        .run(|| TcpStream::connect_timeout(&(goes_at.1[1], 80).into(), probe::PATIENCE).map(drop))
        .expect_err("something answered for a pod that is gone");
    let told = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
    assert!(told.contains(&error.kind()), "{error}");
    // The address rests, and of so many none is given out again soon.
    let next = pod(&lab, &a, "next")?;
    assert!(!goes_at.1.contains(&next.ipv6()?.into()));
    assert_eq!(next.sandbox.del()?.code, Some(0));
    Ok(())
}
