//! The link of one pod.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use datapath::layout::{LINK_GROUP, PODS_TABLE, host_veth_name};
use datapath::pod::{NewLink, PodError, PodLink, Sides};
use datapath::{NetNs, NetNsError};
use serde_json::Value;

use crate::Test;
use crate::world::{MTU, Ns, World, eventually, link};

pub(crate) const TESTS: &[Test] = &[
    ("a pod's link is made as it is to be, on both sides", made),
    (
        "nothing is left of a pod after its DEL",
        gone_after_disconnect,
    ),
    (
        "nothing is left of a pod whose namespace goes without a DEL",
        gone_with_the_namespace,
    ),
    (
        "an interface that exists already is an error, and nothing changes",
        interface_exists,
    ),
    (
        "the link that an earlier sandbox of the same id left is replaced",
        leftover_is_replaced,
    ),
    ("a failure at any step leaves nothing", rolled_back),
    (
        "a failure on the host's side leaves nothing",
        rolled_back_on_the_host,
    ),
    (
        "an address that no pod can have is refused before anything is made",
        bad_addresses,
    ),
    ("a long alias is cut at a whole character", long_alias),
    (
        "a path that is no other network namespace is refused, and the error says why",
        not_a_netns,
    ),
    ("two addresses on one link both work", two_addresses),
    (
        "a link gets its pod's MTU also if it was made with another",
        another_mtu,
    ),
    (
        "a link that is too small for IPv6 is made for IPv4",
        too_small_for_ipv6,
    ),
    (
        "a link is found while it stands whole, and only then",
        found,
    ),
];

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

fn made() -> Result<()> {
    let world = World::new()?;
    let pod = world.bare_pod(link("c1", ADDRESS))?;
    let wiring = &pod.wiring;
    ensure!(wiring.host_veth == host_veth_name("c1", "eth0") && wiring.host_veth.len() == 15);

    // The kernel tells of a new link's carrier from a work queue.
    eventually("both ends are operational", || {
        let ends = [
            only(world.pod_links()?)?,
            only(pod.ns.ip_json("link show dev eth0")?)?,
        ];
        Ok(ends.iter().all(|end| end["operstate"] == "UP"))
    })?;
    let host = only(world.pod_links()?)?;
    ensure!(host["ifname"] == wiring.host_veth, "{host}");
    ensure!(host["address"] == wiring.host_mac.to_string(), "{host}");
    ensure!(host["mtu"] == MTU, "{host}");
    ensure!(host["ifalias"] == "shop/web-0", "{host}");
    ensure!(
        host["group"].as_str() == Some(LINK_GROUP.to_string().as_str()),
        "{host}"
    );
    ensure!(host["inet6_addr_gen_mode"] == "none", "{host}");

    let inside = only(pod.ns.ip_json("-d link show dev eth0")?)?;
    ensure!(inside["address"] == wiring.pod_mac.to_string(), "{inside}");
    ensure!(inside["mtu"] == MTU, "{inside}");
    ensure!(inside["inet6_addr_gen_mode"] == "none", "{inside}");
    ensure!(wiring.host_mac != wiring.pod_mac);
    for (ns, name) in [(&world.node, wiring.host_veth.as_str()), (&pod.ns, "eth0")] {
        ensure!(
            ns.ip(&format!("-6 addr show dev {name}"))?.is_empty(),
            "IPv6 on {name}"
        );
    }
    let accept_ra = format!("ipv6/conf/{}/accept_ra", wiring.host_veth);
    ensure!(world.node.read_sysctl(&accept_ra)? == "0");
    let multicast = format!("-6 route show table local dev {}", wiring.host_veth);
    ensure!(world.node.ip(&multicast)?.is_empty());

    let address = pod.ns.ip("-o -4 addr show dev eth0")?;
    ensure!(address.contains("10.0.0.50/32 scope global"), "{address}");
    let routes = pod.ns.ip("route")?;
    ensure!(
        routes.contains("default via 169.254.1.1 dev eth0"),
        "{routes}"
    );
    ensure!(
        routes.contains("169.254.1.1 dev eth0 proto 87 scope link"),
        "{routes}"
    );
    let neighbours = pod.ns.ip("neigh show dev eth0")?;
    let gateway = format!("169.254.1.1 lladdr {} PERMANENT", wiring.host_mac);
    ensure!(neighbours.trim() == gateway, "{neighbours}");

    let routes = world.node.ip(&format!("route show table {PODS_TABLE}"))?;
    let route = format!("10.0.0.50 dev {} proto 87 scope link", wiring.host_veth);
    ensure!(routes.trim() == route, "{routes}");
    let neighbours = world
        .node
        .ip(&format!("neigh show dev {}", wiring.host_veth))?;
    let pod_mac = format!("10.0.0.50 lladdr {} PERMANENT", wiring.pod_mac);
    ensure!(neighbours.trim() == pod_mac, "{neighbours}");
    Ok(())
}

