//! One node on a small VPC, in namespaces of its own.
//!
//! ```text
//! node: eth0 10.0.0.10 ── r0 10.0.0.1 ┐
//!       eth1 10.0.1.10 ── r1 10.0.1.1 ├ vpc ── vpc host 10.0.2.20
//!                                     └     ── internet 198.51.100.7
//! ```
//!
//! As EC2 does, the VPC delivers a pod's address to the MAC of its ENI, and drops what an ENI sends from an
//! address that it does not hold: 10.0.0.0/24 is the first's, 10.0.1.0/24 the second's.

use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use datapath::layout::VethPrefix;
use datapath::pod::{PodLink, PodWiring};
use datapath::{EniPlan, EniSlots, Host, Mac, NetNs, NodePlan, Place, Snat, SourcePorts};
use ipnet::IpNet;
use serde_json::Value;

pub(crate) const MTU: u32 = 9001;
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
pub(crate) const VPC_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 20);
pub(crate) const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(crate) const NODE_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x10);
pub(crate) const VPC_HOST_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 0x20);
/// Of the primary ENI.
pub(crate) const PREFIX_6: &str = "2001:db8:0:1:a::/80";
/// Of the secondary ENI.
pub(crate) const SECOND_PREFIX_6: &str = "2001:db8:0:1:b::/80";
const ETH0: &str = "02:00:00:00:00:10";
const ETH1: &str = "02:00:00:00:00:11";
/// How long packets and changes are waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel's state of one namespace, as text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State(String);

impl State {
    /// Fails with the lines that came and went.
    pub(crate) fn ensure_same(&self, before: &Self, what: &str) -> Result<()> {
        let lines = |one: &Self, other: &Self, sign| -> String {
            let other: Vec<_> = other.0.lines().collect();
            let only = one.0.lines().filter(|line| !other.contains(line));
            only.map(|line| format!("{sign} {line}\n")).collect()
        };
        let (came, went) = (lines(self, before, '+'), lines(before, self, '-'));
        ensure!(self == before, "{what}:\n{went}{came}");
        Ok(())
    }
}

/// A network namespace, gone with the value.
#[derive(Debug)]
pub(crate) struct Ns(String);

impl Ns {
    pub(crate) fn new(role: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{role}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name])?;
        let ns = Self(name);
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// Runs `ip` in the namespace.
    pub(crate) fn ip(&self, arguments: &str) -> Result<String> {
        let mut all = vec!["-n", &self.0];
        all.extend(arguments.split_whitespace());
        run("ip", &all)
    }

    /// What `ip -j` shows.
    pub(crate) fn ip_json(&self, arguments: &str) -> Result<Vec<Value>> {
        let text = self.ip(&format!("-j {arguments}"))?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let mut list: Vec<Value> = serde_json::from_str(&text)?;
        // What a filter left out is shown as an empty object.
        list.retain(|item| item.as_object().is_none_or(|item| !item.is_empty()));
        Ok(list)
    }

    /// Runs `nft` in the namespace.
    pub(crate) fn nft(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["netns", "exec", &self.0, "nft"];
        all.extend(arguments);
        run("ip", &all)
    }

    /// Sets a file under /proc/sys/net.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.inside(|| Ok(std::fs::write(format!("/proc/sys/net/{key}"), value)?))
    }

    pub(crate) fn read_sysctl(&self, key: &str) -> Result<String> {
        self.inside(|| {
            Ok(std::fs::read_to_string(format!("/proc/sys/net/{key}"))?
                .trim()
                .into())
        })
    }

    /// Runs `work` on a thread in the namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread in {} panicked", self.0))?
        })
    }

    /// Runs async `work` on a thread in the namespace.
    pub(crate) fn block_on<T: Send, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        self.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(work())
        })
    }

    fn enter(&self) -> Result<()> {
        let file = File::open(self.path())?;
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        Ok(rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            kind,
        )?)
    }

    /// What the kernel has, for comparing. Of links only what is set: carriers come and go later.
    pub(crate) fn state(&self) -> Result<State> {
        let mut state = String::new();
        for link in self.ip_json("link show")? {
            state.push_str(&format!(
                "{} {} {}\n",
                link["ifname"], link["mtu"], link["address"]
            ));
        }
        for what in [
            "-o -4 addr",
            "-4 rule",
            "-6 rule",
            "-4 route show table all",
            // The kernel's own come and go with links and carriers.
            "-6 route show table all proto 87",
            "neigh show nud permanent",
        ] {
            state.push_str(&self.ip(what)?);
        }
        state.push_str(&self.nft(&["-a", "list", "ruleset"])?);
        Ok(State(state))
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "delete", &self.0]) {
            eprintln!("namespace {} is left behind: {error:#}", self.0);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .context("running a tool")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), error.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes /proc/sys read-only for the calling thread and those that it starts.
