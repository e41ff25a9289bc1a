//! Pods as the kubelet makes and ends them, by containerd, also where something dies between the two.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use aws_sim::{Effect, Fault};
use libtest_mimic::Trial;
use serde_json::Value;
use suites::harness::{async_test, eventually};
use vpc_lab::Netns;
use vpc_lab::probe::PATIENCE;

use crate::containerd::{Containerd, pod};
use crate::cri::{Cri, PortMapping, SandboxConfig, SandboxStatus};
use crate::image;
use crate::programs::program;
use crate::world::{Host, lab};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "containerd_is_ready_for_pods_once_ipamd_has_written_the_conflist",
            network_ready,
        ),
        async_test(
            "a_pod_of_containerd_lives_and_gives_its_address_back",
            a_life,
        ),
        async_test("two_containers_of_a_pod_meet_on_localhost", localhost),
        async_test("pods_made_at_once_share_no_address", at_once),
        async_test(
            "containerd_may_be_killed_between_add_and_del",
            containerd_killed,
        ),
        async_test("ipamd_may_be_killed_between_add_and_del", ipamd_killed),
        async_test("ipamd_may_be_killed_in_the_middle_of_an_add", killed_in_add),
        async_test(
            "without_ipamd_a_pod_is_refused_and_comes_later",
            without_ipamd,
        ),
        async_test(
            "a_sandbox_whose_namespace_has_gone_is_stopped",
            namespace_gone,
        ),
        async_test("a_node_that_reboots_ends_the_sandboxes_of_before", reboot),
        async_test("a_host_port_of_a_pod_of_containerd_answers", host_port),
    ]
}

async fn containerd(host: &Host<'_>) -> anyhow::Result<Containerd> {
    let node = host.node.lab();
    let folder = node.run_dir().join("containerd");
    if !folder.exists() {
        host.add_plugin(&program("loopback"))?;
    }
    Containerd::start(node.netns(), &folder, &host.conf_dir(), &host.bin_dir()).await
}

async fn status(cri: &Cri, sandbox: &str) -> anyhow::Result<SandboxStatus> {
    cri.sandbox(sandbox).await?.status.context("no status")
}

async fn address(cri: &Cri, sandbox: &str) -> anyhow::Result<Ipv4Addr> {
    let network = status(cri, sandbox).await?.network;
    let ip = network.context("no network")?.ip;
    ip.parse().with_context(|| format!("the address {ip:?}"))
}

/// The path of a sandbox's network namespace, as containerd has it.
async fn netns(cri: &Cri, sandbox: &str) -> anyhow::Result<PathBuf> {
    let info = cri.sandbox(sandbox).await?.info;
    let info: Value = serde_json::from_str(info.get("info").context("no info")?)?;
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array();
    let network = namespaces
        .and_then(|all| all.iter().find(|namespace| namespace["type"] == "network"))
        .with_context(|| format!("no network namespace in {info:#}"))?;
    Ok(network["path"].as_str().context("it has no path")?.into())
}

/// What pods tell who connects.
const GREETING: &str = "hello from the pod";

/// Starts a container that greets on port 80.
async fn serve(cri: &Cri, sandbox: &str, config: &SandboxConfig) -> anyhow::Result<()> {
    let command = [image::PROGRAM, "serve", ":80", GREETING];
    cri.start(sandbox, config, "server", image::NAME, &command)
        .await?;
    Ok(())
}

