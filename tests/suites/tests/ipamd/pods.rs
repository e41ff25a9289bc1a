//! Add, Check, Del, Gc and Status, as the plugin calls them.

use std::collections::BTreeSet;
use std::fs;

use libtest_mimic::Trial;
use proto::v1::{AddRequest, AddressState, GcRequest, Sandbox};
use suites::harness::{async_test, eventually};
use suites::node::Node;
use tonic::Code;

use crate::rig::{Plugin, error_info, lab, sandbox};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "each_pod_gets_an_address_of_its_own_and_the_same_when_asked_again",
            adds,
        ),
        async_test(
            "a_released_address_cools_and_goes_to_no_other_pod_meanwhile",
            cools,
        ),
        async_test(
            "a_del_of_an_unknown_sandbox_succeeds_and_a_check_says_not_found",
            unknown,
        ),
        async_test("gc_keeps_the_valid_the_young_and_other_networks", gc),
        async_test("a_request_without_its_key_is_refused_by_name", invalid),
        async_test("twenty_adds_at_once_get_twenty_addresses", burst),
    ]
}

async fn adds() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let first = plugin.address("one").await?;
    let second = plugin.address("two").await?;
    assert_ne!(first, second);
    assert_eq!(plugin.address("one").await?, first, "asked again");
    assert_eq!(plugin.check("one").await?.addresses[0].address, first);

    let books = fs::read_to_string(node.books())?;
    assert!(books.contains(&first) && books.contains(&second), "{books}");
    let pool = node.pool().await?;
    let owned = pool.enis[0]
        .addresses
        .iter()
        .find(|address| address.address == first)
        .expect("the pool does not show what it gave");
    assert_eq!(owned.state(), AddressState::Owned);
    assert_eq!(owned.owner.as_ref().unwrap(), &sandbox("one"));
    assert_eq!(owned.pod.as_ref().unwrap().name, "pod-of-one");
    node.stop_ipamd().await
}

async fn cools() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a")
        .with("WARM_IP_TARGET", 1)
        .with("IP_COOLDOWN_PERIOD", 600);
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let first = plugin.address("one").await?;
    let released = plugin.del("one").await?;
    assert_eq!(released.released[0].address, first);
    let mut given = BTreeSet::new();
    for id in ["two", "three", "four"] {
        given.insert(plugin.address(id).await?);
    }
    assert!(
        !given.contains(&first),
        "{first} is still cooling: {given:?}"
    );
    assert_eq!(given.len(), 3);
    assert_eq!(node.pool().await?.totals.unwrap_or_default().cooling, 1);
    node.stop_ipamd().await
}

async fn unknown() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    assert!(plugin.del("nobody").await?.released.is_empty());
    let refused = plugin.check("nobody").await.expect_err("holds nothing");
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(error_info(&refused)?.reason, "UNKNOWN_SANDBOX");
    node.stop_ipamd().await
}

async fn gc() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    plugin.add("young").await?;
    let ask = |network: &str| GcRequest {
        network: network.to_owned(),
        valid: Vec::new(),
    };
    let other = plugin.client().gc(ask("another")).await?.into_inner();
    assert!(other.released.is_empty(), "{other:?}");
    // Added within the last minute: the runtime's list may be older than that.
    let own = plugin.client().gc(ask("aws-cni")).await?.into_inner();
    assert!(own.released.is_empty(), "{own:?}");
    plugin.check("young").await?;
    node.stop_ipamd().await
}

async fn invalid() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let ask = |id: &str, ifname: &str, network: &str| AddRequest {
        sandbox: Some(Sandbox {
            container_id: id.to_owned(),
            ifname: ifname.to_owned(),
        }),
        network: network.to_owned(),
        ..AddRequest::default()
    };
    for (request, missing) in [
        (ask("", "eth0", "aws-cni"), "sandbox.container_id"),
        (ask("one", "", "aws-cni"), "sandbox.ifname"),
        (ask("one", "eth0", ""), "network"),
    ] {
        let refused = plugin.client().add(request).await.expect_err(missing);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(missing), "{refused:?}");
        assert_eq!(error_info(&refused)?.reason, "INVALID_ARGUMENT");
    }
    node.stop_ipamd().await
}

async fn burst() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    node.start_ipamd().await?;
    let adds: Vec<_> = (0..20)
        .map(|number| {
            let socket = node.socket();
            tokio::spawn(async move {
                let mut plugin = Plugin::connect(&socket).await?;
                plugin.address(&format!("pod-{number}")).await
            })
        })
        .collect();
    let mut given = BTreeSet::new();
    for add in adds {
        given.insert(add.await??);
    }
    assert_eq!(given.len(), 20, "{given:?}");
    // All of them are addresses that EC2 gave this node, on three ENIs by now.
    let pool = node.pool().await?;
    let held: BTreeSet<_> = pool
        .enis
        .iter()
        .flat_map(|eni| &eni.addresses)
        .map(|address| address.address.clone())
        .collect();
    assert!(given.is_subset(&held), "{given:?} of {held:?}");
    eventually("no waiter", async || {
        Ok(node.pool().await?.waiters.is_empty().then_some(()))
    })
    .await?;
    node.stop_ipamd().await
}
