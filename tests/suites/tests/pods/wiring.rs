//! What the kernel holds for a pod, after ADD and after DEL.

use std::time::Duration;

use anyhow::{Context, ensure};
use datapath::layout;
use ipnet::IpNet;
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually};
use suites::node::{Node, json_of, text_of};

use crate::paths::assert_seen;
use crate::world::{lab, pod, pods_until_second_eni, sandbox_by_conflist, writing_conflist};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("a_pod_has_its_address_gateway_and_neighbour", pod_side),
        async_test(
            "the_host_knows_the_pod_by_one_route_and_one_neighbour",
            host_side,
        ),
        async_test(
            "an_add_repeated_for_the_same_sandbox_answers_the_same",
            repeated_add,
        ),
        async_test("del_takes_back_all_that_add_made", del_is_complete),
        async_test(
            "a_del_may_be_repeated_and_may_come_without_an_add",
            del_without_add,
        ),
        async_test("a_namespace_that_goes_takes_all_with_it", namespace_goes),
        async_test("rules_do_not_grow_with_pods", rules_do_not_grow),
        async_test(
            "a_link_is_named_as_asked_for_and_found_when_that_has_changed",
            named_as_asked_for,
        ),
    ]
}

async fn pod_side() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one")?;

    let addresses = json_of(&pod.netns, "ip", &["-j", "addr", "show", "dev", "eth0"])?;
    let eth0 = &addresses[0];
    assert_eq!(eth0["mtu"], 9001, "{eth0:#}");
    let inet: Vec<_> = eth0["addr_info"]
        .as_array()
        .context("no addresses")?
        .iter()
        .map(|info| (info["local"].as_str(), info["prefixlen"].as_u64()))
        .collect();
    assert_eq!(
        inet,
        [(Some(pod.address.to_string().as_str()), Some(32))],
        "and no IPv6 link-local"
    );

    let routes = text_of(&pod.netns, "ip", &["route"])?;
    let starts: Vec<_> = routes
        .lines()
        .filter_map(|line| line.split(" proto").next())
        .collect();
    assert_eq!(
        starts,
        ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0"],
        "{routes}"
    );
    assert!(
        routes
            .lines()
            .last()
            .is_some_and(|line| line.contains("scope link")),
        "{routes}"
    );

    let result = pod.sandbox.add()?.result()?;
    let host_mac = result["interfaces"][0]["mac"]
        .as_str()
        .context("no MAC of the host's end")?;
    let neighbours = json_of(&pod.netns, "ip", &["-j", "neigh", "show", "dev", "eth0"])?;
    assert_eq!(neighbours[0]["dst"], "169.254.1.1", "{neighbours:#}");
    assert_eq!(neighbours[0]["lladdr"], host_mac, "{neighbours:#}");
    assert_eq!(neighbours[0]["state"][0], "PERMANENT", "{neighbours:#}");
    Ok(())
}

async fn host_side() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one")?;
    let host = a.lab().netns();
    let veth = layout::host_veth_name("sandbox-one", "eth0");

    let link = json_of(host, "ip", &["-j", "-d", "link", "show", "dev", &veth])?;
    assert_eq!(link[0]["ifalias"], "demo/one", "{link:#}");
    assert_eq!(link[0]["group"], layout::LINK_GROUP.to_string(), "{link:#}");
    assert_eq!(link[0]["mtu"], 9001, "{link:#}");

    let table = layout::PODS_TABLE.to_string();
    let route = text_of(host, "ip", &["route", "get", &pod.address.to_string()])?;
    assert!(
        route.contains(&format!("dev {veth} table {table}")),
        "{route}"
    );
    let neighbours = json_of(host, "ip", &["-j", "neigh", "show", "dev", &veth])?;
    assert_eq!(
        neighbours[0]["dst"],
        pod.address.to_string(),
        "{neighbours:#}"
    );
    assert_eq!(neighbours[0]["state"][0], "PERMANENT", "{neighbours:#}");
    assert_eq!(
        neighbours.as_array().map(Vec::len),
        Some(1),
        "{neighbours:#}"
    );
    Ok(())
}

async fn named_as_asked_for() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = writing_conflist(Node::new(&lab, "a")).with("AWS_VPC_K8S_CNI_VETHPREFIX", "eni");
    a.start_ipamd().await?;
    let host = a.lab().netns();
    for changes in [false, true] {
        let netns = lab.pod_netns(&format!("pod-{changes}"))?;
        let mut sandbox = sandbox_by_conflist(&a, &changes.to_string(), &netns).await?;
        let result = sandbox.add()?.result()?;
        let name = result["interfaces"][0]["name"].as_str();
        let name = name.context("no host's end")?;
        ensure!(name.starts_with("eni") && name.len() == 15, "{name}");
        assert_eq!(sandbox.add()?.result()?, result, "an ADD that is repeated");

        // ipamd knows whose it is.
        text_of(host, "ip", &["link", "set", name, "down"])?;
        eventually("the link up again", async || {
            let link = json_of(host, "ip", &["-j", "link", "show", "dev", name])?;
            Ok((link[0]["operstate"] == "UP").then_some(()))
        })
        .await?;
        let address: IpNet = result["ips"][0]["address"]
            .as_str()
            .context("no address")?
            .parse()?;
        lab.settle()?;
        let own = a.lab().primary_address();
        assert_seen(host, &netns, address.addr(), own)?;
        sandbox.conf["prevResult"] = result.clone();
        assert_eq!(sandbox.call("CHECK")?.code, Some(0));

        if changes {
            sandbox.conf["vethPrefix"] = "weir".into();
        }
        assert_eq!(sandbox.del()?.code, Some(0));
        let links = text_of(host, "ip", &["-o", "link"])?;
        assert!(!links.contains(name), "{links}");
    }
    Ok(())
}

