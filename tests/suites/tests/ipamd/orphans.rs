//! ENIs that nobody will delete: when the node looks for them, and what it asks.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use aws_sim::Event as Happens;
use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::Node;

use crate::rig::{actions, calls, lab, log_says};

pub(crate) fn tests() -> Vec<Trial> {
    vec![async_test(
        "what_damaged_books_knew_is_looked_for_a_minute_later_and_what_was_seen_once_is_not_deleted",
        damaged,
    )]
}

/// The rest takes ten minutes more: the pool's own tests have it, and the torture.
async fn damaged() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("CLUSTER_NAME", "one");
    node.start_ipamd().await?;
    node.stop_ipamd().await?;
    let instance = lab.node("a").instance_id().to_owned();
    let tags = [
        ("node.k8s.amazonaws.com/instance_id", instance.as_str()),
        ("node.k8s.amazonaws.com/createdAt", "2020-01-01T00:00:00Z"),
        ("cluster.k8s.amazonaws.com/name", "one"),
        ("eks:eni:owner", "amazon-vpc-cni"),
    ];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let subnet = lab.sim().look(|world, _| {
        let eni = world.primary_eni(&instance.as_str().into());
        eni.map(|eni| eni.subnet.as_str().to_owned())
    });
    lab.sim().happen(&Happens::CreateOrphan {
        subnet: subnet.unwrap_or_default(),
        tags: BTreeMap::from(tags),
        description: format!("aws-K8S-{instance}"),
    })?;
    fs::write(node.books(), "torn")?;
    let before = calls(&lab, "DescribeNetworkInterfaces").len();
    node.start_ipamd().await?;
    log_says(&node, "the books are not trusted").await?;
    let deadline = Instant::now() + Duration::from_secs(90);
    let look = loop {
        if let Some(look) = calls(&lab, "DescribeNetworkInterfaces").get(before + 1) {
            break look.clone();
        }
        ensure!(
            Instant::now() < deadline,
            "no second Describe: {}",
            node.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let params = format!("{:?}", look.params);
    for words in [
        "\"vpc-id\"",
        "\"tag:node.k8s.amazonaws.com/instance_id\"",
        &instance,
    ] {
        assert!(params.contains(words), "{words} is not in {params}");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!actions(&lab).contains(&"DeleteNetworkInterface".to_owned()));
    let books = fs::read_to_string(node.books())?;
    assert!(books.contains("\"orphans\": true"), "{books}");
    node.stop_ipamd().await
}
