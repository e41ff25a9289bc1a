//! From nothing to a pool, and what keeps ipamd from it.

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use suites::harness::{async_test, eventually, test};
use suites::node::Node;
use suites::programs;
use vpc_lab::Endpoint;

use crate::rig::{Plugin, actions, calls, lab, log_says};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "ipamd_learns_its_node_and_asks_ec2_once_for_all_that_it_holds",
            learns,
        ),
        async_test(
            "imds_that_is_away_at_start_is_asked_again_until_it_answers",
            imds_returns,
        ),
        async_test(
            "sigterm_ends_an_ipamd_that_still_waits_for_imds",
            stopped_early,
        ),
        async_test(
            "without_imds_ipamd_ends_and_says_what_to_look_at",
            imds_is_cut,
        ),
        async_test(
            "credentials_that_imds_does_not_give_are_said_and_waited_for",
            ec2_is_cut,
        ),
        test(
            "a_wrong_setting_is_refused_with_its_variable_value_and_rule",
            wrong_setting,
        ),
        async_test(
            "settings_that_are_set_to_nothing_are_taken_as_not_set",
            empty_settings,
        ),
        async_test("a_second_ipamd_on_the_same_socket_is_refused", second),
        async_test(
            "the_probe_says_yes_to_an_ipamd_that_serves_and_no_to_none",
            probe,
        ),
    ]
}

async fn learns() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("ENABLE_POD_ENI", true);
    node.start_ipamd().await?;
    let pool = node
        .wait_for_pool("what is kept ready for an idle node", |pool| {
            pool.totals.is_some_and(|totals| totals.free == 6)
        })
        .await?;

    let learned = pool.node.clone().unwrap_or_default();
    assert_eq!(learned.instance_id, lab.node("a").instance_id());
    assert_eq!(learned.instance_type, "m5.large");
    assert_eq!((learned.max_enis, learned.slots_per_eni), (3, 10));
    assert_eq!((learned.warm_ip_target, learned.minimum_ip_target), (0, 0));
    assert_eq!(learned.warm, "as demand has it (balanced)");
    assert_eq!(learned.mode, "normal");
    let [primary] = pool.enis.as_slice() else {
        panic!("one ENI is enough for six addresses: {pool:?}");
    };
    assert_eq!(primary.device_index, 0);
    assert_eq!(
        primary.primary_address,
        lab.node("a").primary_address().to_string()
    );
    assert_eq!(primary.route_table, 254);

    assert_eq!(
        actions(&lab),
        ["DescribeNetworkInterfaces", "AssignPrivateIpAddresses"],
        "one read, one mutation, nothing else"
    );
    let describe = &calls(&lab, "DescribeNetworkInterfaces")[0];
    assert_eq!(
        describe.params.get("Filter.1.Name").unwrap(),
        "attachment.instance-id"
    );
    assert_eq!(
        describe.params.get("Filter.1.Value.1").unwrap(),
        lab.node("a").instance_id()
    );
    assert!(
        describe.params.contains_key("MaxResults"),
        "not paged: {describe:?}"
    );

    let log = log_says(&node, "serving").await?;
    assert!(
        log.contains("ENABLE_POD_ENI=true has no effect yet"),
        "{log}"
    );
    node.stop_ipamd().await?;
    assert!(!node.socket().exists(), "the socket is left behind");
    Ok(())
}

async fn imds_returns() -> anyhow::Result<()> {
    let lab = lab()?;
    lab.cut("a", Endpoint::Imds)?;
    let mut node = Node::new(&lab, "a");
    node.launch_ipamd()?;
    log_says(&node, "the instance metadata service does not answer").await?;
    lab.restore("a", Endpoint::Imds)?;
    log_says(&node, "serving").await?;
    node.stop_ipamd().await
}

async fn stopped_early() -> anyhow::Result<()> {
    let lab = lab()?;
    lab.cut("a", Endpoint::Imds)?;
    let mut node = Node::new(&lab, "a");
    node.launch_ipamd()?;
    log_says(&node, "the instance metadata service does not answer").await?;
    node.stop_ipamd().await
}

async fn imds_is_cut() -> anyhow::Result<()> {
    let lab = lab()?;
    lab.cut("a", Endpoint::Imds)?;
    let output = run(&lab, &[("WEIR_IMDS_PATIENCE", "1")])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "ipamd ends: the node can't be learned",
        "the instance metadata service did not answer within",
        "HttpPutResponseHopLimit",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    ] {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(
        actions(&lab).is_empty(),
        "EC2 was asked about an unknown node"
    );
    Ok(())
}

