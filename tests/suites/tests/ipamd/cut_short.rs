//! Answers of EC2 that end in their middle: the SDK takes the rest for empty.

use anyhow::Context;
use aws_sim::{Effect, Fault};
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually};
use suites::node::Node;

use crate::rig::{calls, lab, log_says};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_describe_that_is_cut_short_is_not_what_the_node_holds",
            describe,
        ),
        async_test(
            "an_assign_whose_answer_is_cut_short_is_asked_about_and_not_repeated",
            assign,
        ),
    ]
}

async fn describe() -> anyhow::Result<()> {
    let lab = lab()?;
    let action = "DescribeNetworkInterfaces";
    lab.sim().inject(Fault::on(action, Effect::Truncated));
    let mut node = Node::new(&lab, "a");
    node.launch_ipamd()?;
    let log = log_says(&node, "the answer is cut short").await?;
    assert!(log.contains("EC2 call failed"), "{log}");
    assert!(calls(&lab, action).len() > 1, "a read is repeated");
    assert_eq!(calls(&lab, "AssignPrivateIpAddresses").len(), 0);
    lab.sim().clear_faults();
    eventually("ipamd serves", async || {
        Ok(node.ready().await.unwrap_or(false).then_some(()))
    })
    .await?;
    node.stop_ipamd().await
}

async fn assign() -> anyhow::Result<()> {
    let lab = lab()?;
    let action = "AssignPrivateIpAddresses";
    lab.sim().inject(Fault::on(action, Effect::Truncated));
    let mut node = Node::new(&lab, "a").with("WARM_IP_TARGET", 5);
    node.start_ipamd().await?;
    log_says(&node, "the answer is cut short").await?;
    let pool = node
        .wait_for_pool("five free addresses, by a Describe", |pool| {
            pool.totals.is_some_and(|totals| totals.free >= 5)
        })
        .await?;
    assert_eq!(calls(&lab, action).len(), 1);
    let held = pool.totals.context("totals")?.held;
    assert_eq!(held, 5, "what EC2 holds, and no more");
    node.stop_ipamd().await
}
