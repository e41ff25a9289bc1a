//! What takes minutes: what is too much goes back to EC2, an EC2 that does nothing for long is asked for less, and
//! what others take away is noticed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use aws_sim::{CallRecord, Effect, Event, Fault};
use datapath::layout;
use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::{Node, text_of};
use vpc_lab::{Lab, LabConfig};

use crate::paths::assert_seen;
use crate::world::{Pod, pod, pods_until_second_eni};

/// There must be too much for half a minute, and a slot and an ENI must be a minute old; that may take two rounds.
/// EC2 must have done nothing for two minutes.
const MINUTES: Duration = Duration::from_mins(4);

/// All at once, on a node each: they wait most of the time.
pub(crate) fn tests() -> Vec<Trial> {
    vec![async_test(
        "what_a_burst_left_goes_back_what_is_taken_is_noticed_and_an_ec2_in_trouble_is_spared",
        async || {
            let lab = three_nodes()?;
            let (burst, spared, taken) = tokio::join!(burst(&lab), spared(&lab), taken(&lab));
            let failed = [
                burst.context("giving back"),
                spared.context("sparing EC2"),
                taken.context("noticing what is taken"),
            ];
            let failed: Vec<_> = failed.into_iter().filter_map(Result::err).collect();
            anyhow::ensure!(failed.is_empty(), "{failed:#?}");
            Ok(())
        },
    )]
}

fn three_nodes() -> anyhow::Result<Lab> {
    let mut config = LabConfig::default();
    let mut third = config.nodes[0].clone();
    (third.name, third.public_address) = ("c".to_owned(), None);
    config.nodes.push(third);
    Lab::start(config)
}

