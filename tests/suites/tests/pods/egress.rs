//! `ENABLE_V4_EGRESS` and `ENABLE_V6_EGRESS`: pods of one family reach the other as their node.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use datapath::layout;
use datapath::pod::egress::Egress;
use ipnet::IpNet;
use libtest_mimic::Trial;
use serde_json::Value;
use suites::harness::{async_test, eventually, eventually_within};
use suites::node::{Node, Sandbox, json_of, text_of};
use vpc_lab::{Lab, LabConfig, Netns, probe};

use crate::paths::{assert_no_wrong_way, assert_seen};
use crate::world::{sandbox_by_conflist, writing_conflist};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("ipv6_pods_reach_ipv4_as_their_node", ipv4_of_ipv6_pods),
        async_test(
            "ipv4_pods_on_each_eni_reach_ipv6_as_their_node",
            ipv6_of_ipv4_pods,
        ),
        async_test(
            "nobody_reaches_a_pod_by_its_node_local_address",
            not_the_other_way,
        ),
        async_test(
            "nothing_of_a_node_local_address_outlives_its_pod",
            nothing_left,
        ),
        async_test(
            "two_pods_never_have_one_node_local_address",
            no_address_twice,
        ),
        async_test("check_tells_what_the_other_family_lacks", check),
        async_test(
            "egress_that_is_right_is_left_alone_at_a_restart_and_goes_with_its_setting",
            restarts,
        ),
        async_test(
            "a_table_of_egress_that_others_delete_is_back_within_two_seconds",
            put_back,
        ),
        async_test("what_leads_to_a_node_local_address_is_put_back", led_again),
        async_test(
            "without_an_address_of_the_node_there_is_no_egress",
            no_address_of_the_node,
        ),
    ]
}

fn lab(ipv6_addresses: usize) -> anyhow::Result<Lab> {
    Lab::start(LabConfig {
        link_lag: Duration::from_millis(50),
        ipv6_addresses,
        ..LabConfig::default()
    })
}

/// A node whose pods have IPv6 alone, or IPv4 alone.
fn node<'lab>(lab: &'lab Lab, name: &str, egress: Egress) -> Node<'lab> {
    let ipv6 = egress == Egress::V4;
    let node = Node::new(lab, name)
        .with("ENABLE_IPv4", !ipv6)
        .with("ENABLE_IPv6", ipv6);
    let node = writing_conflist(node);
    match egress {
        // On unless it is turned off.
        Egress::V4 => node,
        Egress::V6 => node.with("ENABLE_V6_EGRESS", true),
    }
}

#[derive(Debug)]
struct Pod<'a> {
    netns: Netns,
    sandbox: Sandbox<'a>,
    address: IpAddr,
    result: Value,
}

impl Pod<'_> {
    /// Its address that is good on its node alone.
    fn local(&self, egress: Egress) -> anyhow::Result<IpAddr> {
        let found = json_of(&self.netns, "ip", &["-j", "addr", "show", "dev", "eth0"])?;
        let infos = found[0]["addr_info"].as_array().context("no addresses")?;
        let mut addresses = infos.iter().filter_map(|info| info["local"].as_str());
        addresses
            .find_map(|text| text.parse().ok().filter(|it| egress.range().contains(it)))
            .with_context(|| format!("none of {} in {found:#}", egress.range()))
    }
}

async fn pod<'a>(lab: &Lab, node: &'a Node<'a>, name: &str) -> anyhow::Result<Pod<'a>> {
    let netns = lab.pod_netns(&format!("pod-{name}"))?;
    let sandbox = sandbox_by_conflist(node, name, &netns).await?;
    let result = sandbox.add()?.result()?;
    let ips = result["ips"].as_array().context("no ips")?;
    ensure!(ips.len() == 1, "only the VPC's address is told: {result:#}");
    let net: IpNet = ips[0]["address"].as_str().context("no address")?.parse()?;
    lab.settle()?;
    Ok(Pod {
        netns,
        sandbox,
        address: net.addr(),
        result,
    })
}

