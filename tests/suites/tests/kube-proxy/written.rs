//! Rules that kube-proxy v1.36 wrote, as data: where the real one can't be had.

use std::fs;
use std::net::IpAddr;

use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::text_of;
use vpc_lab::Lab;

use crate::cluster::{Pods, lab, node};
use crate::paths::{assert_all_reach_all, node_address};
use crate::services::{Backend, Family};

/// The text of the rules; addresses that differ are named as in `$SECONDARY_V4`.
const MODES: [(&str, &str); 2] = [
    ("iptables", include_str!("iptables.nft")),
    ("nftables", include_str!("nftables.nft")),
];

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    for (mode, text) in MODES {
        for (order, first) in [("before", true), ("after", false)] {
            let name = format!("services_work_by_the_rules_of_{mode}_mode_from_{order}_ipamd");
            tests.push(async_test(&name, move || services(text, first)));
        }
    }
    tests
}

async fn services(text: &str, first: bool) -> anyhow::Result<()> {
    let lab = lab()?;
    let (mut a, mut b) = (node(&lab, "a"), node(&lab, "b"));
    b.start_ipamd().await?;
    if first {
        // Its chains are there first, with pods that nobody has any more.
        load(&lab, text, |_, family| match family {
            Family::V4 => Ok([192, 0, 2, 1].into()),
            Family::V6 => Ok("2001:db8::1".parse()?),
        })?;
    }
    a.start_ipamd().await?;
    let pods = Pods::add(&lab, &a, &b)?;
    load(&lab, text, |backend, family| {
        Ok(pods.of(backend).address(family))
    })?;
    assert_all_reach_all(&lab, &pods)
}

/// Replaces the rules on node `a` in one transaction, as kube-proxy does.
fn load(
    lab: &Lab,
    text: &str,
    address: impl Fn(Backend, Family) -> anyhow::Result<IpAddr>,
) -> anyhow::Result<()> {
    let mut rules = text.to_owned();
    for (family, suffix) in [(Family::V4, "V4"), (Family::V6, "V6")] {
        let mut name = |what: &str, address: IpAddr| {
            rules = rules.replace(&format!("${what}_{suffix}"), &address.to_string());
        };
        name("NODE", node_address(lab, "a", family)?);
        for (what, backend) in [
            ("PRIMARY", Backend::Primary),
            ("SECONDARY", Backend::Secondary),
            ("REMOTE", Backend::Remote),
        ] {
            name(what, address(backend, family)?);
        }
    }
    let node = lab.node("a");
    let file = node.run_dir().join("kube-proxy.nft");
    fs::write(&file, rules)?;
    text_of(node.netns(), "nft", &["-f", &file.display().to_string()])?;
    Ok(())
}