async fn ec2_is_cut() -> anyhow::Result<()> {
    let lab = lab()?;
    lab.cut("a", Endpoint::Ec2)?;
    let mut node = Node::new(&lab, "a");
    node.launch_ipamd()?;
    // It serves, but knows nothing yet: an ADD is told so at once, and why.
    log_says(&node, "listening").await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    assert!(!node.ready().await?, "ready without having heard from EC2");
    let refused = plugin
        .add_within("early", Duration::from_secs(5))
        .await
        .expect_err("an address from nowhere");
    assert!(
        matches!(
            refused.code(),
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded
        ),
        "{refused:?}"
    );
    lab.restore("a", Endpoint::Ec2)?;
    eventually("ready", async || Ok(node.ready().await?.then_some(()))).await?;
    plugin.address("early").await?;
    node.stop_ipamd().await
}

fn wrong_setting() -> anyhow::Result<()> {
    let lab = lab()?;
    let output = run(&lab, &[("MINIMUM_IP_TARGET", "a lot")])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("'a lot'")
            && said
                .contains("MINIMUM_IP_TARGET must be a whole number of addresses from 0 to 1000"),
        "{said}"
    );
    let output = run(&lab, &[("AWS_CA_BUNDLE", "/does/not/exist.pem")])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("AWS_CA_BUNDLE names /does/not/exist.pem, which can't be read"),
        "{said}"
    );
    Ok(())
}

async fn empty_settings() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    for name in [
        "WEIR_WARM",
        "WEIR_MODE",
        "WARM_ENI_TARGET",
        "WARM_IP_TARGET",
        "WARM_PREFIX_TARGET",
        "MINIMUM_IP_TARGET",
        "ENABLE_PREFIX_DELEGATION",
        "MAX_ENI",
        "IP_COOLDOWN_PERIOD",
        "CLUSTER_NAME",
        "WEIR_CLUSTER_SIZE",
        "WEIR_IMDS_PATIENCE",
        "AWS_VPC_ENI_MTU",
        "POD_MTU",
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
        "AWS_VPC_K8S_CNI_LOGLEVEL",
        "WEIR_LOG_FORMAT",
        "WEIR_CONFLIST_DIR",
        "WEIR_PLUGIN_DIR",
    ] {
        node = node.with(name, "");
    }
    node.start_ipamd().await?;
    let learned = node.pool().await?.node.unwrap_or_default();
    assert_eq!(learned.warm, "as demand has it (balanced)");
    assert_eq!(learned.mode, "normal");
    let log = fs::read_to_string(node.log())?;
    assert!(log.contains("INFO"), "{log}");
    node.stop_ipamd().await
}

async fn second() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let output = run(&lab, &[])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another ipamd runs for the socket"), "{said}");
    assert!(node.ready().await?, "the first one was disturbed");
    node.stop_ipamd().await
}

async fn probe() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    let probe = async || -> anyhow::Result<Output> {
        let mut command = Command::new(programs::path("ipamd")?);
        Ok(command
            .arg("probe")
            .arg("--socket")
            .arg(node.socket())
            .output()?)
    };
    let nobody = probe().await?;
    assert_eq!(nobody.status.code(), Some(1));
    let said = String::from_utf8(nobody.stderr)?;
    assert!(said.contains("ipamd does not answer on"), "{said}");

    node.start_ipamd().await?;
    let mut command = Command::new(programs::path("ipamd")?);
    let somebody = command
        .arg("probe")
        .arg("--socket")
        .arg(node.socket())
        .output()?;
    assert!(somebody.status.success(), "{somebody:?}");
    node.stop_ipamd().await
}

/// Runs ipamd on node a until it ends by itself.
pub(crate) fn run(lab: &vpc_lab::Lab, env: &[(&str, &str)]) -> anyhow::Result<Output> {
    let place = lab.node("a");
    let mut command = place.netns().command("timeout");
    command
        .arg("20")
        .arg(programs::path("ipamd")?)
        .arg("--socket")
        .arg(place.run_dir().join("ipamd.sock"))
        .arg("--books")
        .arg(place.run_dir().join("books.json"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(place.env().iter().cloned())
        .envs(env.iter().copied())
        .stdin(Stdio::from(File::open("/dev/null")?));
    Ok(command.output()?)
}
