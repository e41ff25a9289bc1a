//! What others take away in the kernel, ipamd puts back: that, soon, and nothing else.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use datapath::layout;
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually, eventually_within};
use suites::node::{Node, json_of, text_of};
use vpc_lab::netns::Running;
use vpc_lab::{Lab, Netns};

use crate::paths::assert_seen;
use crate::world::{Pod, lab, pods_until_second_eni};

/// How long things may be missing, by the middle one of several.
const WITHIN: Duration = Duration::from_secs(2);
/// How long any may be missing while the machine is busy with other work.
pub(crate) const AT_THE_LATEST: Duration = Duration::from_secs(10);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "rules_and_routes_that_others_delete_are_back_within_two_seconds",
            rules_and_routes,
        ),
        async_test(
            "links_that_others_take_down_or_change_are_back_within_two_seconds",
            links,
        ),
        async_test(
            "an_nftables_table_that_others_delete_or_empty_is_back_within_two_seconds",
            nftables,
        ),
        async_test(
            "a_repair_touches_nothing_that_is_right",
            only_the_difference,
        ),
        async_test(
            "pods_and_enis_that_come_and_go_give_nothing_to_repair",
            churn,
        ),
        async_test(
            "what_is_lost_again_and_again_is_put_back_with_restraint_and_said",
            restraint,
        ),
    ]
}

/// A node with pods on two ENIs, and the last one's address on the second.
struct Stage<'a> {
    lab: &'a Lab,
    node: &'a Node<'a>,
    pods: Vec<Pod<'a>>,
    /// The link of the second ENI.
    second: String,
    /// How long each repair took.
    took: RefCell<Vec<Duration>>,
}

impl<'a> Stage<'a> {
    async fn set(lab: &'a Lab, node: &'a Node<'a>) -> anyhow::Result<Self> {
        let pods = pods_until_second_eni(lab, node).await?;
        let pool = node
            .wait_for_pool("a quiet pool", |pool| {
                let warm = |totals: proto::v1::Totals| totals.preparing == 0 && totals.free >= 1;
                pool.pending_calls.is_empty() && pool.totals.is_some_and(warm)
            })
            .await?;
        ensure!(pool.repairs.is_empty(), "nobody broke anything: {pool:#?}");
        let second = pool.enis.iter().find(|eni| eni.device_index == 1);
        let second = link_of(node.lab().netns(), &second.context("no second ENI")?.mac)?;
        Ok(Self {
            lab,
            node,
            pods,
            second,
            took: RefCell::default(),
        })
    }

    fn host(&self) -> &Netns {
        self.node.lab().netns()
    }

    /// All of the kernel's state that is ours. IPv4 alone: link-local addresses of IPv6 come and go.
    fn look(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut lines = BTreeSet::new();
        for (program, arguments) in [
            ("ip", "-4 rule"),
            ("ip", "-4 route show table all"),
            ("ip", "-4 neigh show nud permanent"),
            ("ip", "-4 -o addr show up"),
            ("nft", "list ruleset"),
        ] {
            let arguments: Vec<_> = arguments.split(' ').collect();
            let text = text_of(self.host(), program, &arguments)?;
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
    }

    /// Runs `command`, and waits until all is as before and pods on both ENIs reach another node and are reached.
    async fn survives(&self, kind: &str, command: &str) -> anyhow::Result<()> {
        let before = self.look()?;
        let count = self.repairs(kind).await?;
        // As after a quiet second: a look comes at once.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let broken_at = Instant::now();
        run(self.host(), command)?;
        let whole = eventually_within(AT_THE_LATEST, command, async || {
            Ok((self.look()? == before).then_some(()))
        });
        if let Err(error) = whole.await {
            let now = self.look()?;
            let changed: Vec<_> = before.symmetric_difference(&now).collect();
            return Err(error.context(format!("{changed:#?}\n{}", self.node.log_tail())));
        }
        self.took.borrow_mut().push(broken_at.elapsed());
        self.traffic().with_context(|| format!("after {command}"))?;
        // The count follows the repair at once.
        let counted = eventually(command, async || {
            Ok((self.repairs(kind).await? > count).then_some(()))
        });
        counted.await.with_context(|| format!("no {kind} counted"))
    }

    fn traffic(&self) -> anyhow::Result<()> {
        let other = self.lab.node("b");
        let [first, .., last] = self.pods.as_slice() else {
            anyhow::bail!("fewer than two pods")
        };
        for pod in [first, last] {
            assert_seen(
                &pod.netns,
                other.netns(),
                other.primary_address(),
                pod.address,
            )?;
            assert_seen(
                other.netns(),
                &pod.netns,
                pod.address,
                other.primary_address(),
            )?;
        }
        assert_seen(&first.netns, &last.netns, last.address, first.address)?;
        // Source translation, and the way back.
        let peer = self.lab.peer();
        let node = self.node.lab().primary_address();
        assert_seen(&last.netns, peer.netns(), peer.address(), node)
    }

    async fn repairs(&self, kind: &str) -> anyhow::Result<u64> {
        let repairs = self.node.pool().await?.repairs;
        let of_kind = repairs.iter().find(|repair| repair.kind == kind);
        Ok(of_kind.map_or(0, |repair| repair.count))
    }

    /// Fails when the repairs took too long.
    fn were_soon(&self) -> anyhow::Result<()> {
        let mut took = self.took.take();
        took.sort_unstable();
        let middle = took.get(took.len() / 2).context("nothing was repaired")?;
        ensure!(*middle <= WITHIN, "{took:?}");
        Ok(())
    }

    fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.node.log())?)
    }
}

