//! What went wrong on hosts with systems of this kind, by the public thread that tells of it; here it must go right.
//!
//! `#N` is an issue or pull request of aws/amazon-vpc-cni-k8s; others have their repository's name. Where another test
//! shows the same already, the thread stands beside that one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use datapath::layout;
use libtest_mimic::Trial;
use proto::v1::AddressState;
use suites::harness::{async_test, eventually};
use suites::node::{Node, text_of};
use vpc_lab::netns::Running;
use vpc_lab::{Lab, LabConfig, Netns, NodeConfig, probe};

use crate::world::{lab, pod, pods_until_second_eni};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_route_that_someone_left_to_an_address_is_replaced_by_the_pods",
            leftover_route,
        ),
        async_test(
            "the_old_and_the_new_sandbox_of_a_pod_may_come_and_go_in_any_order",
            interleaved,
        ),
        async_test(
            "an_eni_whose_link_appears_ten_seconds_late_serves_the_pod_that_waits_for_it",
            late_link,
        ),
        async_test("udev_leaves_the_mac_of_a_pods_link_alone", settled_mac),
        async_test(
            "thirty_pods_at_once_come_within_a_second_and_no_link_is_moved_or_renamed",
            thirty_at_once,
        ),
        async_test(
            "the_lock_of_iptables_held_by_another_holds_up_nothing",
            xtables_lock,
        ),
        async_test(
            "an_add_that_the_kernel_refuses_leaves_nothing_and_its_address_cools",
            half_way,
        ),
        async_test(
            "pods_may_be_evicted_while_there_is_no_ipamd",
            evicted_without_ipamd,
        ),
        async_test(
            "on_a_node_without_cpu_to_spare_adds_meet_their_time_and_ipamd_is_healthy",
            starved,
        ),
        async_test(
            "an_api_server_that_can_not_be_reached_keeps_no_pod_waiting",
            without_api_server,
        ),
        async_test(
            "hundreds_of_pods_that_come_and_go_leave_ipamd_no_larger",
            churn,
        ),
    ]
}

/// #344, #367: "file exists", and the pod was never made.
async fn leftover_route() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 3);
    a.start_ipamd().await?;
    let pool = a
        .wait_for_pool("three free addresses", |pool| {
            pool.pending_calls.is_empty() && pool.totals.is_some_and(|totals| totals.free >= 3)
        })
        .await?;
    let table = layout::PODS_TABLE.to_string();
    let host = a.lab().netns();
    for held in pool.enis.iter().flat_map(|eni| &eni.addresses) {
        let to = held.address.as_str();
        let wrong = ["route", "add", to, "dev", "ens5", "table", &table];
        text_of(host, "ip", &wrong)?;
    }
    let one = pod(&lab, &a, "one")?;
    let route = text_of(host, "ip", &["route", "get", &one.address.to_string()])?;
    let veth = layout::host_veth_name("sandbox-one", "eth0");
    assert!(route.contains(&format!("dev {veth}")), "{route}");
    assert!(probe::tcp(host, &one.netns, one.address)?.reply_ok);
    Ok(())
}

/// #1374, projectcalico/calico#10375, antrea-io/antrea#827: two sandboxes of one pod of a `StatefulSet` have one name;
/// the late DEL of the old one took the link of the new one.
async fn interleaved() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 4);
    a.start_ipamd().await?;
    let orders: [&[&str]; 5] = [
        &["add old", "del old", "add new", "late del old"],
        &["add old", "add new", "del old", "late del old"],
        &["add new", "add old", "del old"],
        &["del old", "add new", "del old"],
        &["add old", "add new", "late del old", "del old"],
    ];
    for (n, order) in orders.into_iter().enumerate() {
        let (old, new) = (
            lab.pod_netns(&format!("old-{n}"))?,
            lab.pod_netns(&format!("new-{n}"))?,
        );
        let of = |name: &str, netns: &Netns| {
            // The pod's name is the same, as the controller gives it.
            a.sandbox(&format!("{name}-{n}"), "db-0", netns.path())
        };
        let (old_sandbox, new_sandbox) = (of("old", &old), of("new", &new));
        let mut late = old_sandbox.clone();
        late.netns = String::new();
        let mut address = None;
        for step in order {
            let outcome = match *step {
                "add old" => old_sandbox.add()?,
                "add new" => new_sandbox.add()?,
                "del old" => old_sandbox.del()?,
                _ => late.del()?,
            };
            ensure!(outcome.code == Some(0), "{order:?}: {step}: {outcome:?}");
            if *step == "add new" {
                address = Some(outcome.address()?);
            }
        }
        lab.settle()?;
        let address = address.context("each order has the new one")?;
        let seen = probe::tcp(a.lab().netns(), &new, address)?;
        assert!(seen.reply_ok, "{order:?}: {seen:?}");
        let checked = check(&new_sandbox)?;
        assert_eq!(checked.code, Some(0), "{order:?}: {}", checked.stdout);
        assert_eq!(new_sandbox.del()?.code, Some(0));
    }
    assert_eq!(a.pod_links()?, 0);
    Ok(())
}

