//! Pods as the kubelet makes and ends them, by containerd, also where something dies between the two.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sim::{Effect, Fault};
use libtest_mimic::Trial;
use serde_json::Value;
use suites::harness::{async_test, eventually};
use vpc_lab::probe::PATIENCE;
use vpc_lab::{Lab, Netns};

use crate::containerd::{Containerd, Release, pod};
use crate::cri::{Cri, PortMapping, SandboxConfig, SandboxStatus};
use crate::image;
use crate::programs::program;
use crate::world::{Host, lab};

pub(crate) fn tests(release: Release) -> Vec<Trial> {
    let mut tests = vec![
        of(
            release,
            "it_is_ready_for_pods_once_ipamd_has_written_the_conflist",
            network_ready,
        ),
        of(release, "a_pod_lives_and_gives_its_address_back", a_life),
        of(
            release,
            "two_containers_of_a_pod_meet_on_localhost",
            localhost,
        ),
        of(release, "pods_made_at_once_share_no_address", at_once),
        of(
            release,
            "it_may_be_killed_between_add_and_del",
            containerd_killed,
        ),
        of(
            release,
            "ipamd_may_be_killed_between_add_and_del",
            ipamd_killed,
        ),
        of(
            release,
            "ipamd_may_be_killed_in_the_middle_of_an_add",
            killed_in_add,
        ),
        of(
            release,
            "without_ipamd_a_pod_is_refused_and_comes_later",
            without_ipamd,
        ),
        of(
            release,
            "a_sandbox_whose_namespace_has_gone_is_stopped",
            namespace_gone,
        ),
        of(
            release,
            "a_node_that_reboots_ends_the_sandboxes_of_before",
            reboot,
        ),
        of(release, "a_host_port_of_a_pod_answers", host_port),
    ];
    // Only this one asks.
    if release == Release::Two {
        tests.extend([
            of(
                release,
                "the_node_is_ready_until_ipamd_has_been_away_for_a_minute",
                ipamd_away,
            ),
            of(
                release,
                "a_node_whose_pool_is_exhausted_is_ready_still",
                exhausted,
            ),
        ]);
    }
    tests
}

fn of<F>(release: Release, name: &str, body: impl FnOnce(Release) -> F + Send + 'static) -> Trial
where
    F: Future<Output = anyhow::Result<()>>,
{
    async_test(&format!("{release}/{name}"), move || body(release))
}

async fn containerd(release: Release, host: &Host<'_>) -> anyhow::Result<Containerd> {
    let node = host.node.lab();
    let folder = node.run_dir().join("containerd");
    if !folder.exists() {
        host.add_plugin(&program("loopback"))?;
    }
    let (conf_dir, bin_dir) = (host.conf_dir(), host.bin_dir());
    Containerd::start(release, node.netns(), &folder, &conf_dir, &bin_dir).await
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

async fn network_ready(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::without_ipamd(&lab)?;
    let containerd = containerd(release, &host).await?;
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

async fn a_life(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let containerd = containerd(release, &host).await?;
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

async fn localhost(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let containerd = containerd(release, &host).await?;
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

async fn at_once(release: Release) -> anyhow::Result<()> {
    const PODS: usize = 5;
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let containerd = containerd(release, &host).await?;
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

async fn containerd_killed(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let mut containerd = containerd(release, &host).await?;
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

async fn ipamd_killed(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let containerd = containerd(release, &host).await?;
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

/// A node that keeps one address warm.
async fn small_pool(lab: &Lab) -> anyhow::Result<Host<'_>> {
    let mut host = Host::without_ipamd(lab)?;
    host.node = host
        .node
        .with("MINIMUM_IP_TARGET", 1)
        .with("WARM_IP_TARGET", 1);
    host.serve().await?;
    Ok(host)
}

/// Makes a pod for each free address, of which no more come: EC2 does what it is asked, and never says so.
async fn exhaust(lab: &Lab, host: &Host<'_>, cri: &Cri) -> anyhow::Result<Vec<String>> {
    host.node
        .wait_for_pool("a quiet pool", |pool| pool.pending_calls.is_empty())
        .await?;
    lab.sim()
        .inject(Fault::on("AssignPrivateIpAddresses", Effect::HangAfter));
    let free = host.node.pool().await?.totals.context("totals")?.free;
    let mut sandboxes = Vec::new();
    for number in 0..free {
        sandboxes.push(cri.run(&pod(&format!("pod-{number}"))).await?);
    }
    Ok(sandboxes)
}

async fn killed_in_add(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = small_pool(&lab).await?;
    let containerd = containerd(release, &host).await?;
    let cri = containerd.cri().await?;
    let mut sandboxes = exhaust(&lab, &host, &cri).await?;
    let free = u32::try_from(sandboxes.len())?;
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

async fn without_ipamd(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let containerd = containerd(release, &host).await?;
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

async fn namespace_gone(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let mut containerd = containerd(release, &host).await?;
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

async fn reboot(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let first = containerd(release, &host).await?;
    let cri = first.cri().await?;
    let sandbox = cri.run(&pod("before")).await?;
    let path = netns(&cri, &sandbox).await?;
    // All that runs ends, and /run is empty: the books are there, and the names of namespaces.
    host.node.kill_ipamd();
    drop(first);
    fs::remove_file(host.node.books())?;
    fs::remove_file(path)?;

    host.node.start_ipamd().await?;
    let second = containerd(release, &host).await?;
    let cri = second.cri().await?;
    assert_eq!(status(&cri, &sandbox).await?.state, 1, "it is not ready");
    let next = cri.run(&pod("after")).await?;
    cri.stop(&sandbox).await?;
    cri.remove(&sandbox).await?;
    assert_eq!((host.node.pod_links()?, host.owned().await?), (1, 1));
    cri.stop(&next).await?;
    host.is_clean().await
}

async fn host_port(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, Some(&program("portmap"))).await?;
    let containerd = containerd(release, &host).await?;
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

async fn ipamd_away(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let containerd = containerd(release, &host).await?;
    let cri = containerd.cri().await?;
    let ready = async |wanted: bool| {
        let came = eventually("NetworkReady", async || {
            let found = cri.condition("NetworkReady").await?;
            Ok((found.holds == wanted).then_some(found.message))
        });
        came.await.with_context(|| format!("wanted: {wanted}"))
    };
    ready(true).await?;
    host.node.kill_ipamd();
    // A DaemonSet that is being replaced must not make the node NotReady.
    for _ in 0..3 {
        ensure!(cri.is("NetworkReady").await?, "not ready at once");
    }
    host.has_missed_ipamd_for(Duration::from_secs(61))?;
    let told = ready(false).await?;
    ensure!(told.contains("ipamd"), "nobody sees why from {told:?}");
    host.node.start_ipamd().await?;
    ready(true).await?;
    Ok(())
}

async fn exhausted(release: Release) -> anyhow::Result<()> {
    let lab = lab()?;
    let host = small_pool(&lab).await?;
    let containerd = containerd(release, &host).await?;
    let cri = containerd.cri().await?;
    let sandboxes = exhaust(&lab, &host, &cri).await?;
    let totals = host.node.pool().await?.totals.context("totals")?;
    assert_eq!(totals.free, 0, "{totals:?}");
    for _ in 0..3 {
        ensure!(cri.is("NetworkReady").await?, "its pods would be evicted");
    }
    lab.sim().clear_faults();
    for sandbox in sandboxes {
        cri.stop(&sandbox).await?;
    }
    Ok(())
}
