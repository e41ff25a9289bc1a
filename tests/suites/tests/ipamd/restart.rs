//! What survives a restart, however ipamd ended; and what is not trusted.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;
use suites::harness::{async_test, eventually};
use suites::node::Node;
use tonic::Code;

use crate::rig::{
    Plugin, actions, calls, error_info, growth_hangs, imds_shows_all, lab, log_says, sandbox,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "grants_survive_a_kill_and_a_restart_asks_ec2_nothing",
            killed,
        ),
        async_test("grants_survive_sigterm", terminated),
        async_test("waiters_are_refused_when_ipamd_shuts_down", waiters),
        async_test(
            "books_that_are_torn_empty_or_newer_are_set_aside_and_said",
            distrusted,
        ),
        async_test(
            "a_release_spooled_while_ipamd_was_away_is_replayed",
            spooled,
        ),
        async_test(
            "an_old_spooled_release_does_not_take_what_a_newer_add_gets",
            withdrawn,
        ),
        async_test(
            "a_spooled_release_that_makes_no_sense_is_set_aside_and_said",
            malformed,
        ),
    ]
}

async fn killed() -> anyhow::Result<()> {
    survives(|node| {
        Box::pin(async {
            node.kill_ipamd();
            Ok(())
        })
    })
    .await
}

async fn terminated() -> anyhow::Result<()> {
    survives(|node| Box::pin(node.stop_ipamd())).await
}

type Ending<'n> = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'n>>;

async fn survives(end: impl for<'n> Fn(&'n mut Node<'_>) -> Ending<'n>) -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("WARM_IP_TARGET", 5);
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let mut given = Vec::new();
    for id in ["one", "two", "three"] {
        given.push((id, plugin.address(id).await?));
    }
    plugin.del("three").await?;
    node.wait_for_pool("five free addresses again", |pool| {
        pool.totals.is_some_and(|totals| totals.free >= 5) && pool.pending_calls.is_empty()
    })
    .await?;
    imds_shows_all(&lab);
    let before = actions(&lab).len();

    end(&mut node).await?;
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    for (id, address) in &given[..2] {
        assert_eq!(&plugin.check(id).await?.addresses[0].address, address);
        assert_eq!(&plugin.address(id).await?, address, "asked again");
    }
    let pool = node
        .wait_for_pool("five free addresses", |pool| {
            pool.totals.is_some_and(|totals| totals.free >= 5)
        })
        .await?;
    let totals = pool.totals.unwrap_or_default();
    assert_eq!((totals.owned, totals.cooling), (2, 1), "{pool:?}");
    assert_eq!(
        actions(&lab)[before..],
        [""; 0],
        "IMDS shows what the books say, and nothing is short"
    );
    node.stop_ipamd().await
}

async fn waiters() -> anyhow::Result<()> {
    let lab = lab()?;
    growth_hangs(&lab);
    let mut node = Node::new(&lab, "a").with("WEIR_MODE", "allocate-only");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let waiting = tokio::spawn(async move { plugin.add("patient").await });
    node.wait_for_pool("a waiter", |pool| pool.waiters.len() == 1)
        .await?;
    node.stop_ipamd().await?;
    let refused = waiting.await?.expect_err("nothing could be given");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(error_info(&refused)?.reason, "SHUTTING_DOWN");
    Ok(())
}

async fn distrusted() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    plugin.add("one").await?;
    node.stop_ipamd().await?;
    let whole = fs::read_to_string(node.books())?;
    let newer = whole.replace("weir-books/3", "weir-books/9999");
    assert_ne!(newer, whole);
    let torn = whole[..whole.len() / 2].to_owned();
    for (kind, content) in [("empty", String::new()), ("torn", torn), ("newer", newer)] {
        fs::write(node.books(), &content)?;
        let said = fs::read_to_string(node.log())?.len();
        node.start_ipamd().await?;
        let log = log_says(&node, "the books are not trusted").await?;
        let said = &log[said..];
        assert!(said.contains("the books are not trusted"), "{kind}: {said}");
        let kept = fs::read_dir(node.books().parent().unwrap())?
            .filter_map(Result::ok)
            .filter(|entry| {
                entry.path() != node.books()
                    && said.contains(&entry.path().display().to_string())
                    && fs::read_to_string(entry.path()).is_ok_and(|kept| kept == content)
            })
            .count();
        assert_eq!(kept, 1, "{kind}: not set aside as said: {said}");
        let mut plugin = Plugin::connect(&node.socket()).await?;
        assert_eq!(
            plugin.check("one").await.unwrap_err().code(),
            Code::NotFound,
            "{kind}"
        );
        plugin.add("other").await?;
        plugin.del("other").await?;
        node.stop_ipamd().await?;
    }
    Ok(())
}

fn spool(node: &Node<'_>, name: &str, content: &str) -> anyhow::Result<std::path::PathBuf> {
    let folder = node.socket().with_file_name("spool");
    fs::create_dir_all(&folder)?;
    let file = folder.join(name);
    fs::write(&file, content)?;
    Ok(file)
}

fn release(id: &str) -> String {
    let key = sandbox(id);
    json!({"container_id": key.container_id, "ifname": key.ifname, "at": 1_798_761_600}).to_string()
}

async fn spooled() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    plugin.add("gone").await?;
    plugin.add("stays").await?;
    node.stop_ipamd().await?;
    let file = spool(&node, "0123456789abcdef.json", &release("gone"))?;
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    eventually("the file is gone", async || {
        Ok((!file.exists()).then_some(()))
    })
    .await?;
    assert_eq!(
        plugin.check("gone").await.unwrap_err().code(),
        Code::NotFound
    );
    plugin.check("stays").await?;
    let books = fs::read_to_string(node.books())?;
    let books: serde_json::Value = serde_json::from_str(&books)?;
    assert_eq!(
        books["ledger"]["grants"].as_array().unwrap().len(),
        1,
        "{books}"
    );
    node.stop_ipamd().await
}

async fn withdrawn() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    plugin.add("same").await?;
    let file = spool(&node, "0123456789abcdef.json", &release("same"))?;
    let given = plugin.address("same").await?;
    assert!(
        !file.exists(),
        "the release would be replayed later, over the new grant"
    );
    assert_eq!(plugin.check("same").await?.addresses[0].address, given);
    assert_eq!(calls(&lab, "DescribeNetworkInterfaces").len(), 1);
    node.stop_ipamd().await
}

async fn malformed() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    let file = spool(&node, "0123456789abcdef.json", "{\"container_id\": ")?;
    node.start_ipamd().await?;
    log_says(&node, "a spooled release can't be understood").await?;
    let aside = file.with_extension("bad");
    assert!(!file.exists() && aside.exists());
    assert_eq!(fs::read_to_string(aside)?, "{\"container_id\": ");
    node.stop_ipamd().await
}