pub(crate) fn make_settings_read_only() -> Result<()> {
    #[expect(
        unsafe_code,
        reason = "rustix marks unshare unsafe for the sake of CLONE_FILES"
    )]
    // SAFETY: file descriptors stay shared; a mount namespace does not touch memory.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    run("mount", &["--bind", "/proc/sys", "/proc/sys"])?;
    run("mount", &["-o", "remount,bind,ro", "/proc/sys"]).map(drop)
}

/// The node and what is around it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) node: Ns,
    pub(crate) vpc: Ns,
    pub(crate) vpc_host: Ns,
    pub(crate) internet: Ns,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let world = Self {
            node: Ns::new("node")?,
            vpc: Ns::new("vpc")?,
            vpc_host: Ns::new("host")?,
            internet: Ns::new("internet")?,
        };
        let Self {
            node,
            vpc,
            vpc_host,
            internet,
        } = &world;
        vpc.sysctl("ipv4/ip_forward", "1")?;
        // The strictest node there is: what works here works with looser settings too.
        node.sysctl("ipv4/conf/all/rp_filter", "1")?;
        node.sysctl("ipv4/conf/default/rp_filter", "1")?;

        cable(vpc, "r0", "10.0.0.1/24", node, "eth0", ETH0)?;
        cable(vpc, "r1", "10.0.1.1/24", node, "eth1", ETH1)?;
        cable(
            vpc,
            "r2",
            "10.0.2.1/24",
            vpc_host,
            "eth0",
            "02:00:00:00:02:20",
        )?;
        cable(
            vpc,
            "r3",
            "198.51.100.1/24",
            internet,
            "eth0",
            "02:00:00:00:64:07",
        )?;
        for (place, address, router) in [
            (node, NODE, "10.0.0.1"),
            (vpc_host, VPC_HOST, "10.0.2.1"),
            (internet, INTERNET, "198.51.100.1"),
        ] {
            place.ip(&format!("addr add {address}/24 dev eth0"))?;
            // Link-local addresses are usable with the link. What ipamd sets up must see to that itself.
            place.sysctl("ipv6/conf/eth0/accept_dad", "0")?;
            place.ip("link set eth0 up")?;
            place.ip(&format!("route add default via {router}"))?;
        }
        vpc.nft(&["add table ip vpc; \
             add chain ip vpc forward { type filter hook forward priority 0; }; \
             add rule ip vpc forward iifname r0 ip saddr != 10.0.0.0/24 drop; \
             add rule ip vpc forward iifname r1 ip saddr != 10.0.1.0/24 drop; \
             add rule ip vpc forward iifname { r0, r1 } oifname r3 ip saddr != 10.0.0.10 drop"])?;
        Ok(world)
    }

    /// A world whose node is ready for pods, on both ENIs.
    pub(crate) fn ready() -> Result<Self> {
        let world = Self::new()?;
        world.prepare(&world.plan())?;
        world.set_up_eni(&eni_plan())?;
        Ok(world)
    }

    /// A ready node in a VPC that has IPv6 too: 2001:db8:0:1::/64 is the subnet of both ENIs, and as on EC2 the node's
    /// own address came by DHCP, and its way out by router advertisement.
    pub(crate) fn dual() -> Result<Self> {
        let world = Self::new()?;
        let Self {
            node,
            vpc,
            vpc_host,
            ..
        } = &world;
        vpc.sysctl("ipv6/conf/all/forwarding", "1")?;
        for (place, end, address) in [(node, "r0", NODE_6), (vpc_host, "r2", VPC_HOST_6)] {
            vpc.ip(&format!("addr add fe80:ec2::1/64 dev {end} nodad"))?;
            vpc.ip(&format!("route add {address} dev {end}"))?;
            place.ip(&format!("addr add {address}/128 dev eth0 nodad"))?;
            place.ip("-6 route add default via fe80:ec2::1 dev eth0 proto ra")?;
        }
        vpc.ip("addr add fe80:ec2::1/64 dev r1 nodad")?;
        for (prefix, end, mac) in [(PREFIX_6, "r0", ETH0), (SECOND_PREFIX_6, "r1", ETH1)] {
            vpc.ip(&format!(
                "neigh add fe80::9 lladdr {mac} dev {end} nud permanent"
            ))?;
            vpc.ip(&format!("route add {prefix} via fe80::9 dev {end}"))?;
        }
        vpc.nft(&[&format!(
            "add table ip6 vpc; \
             add chain ip6 vpc forward {{ type filter hook forward priority 0; }}; \
             add rule ip6 vpc forward iifname r0 ip6 saddr != {{ {NODE_6}, {PREFIX_6} }} drop; \
             add rule ip6 vpc forward iifname r1 ip6 saddr != {SECOND_PREFIX_6} drop"
        )])?;
        world.prepare(&NodePlan {
            ipv6: true,
            ..world.plan()
        })?;
        world.set_up_eni(&EniPlan {
            ipv6: true,
            ..eni_plan()
        })?;
        world.hold(0, &[PREFIX_6])?;
        world.hold(1, &[SECOND_PREFIX_6])?;
        Ok(world)
    }

    pub(crate) fn plan(&self) -> NodePlan {
        NodePlan {
            primary_mac: mac(ETH0),
            primary_address: NODE,
            primary_mtu: MTU,
            vpc_cidrs: vec!["10.0.0.0/16".parse().expect("a CIDR")],
            snat: Snat::Node(SourcePorts::FullyRandom),
            external_services: Vec::new(),
            tcp_early_demux: None,
            ipv6: false,
            held: Vec::new(),
        }
    }

    pub(crate) fn prepare(&self, plan: &NodePlan) -> Result<()> {
        self.node
            .block_on(|| async { Ok(Host::open()?.prepare(plan).await?) })
    }

    pub(crate) fn set_up_eni(&self, plan: &EniPlan) -> Result<()> {
        self.node
            .block_on(|| async { Ok(Host::open()?.set_up_eni(plan, PATIENCE).await?) })
    }

    /// On card 0.
    pub(crate) fn hold(&self, device_index: u32, held: &[impl Slot]) -> Result<()> {
        self.hold_at(Place::first_card(device_index), held)
    }

    pub(crate) fn hold_at(&self, place: Place, held: &[impl Slot]) -> Result<()> {
        let slots: Vec<IpNet> = held.iter().map(Slot::net).collect();
        self.node
            .block_on(|| async { Ok(Host::open()?.hold(place, &slots).await?) })
    }

    /// On card 0.
    pub(crate) fn release(&self, device_index: u32, held: &[impl Slot]) -> Result<()> {
        self.release_at(Place::first_card(device_index), held)
    }

    pub(crate) fn release_at(&self, place: Place, held: &[impl Slot]) -> Result<()> {
        let slots: Vec<IpNet> = held.iter().map(Slot::net).collect();
        self.node
            .block_on(|| async { Ok(Host::open()?.release(place, &slots).await?) })
    }

    /// Gives the ENI an address, as ipamd does, and a pod this address, as the plugin does.
    pub(crate) fn pod(&self, device_index: u32, address: Ipv4Addr) -> Result<Pod> {
        self.deliver(device_index, address)?;
        self.hold(device_index, &[address])?;
        self.bare_pod(link(&format!("container-{address}"), address))
    }

    /// A pod without anything on the node prepared for it.
    pub(crate) fn bare_pod(&self, link: PodLink) -> Result<Pod> {
        let ns = Ns::new("pod")?;
        let wiring = self.connect(&ns, &link)?;
        Ok(Pod { ns, link, wiring })
    }

    pub(crate) fn connect(&self, pod: &Ns, link: &PodLink) -> Result<PodWiring> {
        self.node.block_on(|| async {
            Ok(datapath::pod::connect(&NetNs::open(pod.path())?, link).await?)
        })
    }

    pub(crate) fn disconnect(&self, link: &PodLink) -> Result<bool> {
        self.node.block_on(|| async {
            Ok(
                datapath::pod::disconnect(&link.veth_prefix, &link.container_id, &link.ifname)
                    .await?,
            )
        })
    }

    /// Makes the VPC deliver an address to an ENI.
    pub(crate) fn deliver(&self, device_index: u32, address: Ipv4Addr) -> Result<()> {
        let (link, mac) = if device_index == 0 {
            ("r0", ETH0)
        } else {
            ("r1", ETH1)
        };
        let command = format!("neigh replace {address} lladdr {mac} dev {link} nud permanent");
        self.vpc.ip(&command).map(drop)
    }

    /// The links of ours on the node.
    pub(crate) fn pod_links(&self) -> Result<Vec<Value>> {
        self.node.ip_json(&format!(
            "-d link show group {}",
            datapath::layout::LINK_GROUP
        ))
    }
}