fn gone_after_disconnect() -> Result<()> {
    let world = World::ready()?;
    world.hold(1, &[Ipv4Addr::new(10, 0, 1, 50)])?;
    let before = world.node.state()?;
    let pod = world.bare_pod(link("c1", Ipv4Addr::new(10, 0, 1, 50)))?;
    ensure!(world.node.state()? != before);
    ensure!(world.disconnect(&pod.link)?, "there was a link");
    world
        .node
        .state()?
        .ensure_same(&before, "left on the node")?;
    ensure!(
        pod.ns.ip_json("link show")?.len() == 1,
        "the pod still has a link"
    );
    ensure!(!world.disconnect(&pod.link)?, "a second DEL finds nothing");
    Ok(())
}

fn gone_with_the_namespace() -> Result<()> {
    let world = World::ready()?;
    let before = world.node.state()?;
    let pod = world.bare_pod(link("c1", ADDRESS))?;
    ensure!(world.node.state()? != before);
    let link = pod.link.clone();
    drop(pod);
    eventually(
        "the node is as before",
        || Ok(world.node.state()? == before),
    )?;
    ensure!(!world.disconnect(&link)?);
    Ok(())
}

fn interface_exists() -> Result<()> {
    let world = World::new()?;
    let pod = world.bare_pod(link("c1", ADDRESS))?;
    let before = (world.node.state()?, pod.ns.state()?);
    // The same sandbox again, and another id for the same namespace.
    for id in ["c1", "c2"] {
        let error = pod_error(world.connect(&pod.ns, &link(id, Ipv4Addr::new(10, 0, 0, 51))))?;
        ensure!(
            matches!(&error, PodError::InterfaceExists(name) if name == "eth0"),
            "{error}"
        );
        world
            .node
            .state()?
            .ensure_same(&before.0, "changed on the node")?;
        pod.ns
            .state()?
            .ensure_same(&before.1, "changed in the pod")?;
    }
    Ok(())
}

/// amazon-vpc-cni-k8s#1374, projectcalico/calico#10375: only what bears this sandbox's own name is replaced.
fn leftover_is_replaced() -> Result<()> {
    let world = World::new()?;
    let old = world.bare_pod(link("c1", ADDRESS))?;
    let new = world.bare_pod(link("c1", Ipv4Addr::new(10, 0, 0, 51)))?;
    ensure!(
        old.ns.ip_json("link show")?.len() == 1,
        "the old end is still there"
    );
    ensure!(new.ns.ip("route")?.contains("default via 169.254.1.1"));
    let routes = world.node.ip(&format!("route show table {PODS_TABLE}"))?;
    ensure!(
        routes.starts_with("10.0.0.51 dev") && routes.lines().count() == 1,
        "{routes}"
    );
    Ok(())
}

/// What makes a step fail, and what the error must name.
struct Failing {
    step: &'static str,
    /// Done in the pod's namespace before.
    before: &'static [&'static str],
    link: fn(&mut PodLink),
}

