//! The verbs of the CNI specification, as libcni sends them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use suites::harness::async_test;
use suites::node::text_of;
use vpc_lab::probe;

use crate::cnitool::Pod;
use crate::world::{Host, lab};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("cnitool_adds_checks_and_deletes_a_pod", a_life),
        async_test(
            "every_version_of_the_conflist_works_and_the_highest_is_chosen",
            versions,
        ),
        async_test("check_names_each_thing_that_was_broken", broken),
        async_test(
            "del_may_be_repeated_and_may_come_after_the_namespace",
            late_dels,
        ),
        async_test(
            "gc_deletes_what_the_cache_of_results_still_has",
            gc_by_the_cache,
        ),
        async_test(
            "gc_without_a_list_of_attachments_collects_nothing",
            gc_without_list,
        ),
        async_test("status_fails_once_ipamd_has_been_away_for_a_minute", status),
        async_test("a_del_while_ipamd_is_killed_is_made_good", spooled),
    ]
}

async fn a_life() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let netns = lab.pod_netns("one")?;
    let pod = Pod::in_netns(&host, &netns);

    let added = pod.call("add")?;
    let address = added.address()?;
    let result = added.result()?;
    // libcni takes the highest of cniVersions.
    assert_eq!(result["cniVersion"], "1.1.0", "{result:#}");
    let eth0 = result["interfaces"]
        .as_array()
        .context("no interfaces")?
        .iter()
        .find(|interface| interface["name"] == "eth0")
        .context("no eth0")?;
    assert_eq!(
        eth0["sandbox"],
        netns.path().display().to_string(),
        "{result:#}"
    );
    assert_eq!(host.owned().await?, 1);
    lab.settle()?;
    let seen = probe::tcp(lab.node("b").netns(), &netns, address)?;
    assert!(seen.reply_ok, "{}", seen.why);

    pod.silently("check")?;
    pod.silently("del")?;
    host.is_clean().await?;
    // A runtime may ask again for what it deleted: there is no result to check any more.
    let checked = pod.call("check")?;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    Ok(())
}

async fn versions() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        host.edit_conflist(|conflist| {
            conflist["cniVersion"] = json!(version);
            conflist["cniVersions"] = json!([version]);
        })?;
        let netns = lab.pod_netns(&format!("pod-{version}"))?;
        let pod = Pod::in_netns(&host, &netns);
        let result = pod.call("add")?.result()?;
        assert_eq!(result["cniVersion"], version, "{result:#}");
        // Versions before 1.0.0 name the family of each address.
        let family = result["ips"][0]["version"].as_str();
        let wanted = (version == "0.4.0").then_some("4");
        assert_eq!(family, wanted, "{result:#}");
        for verb in ["check", "status", "del", "del", "gc"] {
            pod.silently(verb).with_context(|| version.to_owned())?;
        }
        host.is_clean().await?;
    }
    Ok(())
}

async fn broken() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let node = host.node.lab().netns();
    let breaks: [(&str, bool, &[&str]); 4] = [
        ("addr flush dev eth0", true, &["has not the address"]),
        ("route del default", true, &["no default route"]),
        ("link del eth0", true, &["eth0", "gone"]),
        ("rule del pref 512", false, &["rule"]),
    ];
    for (number, (how, in_pod, says)) in breaks.into_iter().enumerate() {
        let netns = lab.pod_netns(&format!("pod-{number}"))?;
        let pod = Pod::in_netns(&host, &netns);
        pod.call("add")?.result()?;
        pod.silently("check")?;
        let words: Vec<_> = how.split(' ').collect();
        text_of(if in_pod { &netns } else { node }, "ip", &words)?;
        pod.refused("check", says).with_context(|| how.to_owned())?;
        // What is broken can be deleted.
        pod.silently("del")?;
        host.is_clean().await?;
    }
    Ok(())
}

async fn late_dels() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let netns = lab.pod_netns("one")?;
    let pod = Pod::in_netns(&host, &netns);
    pod.call("add")?.result()?;
    for _ in 0..3 {
        pod.silently("del")?;
        host.is_clean().await?;
    }
    pod.call("add")?.result()?;
    drop(netns);
    for _ in 0..2 {
        pod.silently("del")?;
        host.is_clean().await?;
    }
    let never = lab.pod_netns("never")?;
    Pod::in_netns(&host, &never).silently("del")
}

async fn gc_by_the_cache() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let (one, two) = (lab.pod_netns("one")?, lab.pod_netns("two")?);
    let (one, two) = (Pod::in_netns(&host, &one), Pod::in_netns(&host, &two));
    one.call("add")?.result()?;
    two.call("add")?.result()?;
    assert_eq!(host.owned().await?, 2);
    // cnitool names no valid attachment, so libcni deletes each that it finds in its cache.
    one.silently("gc")?;
    host.is_clean().await
}

async fn gc_without_list() -> anyhow::Result<()> {
    let lab = lab()?;
    let host = Host::start(&lab, None).await?;
    let netns = lab.pod_netns("one")?;
    let pod = Pod::in_netns(&host, &netns);
    let address = pod.call("add")?.address()?;
    lab.settle()?;
    // A runtime that lost its cache does not know what is valid.
    fs::remove_dir_all("/var/lib/cni/results")?;
    pod.silently("gc")?;
    assert_eq!((host.node.pod_links()?, host.owned().await?), (1, 1));
    let seen = probe::tcp(lab.node("b").netns(), &netns, address)?;
    assert!(seen.reply_ok, "{}", seen.why);
    // And a DEL without a previous result is one.
    pod.silently("del")?;
    host.is_clean().await
}

async fn status() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let netns = lab.pod_netns("one")?;
    Pod::in_netns(&host, &netns).silently("status")?;
    host.node.kill_ipamd();
    // A DaemonSet that is being replaced must not make the node NotReady.
    Pod::in_netns(&host, &netns).silently("status")?;
    host.has_missed_ipamd_for(Duration::from_secs(61))?;
    Pod::in_netns(&host, &netns).refused("status", &["ipamd"])?;
    host.node.start_ipamd().await?;
    Pod::in_netns(&host, &netns).silently("status")
}

async fn spooled() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut host = Host::start(&lab, None).await?;
    let netns = lab.pod_netns("one")?;
    Pod::in_netns(&host, &netns).call("add")?.result()?;
    host.node.kill_ipamd();
    Pod::in_netns(&host, &netns).silently("del")?;
    let waiting = fs::read_dir(host.node.lab().run_dir().join("spool"))?.count();
    ensure!(waiting == 1, "{waiting} releases wait in the spool");
    host.node.start_ipamd().await?;
    host.node
        .wait_for_pool("the release is replayed", |pool| {
            pool.totals.is_some_and(|totals| totals.owned == 0)
        })
        .await?;
    host.is_clean().await
}