/// A pod of the node.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) ns: Ns,
    pub(crate) link: PodLink,
    pub(crate) wiring: PodWiring,
}

pub(crate) fn link(container_id: &str, address: impl Into<IpAddr>) -> PodLink {
    PodLink {
        container_id: container_id.into(),
        ifname: "eth0".into(),
        veth_prefix: VethPrefix::default(),
        alias: "shop/web-0".into(),
        addresses: vec![address.into()],
        mtu: MTU,
    }
}

pub(crate) fn eni_plan() -> EniPlan {
    EniPlan {
        mac: mac(ETH1),
        place: Place::first_card(1),
        primary_address: SECOND,
        subnet: "10.0.1.0/24".parse().expect("a CIDR"),
        mtu: MTU,
        ipv6: false,
    }
}

pub(crate) fn held(device_index: u32, held: &[impl Slot]) -> EniSlots {
    EniSlots {
        place: Place::first_card(device_index),
        slots: held.iter().map(Slot::net).collect(),
    }
}

/// What an ENI holds: an address, or a prefix as text.
pub(crate) trait Slot {
    fn net(&self) -> IpNet;
}

impl Slot for Ipv4Addr {
    fn net(&self) -> IpNet {
        IpAddr::V4(*self).into()
    }
}

impl Slot for &str {
    fn net(&self) -> IpNet {
        self.parse().expect("a prefix")
    }
}

