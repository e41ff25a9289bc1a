//! What ipamd still knows after it went and came back, however it went.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use aws_sim::{Effect, Event, Fault};
use datapath::layout;
use libtest_mimic::Trial;
use proto::v1::AddressState;
use suites::harness::{async_test, eventually};
use suites::node::{Node, text_of};
use vpc_lab::probe;

use crate::world::{device_index_in_ec2, imds_shows_all, lab, pod, pods_until_second_eni};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("a_killed_ipamd_comes_back_knowing_every_pod", killed),
        async_test(
            "a_restart_changes_nothing_that_is_right_in_the_kernel",
            kernel_untouched,
        ),
        async_test(
            "a_restart_needs_no_ec2_to_serve_when_imds_agrees",
            without_ec2,
        ),
        async_test(
            "what_ec2_took_away_while_ipamd_was_down_is_given_to_nobody",
            taken_away,
        ),
        async_test("what_cooled_before_a_restart_cools_after_it", cooling),
        async_test("a_del_without_ipamd_is_made_good_when_it_is_back", spooled),
        async_test("a_state_file_that_is_torn_is_set_aside", torn_books),
    ]
}

async fn killed() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let (one, two) = {
        let (one, two) = (pod(&lab, &a, "one")?, pod(&lab, &a, "two")?);
        ((one.netns, one.address), (two.netns, two.address))
    };
    a.kill_ipamd();
    // Packets need no daemon.
    assert!(probe::tcp(&one.0, &two.0, two.1)?.reply_ok);
    a.start_ipamd().await?;
    assert!(probe::tcp(&one.0, &two.0, two.1)?.reply_ok);
    let owned: Vec<_> = a
        .pool()
        .await?
        .enis
        .iter()
        .flat_map(|eni| eni.addresses.clone())
        .filter(|address| address.state() == AddressState::Owned)
        .map(|address| (address.address, address.pod.unwrap_or_default().name))
        .collect();
    let mut expected = vec![
        (one.1.to_string(), "one".to_owned()),
        (two.1.to_string(), "two".to_owned()),
    ];
    expected.sort_by_key(|(address, _)| address.parse::<std::net::Ipv4Addr>().ok());
    assert_eq!(owned, expected);
    let three = pod(&lab, &a, "three")?;
    assert!(
        ![one.1, two.1].contains(&three.address),
        "an address was given out twice"
    );
    Ok(())
}

async fn kernel_untouched() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let pods: Vec<_> = pods_until_second_eni(&lab, &a)
        .await?
        .into_iter()
        .map(|pod| (pod.netns, pod.address))
        .collect();
    a.wait_for_pool("a quiet pool", |pool| {
        // What is to be warm is there: nothing is gathered any more, either.
        let warm = |totals: proto::v1::Totals| totals.preparing == 0 && totals.free >= 1;
        pool.pending_calls.is_empty() && pool.totals.is_some_and(warm)
    })
    .await?;
    // IPv4 alone: link-local addresses of IPv6 end their detection of duplicates when they like.
    let look = |a: &Node<'_>| -> anyhow::Result<_> {
        let host = a.lab().netns();
        let mut lines = BTreeSet::new();
        for (program, arguments) in [
            ("ip", "-4 rule"),
            ("ip", "-4 route show table all"),
            ("ip", "-4 neigh show nud permanent"),
            ("ip", "-4 addr"),
            ("nft", "-a list ruleset"),
        ] {
            let arguments: Vec<_> = arguments.split(' ').collect();
            let text = text_of(host, program, &arguments)?;
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
    };
    let assert_same = |before: &BTreeSet<String>, now: &BTreeSet<String>, what: &str| {
        let changed: Vec<_> = before.symmetric_difference(now).collect();
        assert!(changed.is_empty(), "{what}: {changed:#?}");
    };
    let before = look(&a)?;
    imds_shows_all(&lab);
    let calls = lab.sim().calls().len();
    a.stop_ipamd().await?;
    assert_same(&before, &look(&a)?, "stopping ipamd changed the kernel");
    a.start_ipamd().await?;
    assert_same(&before, &look(&a)?, "starting ipamd changed what was right");
    let asked: Vec<_> = lab
        .sim()
        .calls()
        .into_iter()
        .skip(calls)
        .map(|call| call.action)
        .collect();
    assert_eq!(
        asked,
        [""; 0],
        "IMDS shows what the books say of {} pods",
        pods.len()
    );
    Ok(())
}