async fn ipv4_of_ipv6_pods() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", Egress::V4);
    a.start_ipamd().await?;
    let pods = [pod(&lab, &a, "one").await?, pod(&lab, &a, "two").await?];
    let own = a.lab().primary_address();
    let public = a.lab().public_address().context("no public address")?;
    let b = lab.node("b");
    for pod in &pods {
        ensure!(pod.address.is_ipv6(), "{}", pod.address);
        let told = pod.result["interfaces"].as_array().map(Vec::len);
        assert_eq!(told, Some(2), "{:#}", pod.result);
        let (internet, peer) = (lab.internet(), lab.peer());
        assert_seen(&pod.netns, internet.netns(), internet.address(), public)?;
        assert_seen(&pod.netns, peer.netns(), peer.address(), own)?;
        // Within the VPC too: nobody there knows where the pod's address is.
        assert_seen(&pod.netns, b.netns(), b.primary_address(), own)?;
        // What is at home in its own family is not translated.
        let ipv6 = b.ipv6_address().context("a node without IPv6")?;
        assert_seen(&pod.netns, b.netns(), ipv6, pod.address)?;
        let node = pod.local(Egress::V4)?;
        assert_seen(&pod.netns, a.lab().netns(), own, node)?;
    }
    let (first, again) = (&pods[0], pods[0].sandbox.add()?.result()?);
    assert_eq!(again, first.result, "an ADD that is repeated");
    assert_no_wrong_way(&lab)
}

async fn ipv6_of_ipv4_pods() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", Egress::V6);
    a.start_ipamd().await?;
    // Nine addresses fit on the primary ENI.
    let mut pods = Vec::new();
    for number in 0..10 {
        pods.push(pod(&lab, &a, &format!("a-{number}")).await?);
    }
    let own = a.lab().ipv6_address().context("a node without IPv6")?;
    let b = lab.node("b");
    let to = b.ipv6_address().context("a node without IPv6")?;
    for (pod, eni) in [(&pods[0], 0), (&pods[9], 1)] {
        let IpAddr::V4(address) = pod.address else {
            anyhow::bail!("{} is not IPv4", pod.address)
        };
        let index = crate::world::device_index_in_ec2(&lab, address);
        assert_eq!(index, Some(eni));
        assert_seen(&pod.netns, b.netns(), to, own)?;
        assert_seen(&pod.netns, b.netns(), b.primary_address(), address)?;
        let sides = [
            (&pod.netns, "eth0".to_owned()),
            (
                a.lab().netns(),
                layout::host_veth_name(&pod.sandbox.container_id, "eth0"),
            ),
        ];
        for (netns, link) in sides {
            for setting in ["accept_ra", "accept_redirects"] {
                let path = format!("/proc/sys/net/ipv6/conf/{link}/{setting}");
                let value = netns.run(|| fs::read_to_string(&path))?;
                assert_eq!(value.trim(), "0", "{path}");
            }
        }
        let tentative = text_of(&pod.netns, "ip", &["-6", "addr", "show", "tentative"])?;
        assert_eq!(tentative, "");
    }
    // The node forwards now, and still has the way out that routers gave it.
    assert_seen(a.lab().netns(), b.netns(), to, own)?;
    assert_no_wrong_way(&lab)
}

async fn not_the_other_way() -> anyhow::Result<()> {
    let lab = lab(1)?;
    for egress in [Egress::V4, Egress::V6] {
        let mut a = node(&lab, "a", egress);
        a.start_ipamd().await?;
        let name = |which: &str| format!("{which}-{egress:?}").to_lowercase();
        let one = pod(&lab, &a, &name("one")).await?;
        let two = pod(&lab, &a, &name("two")).await?;
        let local = two.local(egress)?;
        let listener = two.netns.run(|| TcpListener::bind((local, 0)))?;
        let to = listener.local_addr()?;
        let error = one
            .netns
            .run(|| TcpStream::connect_timeout(&to, probe::PATIENCE).map(drop))
            .expect_err("a pod reached another by an address that is not of the VPC");
        let refused = std::io::ErrorKind::ConnectionRefused;
        assert_eq!(error.kind(), refused, "refused at once: {error}");
        for pod in [&one, &two] {
            assert_eq!(pod.sandbox.del()?.code, Some(0));
        }
        drop((one, two));
        a.stop_ipamd().await?;
        // The next has other pods.
        fs::remove_file(a.books())?;
        fs::remove_file(a.lab().run_dir().join("10-aws.conflist"))?;
    }
    Ok(())
}

