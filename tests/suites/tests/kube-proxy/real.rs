//! The real kube-proxy on a node.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually_within, skipped};
use vpc_lab::netns::Running;
use vpc_lab::probe::{IMPATIENCE, Tcp};
use vpc_lab::{Lab, Netns};

use crate::SUITE;
use crate::api::Api;
use crate::cluster::{Pods, lab, node};
use crate::paths::assert_all_reach_all;
use crate::program;
use crate::services::{Family, PORT, SERVICES, TARGET_PORT};

const MODES: [&str; 3] = ["iptables", "nftables", "ipvs"];

/// The tests of all modes; those that this machine can't have are told as skipped.
pub(crate) fn tests() -> Vec<Trial> {
    let of_modes = MODES.map(|mode| match works_here(mode) {
        Ok(()) => of_mode(mode),
        Err(why) => skipped(SUITE, of_mode(mode), &why),
    });
    of_modes.into_iter().flatten().collect()
}

/// The same, as if it could have them all.
pub(crate) fn all() -> Vec<Trial> {
    MODES.into_iter().flat_map(of_mode).collect()
}

fn of_mode(mode: &'static str) -> Vec<Trial> {
    let orders = [("before", true), ("after", false)];
    let tests = orders.map(|(order, first)| {
        let name = format!("services_work_with_kube_proxy_in_{mode}_mode_from_{order}_ipamd");
        async_test(&name, move || services(mode, first))
    });
    tests.into()
}

/// Whether the mode has what it needs: programs that kube-proxy starts, and for IPVS the kernel's part of it.
fn works_here(mode: &str) -> anyhow::Result<()> {
    let programs: &[&str] = match mode {
        "nftables" => &["nft"],
        "iptables" => &["iptables", "iptables-restore", "ip6tables-restore"],
        _ => &["iptables", "ipset"],
    };
    if mode == "ipvs" && !Path::new("/proc/net/ip_vs").exists() {
        bail!("this kernel has no IPVS (CONFIG_IP_VS)");
    }
    for program in programs {
        let found = Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.with_context(|| format!("{program} is not in PATH"))?;
    }
    Ok(())
}

async fn services(mode: &str, first: bool) -> anyhow::Result<()> {
    let lab = lab()?;
    let (mut a, mut b) = (node(&lab, "a"), node(&lab, "b"));
    b.start_ipamd().await?;
    let api = Api::start(&lab, "a")?;
    let log = a.lab().run_dir().join("kube-proxy.log");
    let start = || start(lab.node("a").netns(), mode, &api, &log);
    let _kube_proxy = if first {
        let running = start()?;
        wait_for_log(&log, COMPLETE).await?;
        a.start_ipamd().await?;
        running
    } else {
        a.start_ipamd().await?;
        start()?
    };
    let pods = Pods::add(&lab, &a, &b)?;
    api.show(&pods);
    wait_for_rules(&lab, &pods, &log)
        .await
        .with_context(|| tail(&log))?;
    assert_all_reach_all(&lab, &pods)
}

fn start(netns: &Netns, mode: &str, api: &Api, log: &Path) -> anyhow::Result<Running> {
    let log = File::create(log)?;
    let mut command = Command::new(program::path());
    command
        .arg(format!("--master={}", api.url()))
        .arg(format!("--proxy-mode={mode}"))
        .args([
            "--hostname-override=a",
            "--kube-api-content-type=application/json",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
            // Settings of the whole machine: not ours to change.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
            "--oom-score-adj=0",
            "-v=4",
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    netns.spawn(command)
}

/// What kube-proxy says when it has written a family's rules; its modes differ in the first letter.
const COMPLETE: &str = "yncProxyRules complete";

const SOON: Duration = Duration::from_secs(90);

async fn wait_for_log(log: &Path, word: &str) -> anyhow::Result<()> {
    let ask = async || Ok(std::fs::read_to_string(log)?.contains(word).then_some(()));
    let done = eventually_within(SOON, "kube-proxy's first rules", ask).await;
    done.with_context(|| tail(log))
}

/// Until a pod reaches its own Service in both families, which takes all kinds of rules, and nothing more is being written:
/// in IPVS mode the kinds come one after another.
async fn wait_for_rules(lab: &Lab, pods: &Pods, log: &Path) -> anyhow::Result<()> {
    let last = SERVICES.last().context("no Services")?;
    for family in [Family::V4, Family::V6] {
        let ask = async || {
            let probe = Tcp {
                port: Some(PORT),
                listen_port: Some(TARGET_PORT),
                patience: IMPATIENCE,
                ..Tcp::to(last.cluster_ip(family))
            };
            let backend = &pods.of(last.backend).netns;
            let from_node = probe.send(lab.node("a").netns(), backend)?;
            let own = from_node.reply_ok && probe.send(backend, backend)?.reply_ok;
            Ok(own.then_some(()))
        };
        let what = format!("kube-proxy's rules of {family:?}");
        eventually_within(SOON, &what, ask).await?;
    }
    let ask = async || {
        let log = std::fs::read_to_string(log)?;
        let (begun, done) = (
            log.matches("Syncing ").count(),
            log.matches(COMPLETE).count(),
        );
        Ok((begun == done).then_some(()))
    };
    eventually_within(SOON, "the end of kube-proxy's writing", ask).await
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