fn run(host: &Netns, command: &str) -> anyhow::Result<()> {
    let words: Vec<_> = command.split(' ').collect();
    text_of(host, words[0], &words[1..]).map(drop)
}

fn link_of(host: &Netns, mac: &str) -> anyhow::Result<String> {
    let links = json_of(host, "ip", &["-j", "link"])?;
    let links = links.as_array().context("no links")?;
    let link = links.iter().find(|link| link["address"] == mac);
    let name = link.and_then(|link| link["ifname"].as_str());
    Ok(name
        .with_context(|| format!("no link has {mac}"))?
        .to_owned())
}

async fn rules_and_routes() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let stage = Stage::set(&lab, &a).await?;
    stage.traffic()?;
    let table = layout::PODS_TABLE;
    for (kind, command) in [
        ("rule", "ip rule del priority 512".to_owned()),
        ("rule", "ip rule flush proto 87".to_owned()),
        ("route", "ip route del default table 2".to_owned()),
        ("route", "ip route flush table 2".to_owned()),
        ("route", format!("ip route flush table {table}")),
        (
            "pod",
            format!("ip route del {} table {table}", stage.pods[0].address),
        ),
        (
            "setting",
            format!("sysctl -qw net.ipv4.conf.{}.rp_filter=1", stage.second),
        ),
        ("setting", "sysctl -qw net.ipv4.ip_forward=0".to_owned()),
    ] {
        stage.survives(kind, &command).await?;
    }
    stage.were_soon()?;
    let path = format!("/proc/sys/net/ipv4/conf/{}/rp_filter", stage.second);
    let value = stage.host().run(|| std::fs::read_to_string(path))?;
    assert_eq!(value.trim(), "2");
    let log = stage.log()?;
    for what in [
        "rule 512: from all lookup 5120",
        "in table 2",
        "rp_filter = 2",
    ] {
        ensure!(
            log.lines()
                .any(|line| line.contains("put back in the kernel") && line.contains(what)),
            "no line says that {what} was put back:\n{log}"
        );
    }
    Ok(())
}

async fn links() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let stage = Stage::set(&lab, &a).await?;
    stage.traffic()?;
    let second = stage.second.as_str();
    let n = stage.pods.len() - 1;
    let veth = layout::host_veth_name(&format!("sandbox-a-{n}"), "eth0");
    let foreign = stage.pods[n].address;
    for (kind, command) in [
        ("link", format!("ip link set {second} down")),
        ("link", format!("ip link set {second} mtu 1500")),
        ("address", format!("ip -4 addr flush dev {second}")),
        // What a DHCP client or cloud-init does that takes the ENI for the node's.
        ("address", format!("ip addr add {foreign}/24 dev {second}")),
        ("pod", format!("ip link set {veth} down")),
        (
            "pod",
            format!("ip link set {veth} address 02:00:00:00:be:ef"),
        ),
        ("pod", format!("ip neigh del {foreign} dev {veth}")),
    ] {
        stage.survives(kind, &command).await?;
    }
    stage.were_soon()?;
    let links = text_of(stage.host(), "ip", &["link", "show", "dev", second])?;
    ensure!(links.contains("mtu 9001"), "{links}");

    // Renamed, it is the same ENI.
    run(stage.host(), &format!("ip link set {second} down"))?;
    run(stage.host(), &format!("ip link set {second} name renamed0"))?;
    let up = eventually_within(AT_THE_LATEST, "the renamed link is up", async || {
        Ok(stage.traffic().is_ok().then_some(()))
    });
    up.await?;

    // Nothing is made for a pod whose link is gone.
    let gone = &stage.pods[0];
    let gone_veth = layout::host_veth_name("sandbox-a-0", "eth0");
    run(stage.host(), &format!("ip link del {gone_veth}"))?;
    let pods = stage.repairs("pod").await?;
    tokio::time::sleep(WITHIN).await;
    assert_eq!(stage.repairs("pod").await?, pods);
    assert_eq!(gone.sandbox.del()?.code, Some(0));
    Ok(())
}

async fn nftables() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let stage = Stage::set(&lab, &a).await?;
    stage.traffic()?;
    for command in [
        "nft delete table ip weir",
        "nft flush ruleset",
        "nft flush chain ip weir source",
        "nft flush chain ip weir eni-1",
        "nft flush map ip weir eni",
        "nft flush set ip weir vpc",
    ] {
        stage.survives("nftables", command).await?;
    }
    stage.were_soon()
}