/// CHECK with the result of the ADD, as a runtime sends it.
fn check(sandbox: &suites::node::Sandbox<'_>) -> anyhow::Result<suites::node::Outcome> {
    let mut again = sandbox.clone();
    let result = again.add()?.result()?;
    again.conf["prevResult"] = result;
    again.call("CHECK")
}

/// #223, #360, #3726: the link was not there yet, or took no route yet, and the pod was refused.
async fn late_link() -> anyhow::Result<()> {
    const LAG: Duration = Duration::from_secs(10);
    let lab = lab()?;
    lab.set_link_lag(LAG)?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let begun = Instant::now();
    let pods = pods_until_second_eni(&lab, &a).await?;
    assert!(begun.elapsed() > LAG / 2, "the link was not late");
    let (last, b) = (pods.last().context("pods")?, lab.node("b"));
    let seen = probe::tcp(&last.netns, b.netns(), b.primary_address())?;
    assert!(seen.reply_ok, "{seen:?}");
    Ok(())
}

/// #2103, #3354, #3524: systemd gave new links MACs of its own (`MACAddressPolicy=persistent`), and pods' gateways were
/// known by the one before. It leaves alone what was set by its maker: 3, `NET_ADDR_SET` (linux/netdevice.h).
async fn settled_mac() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let one = pod(&lab, &a, "one")?;
    let veth = layout::host_veth_name("sandbox-one", "eth0");
    for (netns, link) in [(a.lab().netns(), veth.as_str()), (&one.netns, "eth0")] {
        // It mounts the namespace's own /sys.
        let path = format!("/sys/class/net/{link}/addr_assign_type");
        let arguments = ["netns", "exec", netns.name(), "cat", &path];
        let output = Command::new("ip").args(arguments).output()?;
        let kind = String::from_utf8_lossy(&output.stdout);
        assert_eq!(kind.trim(), "3", "{link} in {}: {output:?}", netns.name());
    }
    Ok(())
}

/// A node with room for more than thirty pods on its primary ENI.
fn large_lab() -> anyhow::Result<Lab> {
    let defaults = LabConfig::default();
    let node = NodeConfig {
        instance_type: "m5.4xlarge".to_owned(),
        ..defaults.nodes[0].clone()
    };
    Lab::start(LabConfig {
        nodes: vec![node],
        link_lag: Duration::from_millis(50),
        ..defaults
    })
}