async fn repeated_add() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one")?;
    let first = pod.sandbox.add()?.result()?;
    let second = pod.sandbox.add()?.result()?;
    assert_eq!(first, second);
    assert_eq!(first["ips"][0]["address"], format!("{}/32", pod.address));
    assert_eq!(a.pod_links()?, 1);
    assert_eq!(a.pool().await?.totals.context("totals")?.owned, 1);
    Ok(())
}

async fn del_is_complete() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    a.wait_for_pool("a quiet pool", |pool| pool.pending_calls.is_empty())
        .await?;
    let host = a.lab().netns();
    let table = layout::PODS_TABLE.to_string();
    let look = || -> anyhow::Result<_> {
        Ok((
            text_of(host, "ip", &["link"])?,
            text_of(host, "ip", &["rule"])?,
            text_of(host, "ip", &["neigh", "show", "nud", "permanent"])?,
            text_of(host, "ip", &["route", "show", "table", &table])?
                .lines()
                .filter(|line| !line.starts_with("unreachable"))
                .count(),
        ))
    };
    let before = look()?;
    let pod = pod(&lab, &a, "one")?;
    assert_ne!(look()?, before);
    let del = pod.sandbox.del()?;
    assert_eq!(
        (del.code, del.stdout.as_str()),
        (Some(0), ""),
        "{}",
        del.stderr
    );
    assert_eq!(look()?, before);

    // What was the pod's is now reached by nobody: an error at once, not silence.
    let route = text_of(host, "ip", &["route", "get", &pod.address.to_string()]);
    let error = route
        .expect_err("an address without a pod has a route")
        .to_string();
    assert!(error.contains("No route to host"), "{error}");

    let pool = a.pool().await?;
    let address = pool.enis[0]
        .addresses
        .iter()
        .find(|held| held.address == pod.address.to_string())
        .context("the address is not held any more")?;
    assert_eq!(address.state(), proto::v1::AddressState::Cooling);
    Ok(())
}

/// amazon-vpc-cni-k8s#739, #1939: the runtime repeats a DEL until it succeeds.
async fn del_without_add() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one")?;
    let never = a.sandbox("never-added", "never", pod.netns.path());
    assert_eq!(never.del()?.code, Some(0));
    let link = text_of(&pod.netns, "ip", &["link", "show", "dev", "eth0"]);
    assert!(
        link.is_ok(),
        "a DEL of another sandbox took this one's link"
    );
    for _ in 0..2 {
        assert_eq!(pod.sandbox.del()?.code, Some(0));
    }
    let mut late = pod.sandbox.clone();
    late.netns = String::new();
    assert_eq!(
        late.del()?.code,
        Some(0),
        "the runtime's late DEL has no namespace"
    );
    late.netns = "/run/netns/gone".to_owned();
    assert_eq!(late.del()?.code, Some(0), "the namespace may be gone");
    Ok(())
}

async fn namespace_goes() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a");
    a.start_ipamd().await?;
    let pod = pod(&lab, &a, "one")?;
    let host = a.lab().netns();
    let veth = layout::host_veth_name("sandbox-one", "eth0");
    drop(pod.netns);

    // The kernel takes a namespace down in its own time.
    let gone = eventually("the link goes with its namespace", async || {
        let link = text_of(host, "ip", &["link", "show", "dev", &veth]);
        Ok(link.is_err().then_some(()))
    });
    tokio::time::timeout(Duration::from_secs(5), gone).await??;
    let table = layout::PODS_TABLE.to_string();
    let routes = text_of(host, "ip", &["route", "show", "table", &table])?;
    assert!(!routes.contains("dev"), "{routes}");
    assert_eq!(
        text_of(host, "ip", &["neigh", "show", "nud", "permanent"])?,
        ""
    );
    assert_eq!(pod.sandbox.del()?.code, Some(0));
    assert_eq!(a.pool().await?.totals.context("totals")?.owned, 0);
    Ok(())
}

async fn rules_do_not_grow() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut a = Node::new(&lab, "a").with("WARM_IP_TARGET", 1);
    a.start_ipamd().await?;
    let pods = pods_until_second_eni(&lab, &a).await?;
    let host = a.lab().netns();
    let rules = text_of(host, "ip", &["rule"])?;
    let next = pod(&lab, &a, "next")?;
    assert_eq!(text_of(host, "ip", &["rule"])?, rules);
    let priorities: Vec<_> = rules
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        priorities,
        ["0", "512", "1024", "1536", "32765", "32766", "32767"],
        "for {} pods on two ENIs:\n{rules}",
        pods.len()
    );
    drop(next);
    Ok(())
}