pub(crate) fn mac(text: &str) -> Mac {
    text.parse().expect("a MAC")
}

/// A veth between the VPC and a place; the place's end is left down and without address.
fn cable(vpc: &Ns, end: &str, address: &str, place: &Ns, link: &str, mac: &str) -> Result<()> {
    vpc.ip(&format!(
        "link add {end} mtu {MTU} type veth peer name {link} address {mac} mtu {MTU} netns {}",
        place.0
    ))?;
    vpc.ip(&format!("addr add {address} dev {end}"))?;
    vpc.ip(&format!("link set {end} up")).map(drop)
}

/// A server in a namespace that tells each client the address that it sees. Stops with the value.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How often a server looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);

impl Echo {
    /// Answers datagrams with the sender's address.
    pub(crate) fn udp(ns: &Ns, address: impl Into<IpAddr>) -> Result<Self> {
        let address = address.into();
        let socket = ns.inside(|| Ok(UdpSocket::bind((address, 0))?))?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        Ok(Self::serve(address, move || {
            let mut buffer = [0; 65536];
            if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                // The client asks again if this is lost.
                drop(socket.send_to(peer.to_string().as_bytes(), peer));
            }
        }))
    }

    /// Accepts connections and writes the client's address to each.
    pub(crate) fn tcp(ns: &Ns, address: impl Into<IpAddr>) -> Result<Self> {
        let address = address.into();
        let listener = ns.inside(|| Ok(TcpListener::bind((address, 0))?))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self::serve(address, move || match listener.accept() {
            Ok((mut stream, peer)) => drop(stream.write_all(peer.to_string().as_bytes())),
            Err(_) => std::thread::sleep(TICK),
        }))
    }

    fn serve(address: SocketAddr, mut once: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                once();
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Sends datagrams until one is answered, and returns the source address that the server saw.
pub(crate) fn ask_udp(from: &Ns, to: SocketAddr) -> Result<IpAddr> {
    ask_udp_with(from, to, b"hello")
}

pub(crate) fn ask_udp_with(from: &Ns, to: SocketAddr, payload: &[u8]) -> Result<IpAddr> {
    from.inside(|| {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < PATIENCE {
            let mut buffer = [0; 100];
            match socket.send(payload).and_then(|_| socket.recv(&mut buffer)) {
                Ok(size) => return seen(&buffer[..size]),
                Err(error) => last = Some(error),
            }
        }
        bail!("no answer from {to} within {PATIENCE:?}; last: {last:?}")
    })
}

/// Connects, and returns the source address that the server saw.
pub(crate) fn ask_tcp(from: &Ns, to: SocketAddr) -> Result<IpAddr> {
    from.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)
            .with_context(|| format!("connecting to {to}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        seen(&answer)
    })
}

fn seen(answer: &[u8]) -> Result<IpAddr> {
    Ok(std::str::from_utf8(answer)?.parse::<SocketAddr>()?.ip())
}

/// Tries to connect and returns the error that comes back.
pub(crate) fn refused(from: &Ns, to: SocketAddr) -> Result<ErrorKind> {
    from.inside(|| match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(_) => bail!("{to} answered"),
        Err(error) => Ok(error.kind()),
    })
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !condition()? {
        ensure!(
            begin.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(TICK);
    }
    Ok(())
}