/// #3764: a burst of thirty pods took five seconds each, for veths that were moved between namespaces.
async fn thirty_at_once() -> anyhow::Result<()> {
    let lab = large_lab()?;
    let mut a = Node::new(&lab, "a")
        .with("MINIMUM_IP_TARGET", 32)
        .with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    a.wait_for_pool("32 free addresses", |pool| {
        pool.pending_calls.is_empty() && pool.totals.is_some_and(|totals| totals.free >= 32)
    })
    .await?;
    let mut watch = Command::new("ip");
    watch
        .args(["-o", "monitor", "link"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut monitor = a.lab().netns().spawn(watch)?;
    let told = monitor.child().stdout.take().context("ip's output")?;

    let namespaces: Result<Vec<_>, _> = (0..30)
        .map(|n| lab.pod_netns(&format!("burst-{n}")))
        .collect();
    let namespaces = namespaces?;
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let adds: Vec<_> = namespaces
            .iter()
            .enumerate()
            .map(|(n, netns)| {
                let sandbox = a.sandbox(&format!("burst-{n}"), &format!("web-{n}"), netns.path());
                scope.spawn(move || -> anyhow::Result<_> {
                    let outcome = sandbox.add()?;
                    outcome.address()?;
                    Ok(outcome.took)
                })
            })
            .collect();
        let adds = adds.into_iter();
        adds.map(|add| add.join().expect("an ADD's thread"))
            .collect::<Result<_, _>>()
    })?;
    took.sort_unstable();
    let median = took[took.len() / 2];
    assert!(median < Duration::from_secs(1), "of {took:?}");

    drop(monitor);
    let mut names: BTreeSet<(String, String)> = BTreeSet::new();
    for line in BufReader::new(told).lines() {
        let line = line?;
        assert!(!line.starts_with("Deleted"), "a link was moved: {line}");
        let mut words = line.split(": ");
        if let (Some(index), Some(name)) = (words.next(), words.next()) {
            let name = name.split('@').next().unwrap_or(name);
            names.insert((index.to_owned(), name.to_owned()));
        }
    }
    let ours = names.iter().filter(|(_, name)| name.starts_with("weir"));
    assert_eq!(ours.count(), 30, "each link has one name: {names:?}");
    assert_eq!(names.len(), 30, "no link had another name first: {names:?}");
    Ok(())
}

/// #1186, #2948: kube-proxy holds the lock of iptables for a minute on a node with many Services, and no pod started.
async fn xtables_lock() -> anyhow::Result<()> {
    let lab = lab()?;
    // As `iptables -w` takes it (xshared.c, XT_LOCK_NAME).
    let lock = fs::File::create("/run/xtables.lock")?;
    lock.lock()?;
    let begun = Instant::now();
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let one = pod(&lab, &a, "one")?;
    assert!(probe::tcp(a.lab().netns(), &one.netns, one.address)?.reply_ok);
    assert_eq!(one.sandbox.del()?.code, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it was waited for"
    );
    drop(lock);
    Ok(())
}

/// #127: what a failed ADD had taken was lost to the node, or given to the next pod at once.
async fn half_way() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let netns = lab.pod_netns("crowded")?;
    // The pod's gateway is there already, so its route is refused: the link is made by then.
    text_of(&netns, "ip", &["link", "add", "x0", "type", "veth"])?;
    text_of(&netns, "ip", &["link", "set", "x0", "up"])?;
    text_of(&netns, "ip", &["addr", "add", "192.0.2.1/32", "dev", "x0"])?;
    text_of(&netns, "ip", &["route", "add", "default", "dev", "x0"])?;
    let sandbox = a.sandbox("crowded", "crowded", netns.path());
    let refused = sandbox.add()?.error()?;
    assert!(
        refused["msg"].to_string().contains("refused"),
        "{refused:#}"
    );
    assert_eq!(a.pod_links()?, 0);
    let link = text_of(&netns, "ip", &["link", "show", "dev", "eth0"]);
    assert!(link.is_err(), "{link:?}");
    let pool = a.pool().await?;
    let states = pool.enis.iter().flat_map(|eni| &eni.addresses);
    let cooling = states.filter(|held| held.state() == AddressState::Cooling);
    assert_eq!(cooling.count(), 1, "{pool:#?}");
    assert_eq!(pool.totals.context("totals")?.owned, 0);
    Ok(())
}

/// #2389: on a node that was full, the new daemon waited for a pod to go, and no pod could go without a daemon.
async fn evicted_without_ipamd() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 6);
    a.start_ipamd().await?;
    let sandboxes: Result<Vec<_>, _> = (0..6)
        .map(|n| pod(&lab, &a, &format!("evicted-{n}")).map(|pod| pod.sandbox.container_id))
        .collect();
    let sandboxes = sandboxes?;
    a.kill_ipamd();
    for id in &sandboxes {
        let del = a.sandbox(id, id, std::path::Path::new("")).del()?;
        assert_eq!(del.code, Some(0), "{del:?}");
        assert!(del.took < Duration::from_secs(2), "{del:?}");
    }
    assert_eq!(a.pod_links()?, 0);
    a.start_ipamd().await?;
    a.wait_for_pool("six releases", |pool| {
        pool.totals.is_some_and(|totals| totals.owned == 0)
    })
    .await?;
    Ok(())
}