/// Waits to be greeted.
async fn fetch(from: &Netns, address: Ipv4Addr, port: u16) -> anyhow::Result<()> {
    let target = SocketAddr::from((address, port));
    let get = || -> anyhow::Result<String> {
        let mut stream = from.run(|| TcpStream::connect_timeout(&target, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(io::read_to_string(&mut stream)?)
    };
    let answered = eventually("the pod answers", async || {
        Ok(get().is_ok_and(|text| text == GREETING).then_some(()))
    });
    answered.await.with_context(|| target.to_string())
}

async fn network_ready() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::without_ipamd(&lab)?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    ensure!(
        !cri.is("NetworkReady").await?,
        "the node counts as ready before there is a conflist"
    );
    host.serve().await?;
    let ready = eventually("the node is ready", async || {
        Ok(cri.is("NetworkReady").await?.then_some(()))
    });
    ready.await
}

async fn a_life() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    let config = pod("one");
    let sandbox = cri.run(&config).await?;
    let address = address(&cri, &sandbox).await?;
    let pool = host.node.pool().await?;
    let held = pool
        .enis
        .iter()
        .flat_map(|eni| &eni.addresses)
        .find(|held| held.address == address.to_string())
        .with_context(|| format!("ipamd has no {address}: {pool:#?}"))?;
    let owner = held.pod.clone().unwrap_or_default();
    assert_eq!(
        (owner.namespace.as_str(), owner.name.as_str()),
        ("demo", "one")
    );
    lab.settle()?;
    serve(&cri, &sandbox, &config).await?;
    fetch(lab.node("b").netns(), address, 80).await?;

    // The kubelet repeats it.
    for _ in 0..2 {
        cri.stop(&sandbox).await?;
        host.is_clean().await?;
    }
    cri.remove(&sandbox).await?;
    host.is_clean().await
}

async fn localhost() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    let config = pod("two-containers");
    let sandbox = cri.run(&config).await?;
    serve(&cri, &sandbox, &config).await?;
    let second = cri
        .start(&sandbox, &config, "client", image::NAME, &[])
        .await?;
    let command = [image::PROGRAM, "fetch", "127.0.0.1:80"];
    let answered = eventually("the other container answers", async || {
        let answer = cri.exec(&second, &command).await?;
        Ok((answer.stdout == GREETING.as_bytes()).then_some(()))
    });
    answered.await?;
    cri.stop(&sandbox).await?;
    host.is_clean().await
}

async fn at_once() -> anyhow::Result<()> {
    const PODS: usize = 5;
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    let starts: Vec<_> = (0..PODS)
        .map(|number| {
            let cri = cri.clone();
            tokio::spawn(async move { cri.run(&pod(&format!("pod-{number}"))).await })
        })
        .collect();
    let (mut sandboxes, mut addresses) = (Vec::new(), BTreeSet::new());
    for start in starts {
        let sandbox = start.await??;
        addresses.insert(address(&cri, &sandbox).await?);
        sandboxes.push(sandbox);
    }
    assert_eq!(addresses.len(), PODS, "{addresses:?}");
    for sandbox in sandboxes {
        cri.stop(&sandbox).await?;
    }
    host.is_clean().await
}

async fn containerd_killed() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let mut containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    let config = pod("one");
    let sandbox = cri.run(&config).await?;
    let before = address(&cri, &sandbox).await?;
    serve(&cri, &sandbox, &config).await?;
    containerd.kill().await?;
    lab.settle()?;
    // Packets need no runtime.
    fetch(lab.node("b").netns(), before, 80).await?;
    containerd.launch().await?;
    let cri = containerd.cri().await?;
    assert_eq!(address(&cri, &sandbox).await?, before);
    cri.stop(&sandbox).await?;
    host.is_clean().await
}

async fn ipamd_killed() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    let sandbox = cri.run(&pod("one")).await?;
    host.node.kill_ipamd();
    cri.stop(&sandbox).await?;
    cri.remove(&sandbox).await?;
    assert_eq!(host.node.pod_links()?, 0);
    host.node.start_ipamd().await?;
    host.node
        .wait_for_pool("the release is replayed", |pool| {
            pool.totals.is_some_and(|totals| totals.owned == 0)
        })
        .await?;
    host.is_clean().await
}

