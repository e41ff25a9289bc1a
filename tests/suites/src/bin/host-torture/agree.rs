//! The end: when all is quiet, kernel, books and EC2 hold the same, and nothing is left of what has gone.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use datapath::layout;
use proto::v1::GetPoolResponse;
use serde_json::Value;
use suites::node::{Node, json_of, text_of};

use crate::daemon;
use crate::kubelet::{self, Pod};
use crate::random::Random;
use crate::world::World;

/// How long it may take until all agree: an ENI that was under way comes first.
const PATIENCE: Duration = Duration::from_secs(60);

/// GC spares what is younger than a minute, and takes ipamd's start for the birth of all.
const YOUNG: Duration = Duration::from_secs(62);

/// Ends what still runs, and compares.
pub(crate) async fn end(
    world: &World<'_>,
    node: &mut Node<'_>,
    pods: Vec<Pod<'_>>,
) -> anyhow::Result<()> {
    if world.is_broken() {
        return Ok(());
    }
    if !world.damage.is_repaired() {
        world.ends();
        node.stop_ipamd().await?;
        daemon::start(world, node).await?;
    }
    if world.forgets {
        // Of all that is there it is now known for how long.
        tokio::time::sleep(YOUNG).await;
        kubelet::garbage(world)?;
        world.clear_forgotten();
    }
    let mut random = Random::of(0, 0);
    let (whole, damaged): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.is_whole(world));
    for pod in damaged {
        kubelet::end(world, &mut random, pod)?;
    }
    let live: BTreeSet<_> = whole.iter().map(|pod| pod.id.clone()).collect();
    agree(world, node, &whole)
        .await
        .with_context(|| format!("with {} pods", live.len()))?;
    for pod in &whole {
        kubelet::check(world, pod)?;
        kubelet::packets(world, pod)?;
    }
    for pod in whole {
        kubelet::end(world, &mut random, pod)?;
    }
    kubelet::garbage(world)?;
    agree(world, node, &[]).await.context("without pods")
}