/// What the host has of node-local addresses.
fn traces(node: &Node<'_>, egress: Egress) -> anyhow::Result<String> {
    let (family, range) = match egress {
        Egress::V4 => ("-4", "169.254.172.0/22"),
        Egress::V6 => ("-6", "fd00::ac:0/118"),
    };
    let host = node.lab().netns();
    let main = ["table", "main", "root", range];
    let routes = text_of(
        host,
        "ip",
        &[&[family, "route", "show"], &main[..]].concat(),
    )?;
    let neighbours = text_of(host, "ip", &[family, "neigh", "show", "nud", "permanent"])?;
    Ok(routes + &neighbours)
}

async fn nothing_left() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", Egress::V4);
    a.start_ipamd().await?;
    let before = traces(&a, Egress::V4)?;
    let (deleted, vanished) = (pod(&lab, &a, "one").await?, pod(&lab, &a, "two").await?);
    assert_ne!(traces(&a, Egress::V4)?, before);
    assert_eq!(deleted.sandbox.del()?.code, Some(0));
    drop(vanished.netns);
    eventually("the namespace's traces go with it", async || {
        Ok((traces(&a, Egress::V4)? == before).then_some(()))
    })
    .await
}

async fn no_address_twice() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", Egress::V4);
    a.start_ipamd().await?;
    let host = a.lab().netns();
    let (netns, first) = {
        let one = pod(&lab, &a, "one").await?;
        let first = one.local(Egress::V4)?;
        assert_eq!(one.sandbox.del()?.code, Some(0));
        (one.netns, first)
    };
    // Somebody else has it now.
    text_of(
        host,
        "ip",
        &["route", "add", &first.to_string(), "dev", "lo"],
    )?;
    let add = sandbox_by_conflist(&a, "one", &netns).await?;
    add.add()?.result()?;
    let again = Pod {
        netns,
        sandbox: add,
        address: first,
        result: Value::Null,
    };
    let second = again.local(Egress::V4)?;
    assert_ne!(second, first);
    assert_eq!(again.sandbox.del()?.code, Some(0));

    // All others too.
    let IpNet::V4(range) = Egress::V4.range() else {
        anyhow::bail!("a range of IPv6")
    };
    let taken: BTreeSet<_> = range.hosts().map(IpAddr::V4).collect();
    assert_eq!(taken.len(), 1022, "room for every pod that a node can have");
    let lines: Vec<_> = taken
        .iter()
        .map(|address| format!("route replace {address} dev lo\n"))
        .collect();
    let file = a.lab().run_dir().join("taken");
    fs::write(&file, lines.concat())?;
    text_of(host, "ip", &["-batch", &file.display().to_string()])?;
    let error = again.sandbox.add()?.error()?.to_string();
    ensure!(
        error.contains("169.254.172.0/22") && error.contains("taken"),
        "{error}"
    );
    assert_eq!(a.pod_links()?, 0);
    let owned = a.pool().await?.totals.context("totals")?.owned;
    assert_eq!(owned, 0, "its VPC address went back");
    Ok(())
}

async fn check() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", Egress::V4);
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one").await?;
    let mut checked = pod.sandbox.clone();
    checked.conf["prevResult"] = pod.result.clone();
    let look = || checked.call("CHECK");
    let outcome = look()?;
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    let local = pod.local(Egress::V4)?.to_string();
    text_of(a.lab().netns(), "ip", &["route", "del", &local])?;
    let error = look()?.error()?.to_string();
    ensure!(
        error.contains(&format!("no route to {local} in table 254")),
        "{error}"
    );
    text_of(&pod.netns, "ip", &["-4", "addr", "flush", "dev", "eth0"])?;
    let error = look()?.error()?.to_string();
    ensure!(error.contains("no address of 169.254.172.0/22"), "{error}");
    Ok(())
}