fn rolled_back() -> Result<()> {
    const OTHER: &str = "link add other type veth peer name other2";
    const UP: &str = "link set other up";
    let cases = [
        Failing {
            step: "(MTU 70000)",
            before: &[],
            link: |link| link.mtu = 70_000,
        },
        Failing {
            step: "make the link weir",
            before: &[],
            link: |link| link.ifname = "a/b".into(),
        },
        Failing {
            step: "add address 10.0.0.50/32",
            before: &[],
            link: |link| link.addresses.push(ADDRESS.into()),
        },
        Failing {
            step: "add link route 169.254.1.1/32",
            before: &[OTHER, UP, "route add 169.254.1.1 dev other"],
            link: |_| {},
        },
        Failing {
            step: "add route 0.0.0.0/0 via 169.254.1.1",
            before: &[
                OTHER,
                UP,
                "addr add 192.0.2.1/24 dev other",
                "route add default dev other",
            ],
            link: |_| {},
        },
    ];
    for case in cases {
        let world = World::new()?;
        let ns = Ns::new("pod")?;
        for command in case.before {
            ns.ip(command)?;
        }
        let before = (world.node.state()?, ns.state()?);
        let mut link = link("c1", ADDRESS);
        (case.link)(&mut link);
        let error = pod_error(world.connect(&ns, &link))?.to_string();
        ensure!(
            error.contains(case.step),
            "{error}: does not name the step {}",
            case.step
        );
        world
            .node
            .state()?
            .ensure_same(&before.0, &format!("left on the node after {error}"))?;
        ns.state()?
            .ensure_same(&before.1, &format!("left in the pod after {error}"))?;
    }
    Ok(())
}

fn rolled_back_on_the_host() -> Result<()> {
    let world = World::new()?;
    let ns = Ns::new("pod")?;
    let before = (world.node.state()?, ns.state()?);
    let failed = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            crate::world::make_settings_read_only()?;
            anyhow::Ok(world.connect(&ns, &link("c1", ADDRESS)))
        });
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("the thread panicked"))?
    })?;
    let error = pod_error(failed)?;
    ensure!(matches!(error, PodError::Sysctl(_)), "{error}");
    ensure!(error.to_string().contains("accept_ra"), "{error}");
    world
        .node
        .state()?
        .ensure_same(&before.0, "left on the node")?;
    ns.state()?.ensure_same(&before.1, "left in the pod")
}

fn bad_addresses() -> Result<()> {
    let world = World::new()?;
    let ns = Ns::new("pod")?;
    let before = world.node.state()?;
    for address in [
        "0.0.0.0",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let error =
            pod_error(world.connect(&ns, &link("c1", address.parse::<std::net::IpAddr>()?)))?;
        ensure!(matches!(error, PodError::BadAddress(_)), "{error}");
        ensure!(error.to_string().contains(address), "{error}");
    }
    let mut none = link("c1", ADDRESS);
    none.addresses.clear();
    ensure!(matches!(
        pod_error(world.connect(&ns, &none))?,
        PodError::NoAddress
    ));
    world.node.state()?.ensure_same(&before, "left on the node")
}

fn long_alias() -> Result<()> {
    let world = World::new()?;
    let mut link = link("c1", ADDRESS);
    link.alias = "é".repeat(200);
    world.bare_pod(link).map(|_pod| {
        let host = only(world.pod_links()?)?;
        ensure!(host["ifalias"] == "é".repeat(127), "{host}");
        Ok(())
    })?
}

fn not_a_netns() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let gone = NetNs::open("/run/netns/never-made");
    ensure!(matches!(gone, Err(NetNsError::Absent(_))), "{gone:?}");
    for path in [
        file.path().to_str().context("a path")?,
        "/proc/self/ns/uts",
        "/run",
    ] {
        let other = NetNs::open(path);
        ensure!(
            matches!(other, Err(NetNsError::NotANetNs(_))),
            "{path}: {other:?}"
        );
    }
    let own = NetNs::open("/proc/self/ns/net");
    ensure!(matches!(own, Err(NetNsError::Own(_))), "{own:?}");

    let ns = Ns::new("pod")?;
    let (one, again) = (NetNs::open(ns.path())?, NetNs::open(ns.path())?);
    ensure!(one.identity() == again.identity());
    ensure!(one.identity() != NetNs::open(Ns::new("pod")?.path())?.identity());
    // From within it is the caller's own: the thread counts, not the process.
    ns.inside(|| {
        let own = NetNs::open(ns.path());
        ensure!(matches!(own, Err(NetNsError::Own(_))), "{own:?}");
        Ok(())
    })
}

