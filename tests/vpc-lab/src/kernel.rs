//! The thread that makes the kernel what EC2 says. It lives in the namespace of the VPC.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use aws_sim::Sim;

use crate::fabric::{Desired, Surroundings, plan, steps};
use crate::netns::Netns;
use crate::places::{
    EC2, IMDS, INTERNET, INTERNET_GATEWAY, INTERNET_HOST, INTERNET_MTU, MTU, NOWHERE, PEER,
    PEER_GATEWAY, PEER_HOST, PEER_NETWORK,
};
use crate::{Drops, Endpoint, fabric};

/// How long one round of `ip` and `nft` may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the thread is told.
enum Order {
    /// EC2 changed.
    Look,
    /// Whether a node is cut off from an endpoint.
    Cut(String, Endpoint, bool),
    /// The links' lag.
    LinkLag(Duration),
    /// Say when the kernel is as EC2 says, and whether anything failed on the way.
    Report(mpsc::SyncSender<Result<(), String>>),
    /// Say what was dropped.
    Drops(mpsc::SyncSender<anyhow::Result<Drops>>),
}

/// A handle on the thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Kernel {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the thread when EC2 changes.
#[derive(Debug, Clone)]
pub(crate) struct Bell(mpsc::Sender<Order>);

impl Bell {
    /// Returns whether the thread is still there.
    pub(crate) fn ring(&self) -> bool {
        self.0.send(Order::Look).is_ok()
    }
}

impl Kernel {
    /// Starts the thread in the namespace of the VPC.
    pub(crate) fn start(vpc: &Netns, sim: Sim, around: Surroundings) -> anyhow::Result<Kernel> {
        let (orders, inbox) = mpsc::channel();
        let thread = vpc.lasting_thread("vpc", move || {
            Worker {
                sim,
                around,
                current: Desired::default(),
                failures: BTreeSet::new(),
            }
            .work(&inbox);
        })?;
        Ok(Kernel {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// What to ring when EC2 changes.
    pub(crate) fn bell(&self) -> anyhow::Result<Bell> {
        Ok(Bell(self.orders()?.clone()))
    }

    /// Waits until the kernel is as EC2 says now.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        self.ask(Order::Report)?
            .map_err(|failures| anyhow!(failures))
    }

    /// Cuts or restores, and waits until it is done.
    pub(crate) fn cut(&self, node: &str, endpoint: Endpoint, cut: bool) -> anyhow::Result<()> {
        self.tell(Order::Cut(node.to_owned(), endpoint, cut))?;
        self.settle()
    }

    /// From now on links appear this late.
    pub(crate) fn set_link_lag(&self, lag: Duration) -> anyhow::Result<()> {
        self.tell(Order::LinkLag(lag))
    }

    /// What was dropped so far.
    pub(crate) fn drops(&self) -> anyhow::Result<Drops> {
        self.ask(Order::Drops)?
    }

    fn orders(&self) -> anyhow::Result<&mpsc::Sender<Order>> {
        self.orders.as_ref().context("the lab is being taken down")
    }

    fn tell(&self, order: Order) -> anyhow::Result<()> {
        self.orders()?
            .send(order)
            .map_err(|_| anyhow!("the thread of the VPC has died"))
    }

    fn ask<R>(&self, order: fn(mpsc::SyncSender<R>) -> Order) -> anyhow::Result<R> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.tell(order(reply))?;
        answer
            .recv_timeout(PATIENCE)
            .context("the thread of the VPC does not answer")
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // The bell's sender goes with the runtime, before this; then the thread finds its inbox closed.
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the VPC panicked");
        }
    }
}

struct Worker {
    sim: Sim,
    around: Surroundings,
    current: Desired,
    /// Since the last report.
    failures: BTreeSet<String>,
}

impl Worker {
    fn work(mut self, inbox: &mpsc::Receiver<Order>) {
        loop {
            // A day is as good as for ever.
            let wait = self
                .current
                .wake_at
                .map_or(Duration::from_secs(86_400), |due| {
                    due.since(self.sim.now()) + Duration::from_millis(1)
                });
            let order = match inbox.recv_timeout(wait) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => Order::Look,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match order {
                Order::Look => self.look(),
                Order::LinkLag(lag) => {
                    self.around.link_lag = lag;
                    self.look();
                }
                Order::Cut(node, endpoint, true) => {
                    self.around.cuts.insert((node, endpoint));
                }
                Order::Cut(node, endpoint, false) => {
                    self.around.cuts.remove(&(node, endpoint));
                }
                Order::Report(reply) => {
                    self.look();
                    let failures = std::mem::take(&mut self.failures);
                    let all = Vec::from_iter(failures).join("; ");
                    // Who asked may have lost patience.
                    drop(reply.send(if all.is_empty() { Ok(()) } else { Err(all) }));
                }
                Order::Drops(reply) => drop(reply.send(drops())),
            }
        }
    }

    /// Makes the kernel what it must be now.
    fn look(&mut self) {
        let desired = plan(&self.sim.fabric(), self.sim.now(), &self.around);
        if desired == self.current {
            return;
        }
        let steps = steps(&self.current, &desired);
        self.note(ip_batch(None, &steps.vpc));
        for end in &steps.new_ends {
            self.note(answer_arp_at_once(end));
        }
        for (node, batch) in &steps.nodes {
            self.note(ip_batch(Some(node), batch));
        }
        if desired.ruleset != self.current.ruleset {
            self.note(nft(&desired.ruleset));
        }
        self.current = desired;
    }