/// Starts programs that take all the CPU there is, until they are dropped.
fn busy(netns: &Netns, how_many: usize) -> anyhow::Result<Vec<Running>> {
    let busy = |_| {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        netns.spawn(command)
    };
    (0..how_many).map(busy).collect()
}

/// #1425, #3224: with no CPU to spare the liveness probe failed, the daemon was killed, and started slowly, and was killed.
async fn starved() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 6);
    a.start_ipamd().await?;
    a.wait_for_pool("six free addresses", |pool| {
        pool.totals.is_some_and(|totals| totals.free >= 6)
    })
    .await?;
    let cpus = std::thread::available_parallelism()?.get();
    let busy = busy(a.lab().netns(), 8 * cpus)?;
    for n in 0..5 {
        let netns = lab.pod_netns(&format!("starved-{n}"))?;
        let id = format!("starved-{n}");
        let add = a.sandbox(&id, &id, netns.path()).add()?;
        add.address()?;
        assert!(add.took < Duration::from_secs(5), "{:?}", add.took);
        // As the liveness probe has it: one second, three times.
        let serves = tokio::time::timeout(Duration::from_secs(1), a.serves()).await;
        assert!(serves.is_ok_and(|serves| serves.unwrap_or(false)));
    }
    drop(busy);
    Ok(())
}

/// #641, #3243: the daemon looked for the API server by kube-proxy's address, which needs a network; kube-proxy's pod
/// waited for the daemon. #2436: and read all of a large cluster's objects. #2281, #2702: an annotation or an event that
/// could not be written failed pods.
async fn without_api_server() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a")
        // Nobody answers there, nor refuses.
        .with("KUBERNETES_SERVICE_HOST", "10.0.255.254")
        .with("KUBERNETES_SERVICE_PORT", 443)
        .with("ANNOTATE_POD_IP", true);
    let begun = Instant::now();
    a.start_ipamd().await?;
    let one = pod(&lab, &a, "one")?;
    assert!(probe::tcp(a.lab().netns(), &one.netns, one.address)?.reply_ok);
    assert_eq!(one.sandbox.del()?.code, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "it was waited for"
    );
    Ok(())
}

/// #1415, #3233, #3617: memory, descriptors and threads grew by what each pod left.
async fn churn() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a")
        .with("WARM_IP_TARGET", 5)
        .with("IP_COOLDOWN_PERIOD", 1);
    a.start_ipamd().await?;
    let netns = lab.pod_netns("churn")?;
    let come_and_go = |pods: std::ops::Range<u32>| -> anyhow::Result<BTreeSet<Ipv4Addr>> {
        pods.map(|n| {
            let sandbox = a.sandbox(&format!("churn-{n}"), &format!("churn-{n}"), netns.path());
            let address = sandbox.add()?.address()?;
            ensure!(sandbox.del()?.code == Some(0), "DEL {n}");
            Ok(address)
        })
        .collect()
    };
    come_and_go(0..50)?;
    let before = size_of(&a)?;
    come_and_go(50..350)?;
    let grown = eventually("the size of before", async || {
        let now = size_of(&a)?;
        let fits = now.descriptors <= before.descriptors
            && now.threads <= before.threads
            && now.resident_kib <= before.resident_kib + 4096;
        Ok(fits.then_some(()))
    });
    grown
        .await
        .with_context(|| format!("{before:?} grew to {:?}", size_of(&a)))
}

/// What a process has taken.
#[derive(Debug)]
struct Size {
    descriptors: usize,
    threads: u64,
    resident_kib: u64,
}

fn size_of(node: &Node<'_>) -> anyhow::Result<Size> {
    let pid = node.ipamd_pid().context("ipamd does not run")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |field: &str| -> anyhow::Result<u64> {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(field));
        let word = line.and_then(|line| line.split_whitespace().next());
        Ok(word.with_context(|| format!("no {field}"))?.parse()?)
    };
    Ok(Size {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: number("Threads:")?,
        resident_kib: number("VmRSS:")?,
    })
}