fn found() -> Result<()> {
    let world = World::new()?;
    let pod = world.bare_pod(link("c1", ADDRESS))?;
    let other = world.bare_pod(link("c2", Ipv4Addr::new(10, 0, 0, 60)))?;
    let find = |link: &PodLink| {
        world.node.block_on(|| async {
            Ok(datapath::pod::find(&NetNs::open(pod.ns.path())?, link).await?)
        })
    };
    let exists = |name: &'static str| {
        world.node.block_on(|| async {
            let netns = NetNs::open(pod.ns.path())?;
            Ok(Sides::open(&netns)?.has(name).await?)
        })
    };
    ensure!(find(&pod.link)?.as_ref() == Some(&pod.wiring));
    ensure!(exists("eth0")? && !exists("eth1")?);
    for different in [
        other.link,
        link("c1", Ipv4Addr::new(10, 0, 0, 51)),
        PodLink {
            mtu: 1500,
            ..pod.link.clone()
        },
    ] {
        ensure!(
            find(&different)?.is_none(),
            "{different:?} is not this link"
        );
    }
    // An ADD that died before its last step.
    world
        .node
        .ip(&format!("route del {ADDRESS} table {PODS_TABLE}"))?;
    ensure!(find(&pod.link)?.is_none(), "nothing leads to the pod");
    world.disconnect(&pod.link)?;
    ensure!(find(&pod.link)?.is_none() && !exists("eth0")?);
    Ok(())
}

fn two_addresses() -> Result<()> {
    let world = World::ready()?;
    let mut two = link("c1", ADDRESS);
    two.addresses.push(Ipv4Addr::new(10, 0, 0, 51).into());
    let pod = world.bare_pod(two.clone())?;
    for address in two.addresses {
        let server = crate::world::Echo::udp(&pod.ns, address)?;
        crate::world::ask_udp(&world.node, server.address)?;
    }
    Ok(())
}

fn another_mtu() -> Result<()> {
    for mtu in [1500, 1279] {
        let world = World::new()?;
        let ns = Ns::new("pod")?;
        let link = PodLink {
            mtu,
            ..link("c1", ADDRESS)
        };
        let new = NewLink {
            container_id: &link.container_id,
            ifname: &link.ifname,
            veth_prefix: &link.veth_prefix,
            alias: &link.alias,
            mtu: MTU,
        };
        world.node.block_on(|| async {
            let netns = NetNs::open(ns.path())?;
            let sides = Sides::open(&netns)?;
            let ends = sides.make(&new).await?;
            Ok(sides.wire(ends, &link).await?)
        })?;
        both_ends_have(mtu, &world, &ns)?;
    }
    Ok(())
}

/// The kernel gives it no IPv6, so there are no settings of it to write.
fn too_small_for_ipv6() -> Result<()> {
    let world = World::new()?;
    let pod = world.bare_pod(PodLink {
        mtu: 1279,
        ..link("c1", ADDRESS)
    })?;
    both_ends_have(1279, &world, &pod.ns)
}

fn both_ends_have(mtu: u32, world: &World, pod: &Ns) -> Result<()> {
    let ends = [
        only(world.pod_links()?)?,
        only(pod.ip_json("link show dev eth0")?)?,
    ];
    ensure!(ends.iter().all(|end| end["mtu"] == mtu), "{ends:?}");
    Ok(())
}

fn pod_error<T>(result: Result<T>) -> Result<PodError> {
    let error = result.err().context("this should have failed")?;
    error.downcast().context("not a PodError")
}

fn only(list: Vec<Value>) -> Result<Value> {
    ensure!(list.len() == 1, "not exactly one: {list:?}");
    list.into_iter().next().context("one")
}