/// Waits until nothing is found.
async fn agree(world: &World<'_>, node: &Node<'_>, live: &[Pod<'_>]) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        world.lab.settle()?;
        let faults = faults(world, node, live).await?;
        if faults.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("they do not agree: {faults:#?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What is missing and what is left over.
struct Faults(Vec<String>);

impl Faults {
    fn compare<T: Ord + Debug>(
        &mut self,
        what: &str,
        wanted: impl IntoIterator<Item = T>,
        found: impl IntoIterator<Item = T>,
    ) {
        let (wanted, found): (BTreeSet<T>, BTreeSet<T>) =
            (wanted.into_iter().collect(), found.into_iter().collect());
        let mut differ = |sign: &str, list: BTreeSet<&T>| {
            let list = list.into_iter();
            self.0
                .extend(list.map(|it| format!("{what}: {sign} {it:?}")));
        };
        differ("missing", wanted.difference(&found).collect());
        differ("left over", found.difference(&wanted).collect());
    }
}

async fn faults(
    world: &World<'_>,
    node: &Node<'_>,
    live: &[Pod<'_>],
) -> anyhow::Result<Vec<String>> {
    let mut faults = Faults(Vec::new());
    let pool = node.pool().await?;
    if !pool.pending_calls.is_empty() {
        faults
            .0
            .push(format!("EC2 is being asked: {:?}", pool.pending_calls));
    }
    kernel(world, &mut faults, &pool, live)?;
    books(node, &mut faults, &pool, live)?;
    ec2(world, node, &mut faults, &pool);
    folders(node, &mut faults, live)?;
    Ok(faults.0)
}

fn list(world: &World<'_>, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let json = json_of(world.host, "ip", arguments)?;
    let mut list = json.as_array().cloned().unwrap_or_default();
    // What a filter left out is an empty object.
    list.retain(|item| item.as_object().is_none_or(|item| !item.is_empty()));
    Ok(list)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn kernel(
    world: &World<'_>,
    faults: &mut Faults,
    pool: &GetPoolResponse,
    live: &[Pod<'_>],
) -> anyhow::Result<()> {
    let links = list(world, &["-j", "link"])?;
    let links = links.iter().map(|link| text(&link["ifname"]));
    let ours = links.filter(|name| name.starts_with("weir"));
    faults.compare("links", live.iter().map(Pod::host_veth), ours);

    let addresses = || live.iter().map(|pod| pod.address.to_string());
    let table = layout::PODS_TABLE.to_string();
    let routes = list(world, &["-j", "route", "show", "table", &table])?;
    let to = |unreachable: bool| {
        let of = routes
            .iter()
            .filter(move |route| (route["type"] == "unreachable") == unreachable);
        of.map(|route| text(&route["dst"]))
    };
    faults.compare("routes to pods", addresses(), to(false));
    let held = pool.enis.iter().flat_map(|eni| &eni.addresses);
    let held = held.map(|held| held.address.clone());
    faults.compare("routes of held addresses", held, to(true));

    let neighbours = list(world, &["-j", "neigh", "show", "nud", "permanent"])?;
    let known = neighbours.iter().map(|neighbour| text(&neighbour["dst"]));
    faults.compare("neighbours", addresses(), known);

    let mut rules = BTreeSet::from([
        format!("{}: from all lookup {table}", layout::RULE_PODS),
        format!(
            "{}: from all fwmark 0x80/0x80 lookup main",
            layout::RULE_CONNMARK
        ),
    ]);
    let (mut ways, mut marks) = (BTreeSet::new(), BTreeSet::new());
    for eni in pool.enis.iter().filter(|eni| eni.device_index > 0) {
        let own = &eni.primary_address;
        let place = layout::Place::first_card(eni.device_index);
        let table = place.table();
        let mark = place.mark().context("no mark")?;
        rules.insert(format!(
            "{}: from all fwmark {mark:#x}/0x7f lookup {table}",
            layout::RULE_ENI
        ));
        rules.insert(format!(
            "{}: from {own} lookup {table}",
            layout::RULE_ENI_PRIMARY
        ));
        ways.insert(format!("{table} default"));
        let router = eni.subnet_cidr.parse::<ipnet::Ipv4Net>()?.network();
        ways.insert(format!(
            "{table} {}",
            std::net::Ipv4Addr::from_bits(router.to_bits() + 1)
        ));
        let held = eni.addresses.iter();
        marks.extend(held.map(|held| format!("{} : jump eni-{mark}", held.address)));
    }
    let proto = format!("proto {}", layout::ROUTE_PROTOCOL);
    let found = text_of(world.host, "ip", &["rule"])?;
    let ours = found.lines().filter_map(|line| line.split_once(&proto));
    let ours = ours.map(|(rule, _)| rule.split_whitespace().collect::<Vec<_>>().join(" "));
    faults.compare("rules", rules, ours.collect::<Vec<_>>());
    let ours = layout::ROUTE_PROTOCOL.to_string();
    let all = list(
        world,
        &["-j", "route", "show", "table", "all", "proto", &ours],
    )?;
    let elsewhere = all.iter().filter(|route| text(&route["table"]) != table);
    let elsewhere =
        elsewhere.map(|route| format!("{} {}", text(&route["table"]), text(&route["dst"])));
    faults.compare("routes of ENIs", ways, elsewhere);

    let map = text_of(world.host, "nft", &["list", "map", "ip", "weir", "eni"])?;
    let elements = map
        .split_once("elements = {")
        .and_then(|(_, rest)| rest.split_once('}'));
    let elements = elements.map_or("", |(elements, _)| elements);
    let elements = elements.split(',').map(|element| element.trim().to_owned());
    faults.compare(
        "nftables elements",
        marks,
        elements.filter(|element| !element.is_empty()),
    );
    Ok(())
}

/// ipamd's word and its file.
fn books(
    node: &Node<'_>,
    faults: &mut Faults,
    pool: &GetPoolResponse,
    live: &[Pod<'_>],
) -> anyhow::Result<()> {
    let owners = || live.iter().map(|pod| format!("{} {}", pod.id, pod.address));
    let held = pool.enis.iter().flat_map(|eni| &eni.addresses);
    let owned = held.filter_map(|held| {
        let sandbox = held.owner.as_ref()?;
        let state = held.state() == proto::v1::AddressState::Owned;
        state.then(|| format!("{} {}", sandbox.container_id, held.address))
    });
    faults.compare("grants", owners(), owned);
    let file: Value = serde_json::from_slice(&fs::read(node.books())?)?;
    let grants = file["ledger"]["grants"].as_array();
    let grants = grants.with_context(|| format!("no grants in {file:#}"))?;
    let written = grants.iter().flat_map(|grant| {
        let id = text(&grant["sandbox"]["container_id"]);
        let addresses = grant["addresses"].as_array().cloned().unwrap_or_default();
        addresses
            .into_iter()
            .map(move |it| format!("{id} {}", text(&it["address"])))
    });
    faults.compare("grants in the books", owners(), written);
    if !pool.waiters.is_empty() {
        faults.0.push(format!("waiters: {:?}", pool.waiters));
    }
    Ok(())
}

fn ec2(world: &World<'_>, node: &Node<'_>, faults: &mut Faults, pool: &GetPoolResponse) {
    let known = pool.enis.iter().map(|eni| {
        let mut addresses: Vec<_> = eni
            .addresses
            .iter()
            .map(|held| held.address.clone())
            .collect();
        addresses.push(eni.primary_address.clone());
        addresses.sort();
        format!(
            "{} at {}: {}",
            eni.eni_id,
            eni.device_index,
            addresses.join(" ")
        )
    });
    let fabric = world.lab.sim().fabric();
    let mine = |it: &&aws_sim::fabric::FabricEni| {
        it.instance_id
            .as_deref()
            .is_none_or(|id| id == node.lab().instance_id())
    };
    let truth = fabric.enis.iter().filter(mine).map(|eni| {
        let mut addresses: Vec<_> = eni.addresses.iter().map(ToString::to_string).collect();
        addresses.sort();
        format!(
            "{} at {}: {}",
            eni.id,
            eni.device_index,
            addresses.join(" ")
        )
    });
    faults.compare("ENIs by EC2's word", known, truth.collect::<Vec<_>>());
}

fn folders(node: &Node<'_>, faults: &mut Faults, live: &[Pod<'_>]) -> anyhow::Result<()> {
    let names = |folder: &std::path::Path| -> anyhow::Result<Vec<String>> {
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(Vec::new());
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    faults.compare("spool", [], names(&node.lab().run_dir().join("spool"))?);
    let pods = names(std::path::Path::new("/run/netns"))?.into_iter();
    let pods = pods.filter(|name| name.starts_with("pod-"));
    faults.compare("namespaces", live.iter().map(|pod| pod.id.clone()), pods);
    let run = names(node.lab().run_dir())?.into_iter();
    let known = [
        "books.json",
        "books.json.previous",
        "ipamd.log",
        "ipamd.sock",
        "ipamd.sock.lock",
        "spool",
    ];
    let strange = run.filter(|name| !known.contains(&name.as_str()));
    faults.compare("files", [], strange);
    ensure!(node.ipamd_pid().is_some(), "ipamd does not run");
    Ok(())
}