async fn without_ec2() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 5);
    a.start_ipamd().await?;
    let (netns, address) = {
        let one = pod(&lab, &a, "one")?;
        (one.netns, one.address)
    };
    a.wait_for_pool("five free addresses again", |pool| {
        pool.totals.is_some_and(|totals| totals.free == 5) && pool.pending_calls.is_empty()
    })
    .await?;
    imds_shows_all(&lab);
    a.kill_ipamd();
    lab.sim().inject(Fault::on_all(Effect::HangBefore));
    let calls = lab.sim().calls().len();

    a.start_ipamd().await?;
    let two = pod(&lab, &a, "two")?;
    assert_eq!(lab.sim().calls().len(), calls, "EC2 was asked");
    assert_ne!(two.address, address, "an address was given out twice");
    assert!(probe::tcp(&netns, &two.netns, two.address)?.reply_ok);
    Ok(())
}

async fn taken_away() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 2);
    a.start_ipamd().await?;
    let pool = a
        .wait_for_pool("two free addresses", |pool| {
            pool.totals.is_some_and(|totals| totals.free == 2)
        })
        .await?;
    a.stop_ipamd().await?;
    let taken: Ipv4Addr = pool.enis[0].addresses[0].address.parse()?;
    lab.sim().happen(&Event::StealAddress {
        eni: "a/0".to_owned(),
        address: Some(taken.into()),
        to: None,
    })?;
    imds_shows_all(&lab);

    a.start_ipamd().await?;
    for name in ["one", "two"] {
        let pod = pod(&lab, &a, name)?;
        assert_ne!(pod.address, taken, "another ENI has it now");
        assert_eq!(device_index_in_ec2(&lab, pod.address), Some(0));
    }
    let table = layout::PODS_TABLE.to_string();
    let routes = text_of(a.lab().netns(), "ip", &["route", "show", "table", &table])?;
    assert!(
        !routes.contains(&taken.to_string()),
        "the node keeps the new owner's packets to itself:\n{routes}"
    );
    Ok(())
}

/// amazon-vpc-cni-k8s#1127: a restart forgot what cooled, and the next pod got it at once.
async fn cooling() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("IP_COOLDOWN_PERIOD", 600);
    a.start_ipamd().await?;
    let address = {
        let pod = pod(&lab, &a, "one")?;
        assert_eq!(pod.sandbox.del()?.code, Some(0));
        pod.address.to_string()
    };
    a.kill_ipamd();
    a.start_ipamd().await?;
    let pool = a.pool().await?;
    let held = pool
        .enis
        .iter()
        .flat_map(|eni| &eni.addresses)
        .find(|held| held.address == address)
        .context("the address is not held any more")?;
    assert_eq!(held.state(), AddressState::Cooling);
    Ok(())
}

/// amazon-vpc-cni-k8s#2350, #2487.
async fn spooled() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let sandbox = {
        let pod = pod(&lab, &a, "one")?;
        (pod.sandbox.container_id.clone(), pod.netns)
    };
    a.kill_ipamd();
    let del = a.sandbox(&sandbox.0, "one", sandbox.1.path()).del()?;
    assert_eq!(
        (del.code, del.stdout.as_str()),
        (Some(0), ""),
        "{}",
        del.stderr
    );
    assert_eq!(a.pod_links()?, 0, "the kernel's part needs no daemon");
    a.start_ipamd().await?;
    a.wait_for_pool("the spooled release", |pool| {
        pool.totals
            .is_some_and(|totals| totals.owned == 0 && totals.cooling == 1)
    })
    .await?;
    let spool = a.lab().run_dir().join("spool");
    let empty = eventually("an empty spool", async || {
        Ok((json_files(&spool)? == 0).then_some(()))
    });
    tokio::time::timeout(Duration::from_secs(5), empty).await??;
    Ok(())
}

fn json_files(dir: &Path) -> anyhow::Result<usize> {
    let names: Result<Vec<_>, _> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    Ok(names?
        .iter()
        .filter(|name| name.to_string_lossy().ends_with(".json"))
        .count())
}

async fn torn_books() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let (netns, address) = {
        let one = pod(&lab, &a, "one")?;
        (one.netns, one.address)
    };
    a.kill_ipamd();
    let books = std::fs::read(a.books())?;
    let torn = &books[..books.len() / 2];
    std::fs::write(a.books(), torn)?;
    a.start_ipamd().await?;
    let aside = std::fs::read_dir(a.lab().run_dir())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| std::fs::read(path).is_ok_and(|content| content == torn))
        .context("the torn file is gone: it should have been set aside")?;
    let log = std::fs::read_to_string(a.log())?;
    assert!(
        log.contains(&aside.display().to_string()),
        "the log does not name {aside:?}:\n{log}"
    );

    // Nobody knows now whose it is, but the kernel still has the pod's link: no other pod may have it.
    let next = pod(&lab, &a, "next")?;
    assert_ne!(
        next.address, address,
        "a running pod's address was given to another"
    );
    drop(netns);
    Ok(())
}
