//! `ADDITIONAL_ENI_TAGS`, over HTTP.

use std::fs;

use libtest_mimic::Trial;
use suites::harness::async_test;
use suites::node::Node;

use crate::rig::{calls, lab, log_says};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_new_eni_carries_the_users_tags_from_its_creation_and_none_that_is_the_cnis_own",
            carried,
        ),
        async_test(
            "tags_that_are_no_json_object_are_refused_at_the_start",
            refused,
        ),
    ]
}

async fn carried() -> anyhow::Result<()> {
    let lab = lab()?;
    let tags = r#"{"team": "network", "node.k8s.amazonaws.com/instance_id": "i-of-others"}"#;
    let mut node = Node::new(&lab, "a")
        .with("ADDITIONAL_ENI_TAGS", tags)
        .with("CLUSTER_NAME", "one")
        .with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    node.wait_for_pool("a second ENI", |pool| {
        pool.enis.len() == 2 && pool.pending_calls.is_empty()
    })
    .await?;
    let instance = lab.node("a").instance_id().to_owned();
    let tagged = lab.sim().look(|world, _| {
        let mut enis = world.enis();
        enis.find(|eni| eni.tags.contains_key("node.k8s.amazonaws.com/instance_id"))
            .map(|eni| eni.tags.clone())
    });
    let tagged = tagged.unwrap_or_default();
    let value = |key: &str| tagged.get(key).map(String::as_str);
    assert_eq!(value("team"), Some("network"));
    assert_eq!(
        value("node.k8s.amazonaws.com/instance_id"),
        Some(instance.as_str())
    );
    assert_eq!(value("cluster.k8s.amazonaws.com/name"), Some("one"));
    assert_eq!(calls(&lab, "CreateTags").len(), 0);
    let log = log_says(&node, "is left out").await?;
    assert!(log.contains("instance_id"), "{log}");
    node.stop_ipamd().await
}

async fn refused() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("ADDITIONAL_ENI_TAGS", "team=network");
    assert!(node.start_ipamd().await.is_err());
    let log = fs::read_to_string(node.log())?;
    assert!(
        log.contains("ADDITIONAL_ENI_TAGS must be a JSON object of strings"),
        "{log}"
    );
    Ok(())
}