/// A program that prints what the kernel tells, into a file.
fn monitor(stage: &Stage<'_>, name: &str, command: &str) -> anyhow::Result<(Running, File)> {
    let path = stage.node.lab().run_dir().join(name);
    let file = File::create(&path)?;
    let words: Vec<_> = command.split(' ').collect();
    let mut program = std::process::Command::new(words[0]);
    program
        .args(&words[1..])
        .stdout(file.try_clone()?)
        .stderr(file);
    Ok((stage.host().spawn(program)?, File::open(path)?))
}

fn lines(mut file: &File) -> anyhow::Result<Vec<String>> {
    use std::io::{Read, Seek};
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

async fn only_the_difference() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let stage = Stage::set(&lab, &a).await?;
    let (_ip, heard) = monitor(&stage, "ip.log", "ip -4 monitor rule route address")?;
    let (_nft, told) = monitor(&stage, "nft.log", "nft monitor")?;
    let last = &stage.pods[stage.pods.len() - 1];
    let element = format!("nft delete element ip weir eni {{ {} }}", last.address);
    // Both listen once they tell of what others do.
    let listening = eventually("the monitors listen", async || {
        run(stage.host(), "ip rule add priority 30000 lookup 999")?;
        run(stage.host(), "ip rule del priority 30000")?;
        run(stage.host(), "nft add table ip other")?;
        run(stage.host(), "nft delete table ip other")?;
        Ok((!lines(&heard)?.is_empty() && !lines(&told)?.is_empty()).then_some(()))
    });
    listening.await?;
    stage.survives("rule", "ip rule del priority 1024").await?;
    stage
        .survives("route", "ip route del default table 2")
        .await?;
    stage.survives("nftables", &element).await?;
    // One more look, which has nothing to do.
    run(
        stage.host(),
        &format!("ip link set {} alias looked-at", stage.second),
    )?;
    tokio::time::sleep(WITHIN).await;

    let of_others = |line: &String| !(line.contains("30000") || line.contains("other"));
    let heard: Vec<_> = lines(&heard)?.into_iter().filter(of_others).collect();
    let second = &stage.second;
    let rule = "1024: from all fwmark 0x80/0x80 lookup main proto 87".to_owned();
    let ip = |line: &String| line.replace('\t', " ").trim().to_owned();
    let heard: Vec<_> = heard.iter().map(ip).collect();
    ensure!(
        heard.len() == 4
            && heard[0] == format!("Deleted {rule}")
            && heard[1] == rule
            && heard[2].starts_with("Deleted default via")
            && heard[3].starts_with("default via")
            && heard[2..].iter().all(|line| line.contains(second)),
        "{heard:#?}"
    );
    let told: Vec<_> = lines(&told)?.into_iter().filter(of_others).collect();
    let told: Vec<_> = told.iter().filter(|line| !line.starts_with('#')).collect();
    let address = last.address.to_string();
    ensure!(
        told.len() == 2
            && told[0].starts_with("delete element ip weir eni")
            && told[1].starts_with("add element ip weir eni")
            && told.iter().all(|line| line.contains(&address)),
        "{told:#?}"
    );
    Ok(())
}

async fn churn() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a")
        .with("WARM_IP_TARGET", 1)
        .with("IP_COOLDOWN_PERIOD", 1);
    a.start_ipamd().await?;
    let begin = Instant::now();
    for round in 0.. {
        let names: Vec<_> = (0..6).map(|n| format!("{round}-{n}")).collect();
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let pods: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(|| come_and_go(&lab, &a, name)))
                .collect();
            for pod in pods {
                pod.join()
                    .map_err(|_| anyhow::anyhow!("a pod's thread panicked"))??;
            }
            Ok(())
        })?;
        if begin.elapsed() > Duration::from_secs(8) {
            break;
        }
    }
    let pool = a.pool().await?;
    ensure!(pool.enis.len() > 1, "no ENI came: {pool:#?}");
    // A plugin that a busy machine stops for long in the middle of its work looks like one whose work was undone.
    let ours: Vec<_> = pool.repairs.iter().filter(|it| it.kind != "pod").collect();
    ensure!(ours.is_empty(), "{ours:#?}\n{}", a.log_tail());
    Ok(())
}

fn come_and_go(lab: &Lab, node: &Node<'_>, name: &str) -> anyhow::Result<()> {
    let netns = lab.pod_netns(&format!("churn-{name}"))?;
    let sandbox = node.sandbox(&format!("churn-{name}"), name, netns.path());
    sandbox.add()?.result()?;
    let del = sandbox.del()?;
    ensure!(del.code == Some(0), "{}", del.stderr);
    Ok(())
}

async fn restraint() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let stage = Stage::set(&lab, &a).await?;
    let begin = Instant::now();
    let fight = Duration::from_secs(25);
    while begin.elapsed() < fight {
        // Fails while it is gone.
        drop(run(stage.host(), "ip rule del priority 1024"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let repairs = stage.repairs("rule").await?;
    ensure!(
        (8..=14).contains(&repairs),
        "ten in a row, and then one in ten seconds: {repairs}"
    );
    let log = stage.log()?;
    ensure!(log.contains("again and again"), "{log}");
    Ok(())
}