    fn note(&mut self, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            let error = format!("{error:#}");
            tracing::error!(error, "the kernel is not what EC2 says");
            self.failures.insert(error);
        }
    }
}

/// Lays the ground: the VPC's own addresses, its links to the internet, the peered network and nowhere.
pub(crate) fn lay_out(
    vpc: &Netns,
    internet: &Netns,
    peer: &Netns,
    ipv6: bool,
) -> anyhow::Result<()> {
    let (internet_ns, peer_ns) = (internet.name(), peer.name());
    let peer_length = PEER_NETWORK.prefix_len();
    vpc.run(|| -> anyhow::Result<()> {
        for (key, value) in [
            ("conf/all/forwarding", "1"),
            ("conf/default/forwarding", "1"),
            ("conf/all/rp_filter", "0"),
            ("conf/default/rp_filter", "0"),
            ("conf/all/send_redirects", "0"),
            ("conf/default/send_redirects", "0"),
            ("conf/default/proxy_arp", "1"),
            ("conf/all/arp_ignore", "0"),
        ] {
            sysctl(key, value)?;
        }
        ipv6_router(ipv6)?;
        ip_batch(
            None,
            &format!(
                "addr add {IMDS}/32 dev lo
addr add {EC2}/32 dev lo
link add {NOWHERE} mtu {MTU} type veth peer name {NOWHERE}-end mtu {MTU}
link set {NOWHERE}-end up
link set {NOWHERE} up
link add {INTERNET} mtu {INTERNET_MTU} type veth peer name eth0 netns {internet_ns} mtu {INTERNET_MTU}
addr add {INTERNET_GATEWAY}/24 dev {INTERNET}
link set {INTERNET} up
route add default via {INTERNET_HOST} dev {INTERNET}
link add {PEER} mtu {MTU} type veth peer name eth0 netns {peer_ns} mtu {MTU}
addr add {PEER_GATEWAY}/{peer_length} dev {PEER}
link set {PEER} up
"
            ),
        )?;
        for link in [INTERNET, PEER] {
            sysctl(&format!("conf/{link}/proxy_arp"), "0")?;
        }
        Ok(())
    })?;
    host(
        internet,
        &format!("{INTERNET_HOST}/24"),
        &INTERNET_GATEWAY.to_string(),
    )?;
    host(
        peer,
        &format!("{PEER_HOST}/{peer_length}"),
        &PEER_GATEWAY.to_string(),
    )
}

/// The links have the IPv6 addresses that they are given, and no others; or no IPv6 at all.
fn ipv6_router(ipv6: bool) -> anyhow::Result<()> {
    let set = |key: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{key}");
        fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
    };
    if !ipv6 {
        // Not there in a kernel without IPv6.
        drop(set("default/disable_ipv6", "1"));
        return Ok(());
    }
    const NO_LINK_LOCAL: &str = "1";
    for (key, value) in [
        ("default/addr_gen_mode", NO_LINK_LOCAL),
        ("all/forwarding", "1"),
        ("default/forwarding", "1"),
    ] {
        set(key, value)?;
    }
    Ok(())
}

fn host(netns: &Netns, address: &str, gateway: &str) -> anyhow::Result<()> {
    let batch = format!(
        "addr add {address} dev eth0\nlink set eth0 up\nroute add default via {gateway} dev eth0\n"
    );
    ip_batch(Some(netns.name()), &batch)
}

/// Sets what an operating system sets before the network comes, whatever the machine below has.
pub(crate) fn boot(node: &Netns, rp_filter: &str) -> anyhow::Result<()> {
    node.run(|| {
        for (key, value) in [
            ("conf/all/forwarding", "0"),
            ("conf/default/forwarding", "0"),
            ("conf/all/rp_filter", "0"),
            ("conf/default/rp_filter", rp_filter),
        ] {
            sysctl(key, value)?;
        }
        Ok(())
    })
}

/// Sets `net.ipv4.KEY` of the namespace that the thread is in.
fn sysctl(key: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/ipv4/{key}");
    fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
}

/// Proxied ARP replies are held back up to 0.8 s by default (`proxy_delay`, arp(7)).
fn answer_arp_at_once(link: &str) -> anyhow::Result<()> {
    sysctl(&format!("neigh/{link}/proxy_delay"), "0")
}

/// Runs lines through one `ip`, in the namespace that the thread is in or in another one. Goes on after a line that
/// fails, and fails at the end with all that `ip` said.
fn ip_batch(netns: Option<&str>, lines: &str) -> anyhow::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("ip");
    if let Some(name) = netns {
        command.args(["-netns", name]);
    }
    feed(command.args(["-force", "-batch", "-"]), lines).map(drop)
}

fn nft(ruleset: &str) -> anyhow::Result<()> {
    feed(Command::new("nft").args(["-f", "-"]), ruleset).map(drop)
}

fn drops() -> anyhow::Result<Drops> {
    let listing = feed(Command::new("nft").args(fabric::COUNTERS), "")?;
    Ok(fabric::read_drops(&listing)?)
}

/// Runs a command with `input`, and returns its output.
fn feed(command: &mut Command, input: &str) -> anyhow::Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {program} (is it installed?)"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let output = thread::scope(|scope| {
        // From a thread of its own, so that neither side waits for the other with a full pipe.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{program} failed ({}): {} on\n{input}",
            output.status,
            said.trim()
        );
    }
    Ok(output.stdout)
}