/// Twelve pods come and go: in the end EC2 and the kernel have what one pod and two free addresses need.
async fn burst(lab: &Lab) -> anyhow::Result<()> {
    let mut a = Node::new(lab, "a")
        .with("WARM_IP_TARGET", 2)
        .with("IP_COOLDOWN_PERIOD", 1);
    a.start_ipamd().await?;
    a.wait_for_pool("two free", |pool| {
        pool.totals.is_some_and(|totals| totals.free == 2)
    })
    .await?;
    let untouched = text_of(a.lab().netns(), "ip", &["-4", "rule"])?;
    let mut pods = pods_until_second_eni(lab, &a).await?;
    let stays = pods.remove(0);
    let second = a.pool().await?.enis[1].eni_id.clone();
    // A call of which the reply takes long shows what the node did before it asked.
    for action in ["UnassignPrivateIpAddresses", "DetachNetworkInterface"] {
        let slow = Fault::on(action, Effect::Latency(Duration::from_secs(2)));
        lab.sim().inject(slow.from_instance("a"));
    }
    for pod in pods {
        assert_eq!(pod.sandbox.del()?.code, Some(0));
    }

    let mut seen = 0;
    let (mut unassigned, mut detached, mut calls) = (BTreeSet::new(), 0, 0);
    let end = tokio::time::Instant::now() + MINUTES;
    loop {
        for call in calls_of(lab, &a).iter().skip(seen) {
            seen += 1;
            match call.action.as_str() {
                "UnassignPrivateIpAddresses" => {
                    calls += 1;
                    let addresses = addresses_in(call)?;
                    assert_forgotten(&a, &addresses)?;
                    for address in addresses {
                        assert!(unassigned.insert(address), "{address} given back twice");
                    }
                }
                "DetachNetworkInterface" => {
                    detached += 1;
                    // amazon-vpc-cni-k8s#458: forced, the driver may lose what is under way.
                    assert!(!call.params.contains_key("Force"), "{call:?}");
                    let rules = text_of(a.lab().netns(), "ip", &["-4", "rule"])?;
                    assert_eq!(rules, untouched, "the ENI's rules outlive it");
                }
                _ => {}
            }
        }
        let pool = a.pool().await?;
        let totals = pool.totals.context("totals")?;
        if totals.held == 3 && pool.enis.len() == 1 && pool.pending_calls.is_empty() {
            break;
        }
        if tokio::time::Instant::now() > end {
            anyhow::bail!("not given back: {pool:#?}\n{}", a.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(detached, 1);
    // amazon-vpc-cni-k8s#538: it was deleted while it was attached.
    let ends = calls_of(lab, &a).into_iter();
    let ends: Vec<_> = ends.map(|call| call.action).collect();
    let of = |action: &str| ends.iter().position(|end| end == action);
    assert!(
        of("DetachNetworkInterface") < of("DeleteNetworkInterface"),
        "{ends:?}"
    );
    // Whoever was not old enough in the first round goes in the second.
    assert!(calls <= 2, "{calls} calls for {unassigned:?}");

    // EC2 has just what the pool shows, and nothing is left over.
    let fabric = lab.sim().fabric();
    assert!(
        fabric.enis.iter().all(|eni| eni.id != second),
        "{second} was left behind"
    );
    let mut enis = fabric.enis;
    enis.retain(|eni| eni.instance_id.as_deref() == Some(a.lab().instance_id()));
    assert_eq!(enis.len(), 1, "{enis:#?}");
    assert_eq!(enis[0].addresses.len(), 1 + 3, "{enis:#?}");
    assert!(enis[0].addresses.contains(&stays.address));
    let outcomes: Vec<_> = calls_of(lab, &a)
        .into_iter()
        .filter(|call| call.error.is_some())
        .collect();
    assert!(outcomes.is_empty(), "EC2 refused: {outcomes:#?}");
    // What is gone is another's now: this node sends packets to it out, and does not refuse them.
    for gone in &unassigned {
        let route = text_of(a.lab().netns(), "ip", &["route", "get", &gone.to_string()])?;
        assert!(!route.contains("unreachable"), "{route}");
    }
    let b = lab.node("b");
    assert_seen(&stays.netns, b.netns(), b.primary_address(), stays.address)?;
    // It grows again as if nothing had been.
    let again = pod(lab, &a, "again")?;
    assert_seen(&again.netns, &stays.netns, stays.address, again.address)?;
    a.stop_ipamd().await
}

/// EC2 throttles everything: after two minutes the pool asks for nothing that nobody waits for, and says so.
async fn spared(lab: &Lab) -> anyhow::Result<()> {
    let mut b = Node::new(lab, "b").with("WARM_IP_TARGET", 5);
    b.start_ipamd().await?;
    let free = |pool: &proto::v1::GetPoolResponse| pool.totals.map_or(0, |totals| totals.free);
    b.wait_for_pool("five free", |pool| free(pool) == 5).await?;
    lab.sim()
        .inject(Fault::on_all(Effect::Throttled).from_instance("b"));
    let pods: Result<Vec<Pod<'_>>, _> = (0..3).map(|n| pod(lab, &b, &format!("b{n}"))).collect();
    let pods = pods?;
    let mode = |pool: &proto::v1::GetPoolResponse| {
        pool.node
            .as_ref()
            .map_or(String::new(), |node| node.mode.clone())
    };
    assert_eq!(mode(&b.pool().await?), "normal");
    b.wait_for_pool_within(MINUTES, "mode allocate-only", |pool| {
        mode(pool) == "allocate-only"
    })
    .await?;
    let log = std::fs::read_to_string(b.log())?;
    assert!(log.contains("the pool is in mode allocate-only"), "{log}");
    // What is held is given all the same.
    let held = pod(lab, &b, "held")?;
    assert_seen(&held.netns, &pods[0].netns, pods[0].address, held.address)?;

    // One call that works, for pods that wait, and all is well again.
    lab.sim().clear_faults();
    let more: Result<Vec<Pod<'_>>, _> = (0..2).map(|n| pod(lab, &b, &format!("c{n}"))).collect();
    more?;
    b.wait_for_pool("mode normal and five free", |pool| {
        mode(pool) == "normal" && free(pool) == 5
    })
    .await?;
    b.stop_ipamd().await
}

/// Somebody gives a free address of node c to another ENI. Nothing tells ipamd, but IMDS.
async fn taken(lab: &Lab) -> anyhow::Result<()> {
    let mut c = Node::new(lab, "c").with("WARM_IP_TARGET", 2);
    c.start_ipamd().await?;
    let free = |pool: &proto::v1::GetPoolResponse| pool.totals.map_or(0, |totals| totals.free);
    let pool = c.wait_for_pool("two free", |pool| free(pool) == 2).await?;
    let taken: Ipv4Addr = pool.enis[0].addresses[0].address.parse()?;
    lab.sim().happen(&Event::StealAddress {
        eni: "c/0".to_owned(),
        address: Some(taken.into()),
        to: None,
    })?;
    let text = taken.to_string();
    c.wait_for_pool_within(MINUTES, "another address instead", |pool| {
        let mut addresses = pool.enis.iter().flat_map(|eni| &eni.addresses);
        free(pool) == 2 && addresses.all(|held| held.address != text)
    })
    .await?;
    assert_forgotten(&c, &[taken])?;
    c.stop_ipamd().await
}

fn calls_of(lab: &Lab, node: &Node<'_>) -> Vec<CallRecord> {
    let mut calls = lab.sim().calls();
    calls.retain(|call| {
        call.instance
            .as_ref()
            .is_some_and(|id| id.to_string() == node.lab().instance_id())
    });
    calls
}

fn addresses_in(call: &CallRecord) -> anyhow::Result<Vec<Ipv4Addr>> {
    let listed = call
        .params
        .iter()
        .filter(|(name, _)| name.starts_with("PrivateIpAddress."));
    let addresses: Vec<Ipv4Addr> = listed
        .map(|(_, address)| address.parse())
        .collect::<Result<_, _>>()?;
    anyhow::ensure!(!addresses.is_empty(), "nothing to unassign: {call:?}");
    Ok(addresses)
}

/// The kernel has nothing of these addresses any more.
fn assert_forgotten(node: &Node<'_>, addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
    let table = layout::PODS_TABLE.to_string();
    let netns = node.lab().netns();
    let routes = text_of(netns, "ip", &["route", "show", "table", &table])?;
    let ruleset = text_of(netns, "nft", &["list", "table", "ip", "weir"])?;
    for address in addresses {
        let address = address.to_string();
        let named = |text: &str| {
            text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
                .any(|word| word == address)
        };
        assert!(!named(&routes), "{address} has a route still:\n{routes}");
        assert!(!named(&ruleset), "{address} is marked still:\n{ruleset}");
    }
    Ok(())
}