async fn restarts() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", Egress::V4);
    start(&mut a, 1).await?;
    let netns = pod(&lab, &a, "one").await?.netns;
    let host = a.lab().netns();
    let listed = || text_of(host, "nft", &["-a", "list", "table", "ip", "weir-egress"]);
    let before = listed()?;
    ensure!(before.contains("snat to"), "{before}");
    a.kill_ipamd();
    start(&mut a, 2).await?;
    assert_eq!(
        listed()?,
        before,
        "the handles say that nothing was replaced"
    );
    let (node, b) = (a.lab().primary_address(), lab.node("b"));
    assert_seen(&netns, b.netns(), b.primary_address(), node)?;

    // A rule that somebody took is there again.
    let chain = ["ip", "weir-egress", "source"];
    text_of(host, "nft", &[&["flush", "chain"], &chain[..]].concat())?;
    a.kill_ipamd();
    start(&mut a, 3).await?;
    ensure!(listed()?.contains("snat to"), "{}", listed()?);

    a.kill_ipamd();
    let mut off = node_without(&lab);
    start(&mut off, 4).await?;
    ensure!(listed().is_err(), "the table outlives its setting");
    let conflist = fs::read_to_string(off.lab().run_dir().join("10-aws.conflist"))?;
    ensure!(!conflist.contains("egress"), "{conflist}");
    Ok(())
}

/// Starts ipamd for this many times, and waits until it has done what it does to the node.
async fn start(node: &mut Node<'_>, times: usize) -> anyhow::Result<()> {
    node.start_ipamd().await?;
    let prepared = async || {
        let log = fs::read_to_string(node.log())?;
        let lines = log.matches("prepared the node's network").count();
        Ok((lines >= times).then_some(()))
    };
    eventually("the node is prepared", prepared).await
}

fn node_without(lab: &Lab) -> Node<'_> {
    node(lab, "a", Egress::V4).with("ENABLE_V4_EGRESS", false)
}

async fn no_address_of_the_node() -> anyhow::Result<()> {
    let lab = lab(0)?;
    let mut a = node(&lab, "a", Egress::V6);
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one").await?;
    ensure!(
        pod.local(Egress::V6).is_err(),
        "an address that leads nowhere"
    );
    let log = fs::read_to_string(a.log())?;
    ensure!(
        log.contains("ENABLE_V6_EGRESS is true, and the primary ENI"),
        "{log}"
    );
    Ok(())
}

/// The route is known by the neighbour, and the neighbour by the route.
async fn led_again() -> anyhow::Result<()> {
    for egress in [Egress::V4, Egress::V6] {
        let lab = lab(1)?;
        let mut a = node(&lab, "a", egress);
        a.start_ipamd().await?;
        let pod = pod(&lab, &a, "one").await?;
        let address = pod.local(egress)?.to_string();
        let host = a.lab().netns();
        let family = if egress == Egress::V4 { "-4" } else { "-6" };
        let link = layout::host_veth_name(&pod.sandbox.container_id, "eth0");
        for thing in ["route", "neigh"] {
            let list = [family, thing, "show", "dev", &link];
            let before = text_of(host, "ip", &list)?;
            ensure!(before.contains(&address), "{before}");
            text_of(host, "ip", &[family, thing, "del", &address, "dev", &link])?;
            ensure!(!text_of(host, "ip", &list)?.contains(&format!("{address} ")));
            eventually_within(Duration::from_secs(5), thing, async || {
                Ok((text_of(host, "ip", &list)? == before).then_some(()))
            })
            .await?;
        }
        let repairs = a.pool().await?.repairs;
        let of_pods = repairs.iter().find(|repair| repair.kind == "pod");
        assert_eq!(of_pods.map(|repair| repair.count), Some(2), "{repairs:#?}");
    }
    Ok(())
}

async fn put_back() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let mut a = node(&lab, "a", Egress::V4);
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one").await?;
    let list = || {
        text_of(
            a.lab().netns(),
            "nft",
            &["list", "table", "ip", "weir-egress"],
        )
    };
    let before = list()?;
    text_of(
        a.lab().netns(),
        "nft",
        &["delete", "table", "ip", "weir-egress"],
    )?;
    eventually_within(Duration::from_secs(2), "the table", async || {
        Ok(list().is_ok_and(|after| after == before).then_some(()))
    })
    .await?;
    let (internet, public) = (lab.internet(), a.lab().public_address());
    let public = public.context("no public address")?;
    assert_seen(&pod.netns, internet.netns(), internet.address(), public)
}