async fn killed_in_add() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::without_ipamd(&lab)?;
    host.node = host
        .node
        .with("MINIMUM_IP_TARGET", 1)
        .with("WARM_IP_TARGET", 1);
    host.serve().await?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    host.node
        .wait_for_pool("a quiet pool", |pool| pool.pending_calls.is_empty())
        .await?;
    // From now on EC2 does what it is asked, and never says so.
    lab.sim()
        .inject(Fault::on("AssignPrivateIpAddresses", Effect::HangAfter));
    let free = host.node.pool().await?.totals.context("totals")?.free;
    let mut sandboxes = Vec::new();
    for number in 0..free {
        sandboxes.push(cri.run(&pod(&format!("pod-{number}"))).await?);
    }
    let waiting = tokio::spawn({
        let cri = cri.clone();
        async move { cri.run(&pod("waiting")).await }
    });
    host.node
        .wait_for_pool("an ADD waits", |pool| !pool.waiters.is_empty())
        .await?;
    host.node.kill_ipamd();
    let refused = waiting.await?;
    ensure!(refused.is_err(), "it has an address: {refused:?}");
    assert_eq!(host.node.pod_links()?, sandboxes.len());

    lab.sim().clear_faults();
    host.node.start_ipamd().await?;
    host.node
        .wait_for_pool("those that run own theirs", |pool| {
            pool.totals.is_some_and(|totals| totals.owned == free)
        })
        .await?;
    sandboxes.push(cri.run(&pod("waiting")).await?);
    let mut addresses = BTreeSet::new();
    for sandbox in &sandboxes {
        addresses.insert(address(&cri, sandbox).await?);
    }
    assert_eq!(addresses.len(), sandboxes.len(), "{addresses:?}");
    for sandbox in sandboxes {
        cri.stop(&sandbox).await?;
    }
    host.is_clean().await
}

async fn without_ipamd() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    host.node.kill_ipamd();
    let refused = cri.run(&pod("one")).await;
    let told = format!("{:#}", refused.err().context("a pod without ipamd")?);
    ensure!(
        told.contains("ipamd"),
        "nobody sees what is wrong from {told}"
    );
    assert_eq!(host.node.pod_links()?, 0);
    host.node.start_ipamd().await?;
    // The kubelet tries again under the same name.
    let sandbox = cri.run(&pod("one")).await?;
    assert_eq!(host.owned().await?, 1);
    cri.stop(&sandbox).await?;
    host.is_clean().await
}

async fn namespace_gone() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let mut containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    let sandbox = cri.run(&pod("one")).await?;
    let path = netns(&cri, &sandbox).await?;
    let path = path.display();
    containerd
        .script(&format!("umount {path} && rm {path}"))
        .await?;
    cri.stop(&sandbox).await?;
    cri.remove(&sandbox).await?;
    host.is_clean().await
}

async fn reboot() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let first = containerd(&host).await?;
    let cri = first.cri().await?;
    let sandbox = cri.run(&pod("before")).await?;
    let path = netns(&cri, &sandbox).await?;
    // All that runs ends, and /run is empty: the books are there, and the names of namespaces.
    host.node.kill_ipamd();
    drop(first);
    fs::remove_file(host.node.books())?;
    fs::remove_file(path)?;

    host.node.start_ipamd().await?;
    let second = containerd(&host).await?;
    let cri = second.cri().await?;
    assert_eq!(status(&cri, &sandbox).await?.state, 1, "it is not ready");
    let next = cri.run(&pod("after")).await?;
    cri.stop(&sandbox).await?;
    cri.remove(&sandbox).await?;
    assert_eq!((host.node.pod_links()?, host.owned().await?), (1, 1));
    cri.stop(&next).await?;
    host.is_clean().await
}

async fn host_port() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, Some(&program("portmap"))).await?;
    let containerd = containerd(&host).await?;
    let cri = containerd.cri().await?;
    let mut config = pod("one");
    config.port_mappings = vec![PortMapping {
        container_port: 80,
        host_port: 30080,
    }];
    let sandbox = cri.run(&config).await?;
    lab.settle()?;
    serve(&cri, &sandbox, &config).await?;
    fetch(
        lab.node("b").netns(),
        lab.node("a").primary_address(),
        30080,
    )
    .await?;
    cri.stop(&sandbox).await?;
    host.is_clean().await
}
