//! A real ipamd on a node of the lab, and what the simulated EC2 and IMDS are asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aws_sim::Request as Ec2Request;
use proto::v1::ipam_client::IpamClient;
use proto::v1::{AddRequest, Pod, Sandbox};
use suites::node::Node;
use tonic::transport::Endpoint;
use vpc_lab::{Lab, LabConfig};

use crate::table::{How, Row};

/// With no call for so long, a node has come to rest: longer than the pool gathers what nobody waits for.
const REST: Duration = Duration::from_secs(4);
/// By then it must have.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often ipamd looks at IMDS.
const LOOK: Duration = Duration::from_secs(30);

const PREFIXES: (&str, &str) = ("ENABLE_PREFIX_DELEGATION", "true");
const MAX_PODS: usize = 110;

/// All at once, in a lab each: they wait most of the time.
pub(crate) async fn rows() -> anyhow::Result<Vec<Row>> {
    let by_addresses = "0 to 110 pods by addresses, m5.4xlarge";
    let by_prefixes = "0 to 110 pods by prefixes, m5.4xlarge";
    let (boots, prefixed, enis, addresses, prefixes) = tokio::try_join!(
        boot_and_restart(),
        prefixed_boot(),
        five_enis(),
        pods("pods-addresses", by_addresses, None, None),
        pods("pods-prefixes", by_prefixes, Some(PREFIXES), Some(3)),
    )?;
    let mut rows = Vec::from(boots);
    rows.push(prefixed);
    rows.extend(enis);
    rows.extend([addresses, prefixes]);
    Ok(rows)
}

/// One m5.4xlarge, 8 ENIs of 30 slots, in a subnet with room; `prefix` tells its lab from the others.
fn lab(prefix: &str) -> anyhow::Result<Lab> {
    let mut config = LabConfig {
        prefix: prefix.to_owned(),
        ..LabConfig::default()
    };
    config.nodes.truncate(1);
    let node = config.nodes.first_mut().context("the lab has nodes")?;
    node.instance_type = "m5.4xlarge".to_owned();
    let subnet = config.subnets.first_mut().context("the lab has subnets")?;
    subnet.cidr = "10.0.16.0/20".parse()?;
    Lab::start(config)
}

/// Its node, alone in its cluster: nothing is held back for others.
fn node(lab: &Lab) -> Node<'_> {
    Node::new(lab, "a").with("WEIR_CLUSTER_SIZE", 1)
}

async fn boot_and_restart() -> anyhow::Result<[Row; 3]> {
    let lab = lab("boot-")?;
    let count = Count::begin(&lab);
    let mut node = node(&lab);
    node.start_ipamd().await?;
    rest(&lab, &node).await?;
    let boot = count.row("boot", "fresh boot, no pod", Some(2));
    node.stop_ipamd().await?;
    let count = Count::begin(&lab);
    node.start_ipamd().await?;
    rest(&lab, &node).await?;
    let restart = count.row("restart-1", "restart with 1 ENI", Some(1));
    Ok([boot, restart, look(&lab, &node).await?])
}

/// What one look at IMDS costs, with one ENI.
async fn look(lab: &Lab, node: &Node<'_>) -> anyhow::Result<Row> {
    let asked = imds(lab);
    let deadline = Instant::now() + LOOK + REST;
    while imds(lab) == asked {
        ensure!(Instant::now() < deadline, "ipamd does not look at IMDS");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut count = Count::begin(lab);
    count.imds = asked;
    rest(lab, node).await?;
    Ok(count.row("look", "one look at IMDS, every 30 s", Some(0)))
}

async fn prefixed_boot() -> anyhow::Result<Row> {
    let lab = lab("launched-")?;
    let instance = lab.node("a").instance_id().to_owned();
    let eni = lab.sim().look(|world, _| {
        let eni = world.primary_eni(&instance.as_str().into());
        eni.map(|eni| eni.id.as_str().to_owned())
    });
    let eni = eni.context("the node has a primary ENI")?;
    let launched = lab.sim().call(&Ec2Request::new(
        "AssignPrivateIpAddresses",
        [
            ("NetworkInterfaceId", eni.as_str()),
            ("Ipv4PrefixCount", "3"),
        ],
    ));
    ensure!(launched.error.is_none(), "{}", launched.body);
    let count = Count::begin(&lab);
    let mut node = node(&lab).with(PREFIXES.0, PREFIXES.1);
    node.start_ipamd().await?;
    rest(&lab, &node).await?;
    let row = count.row(
        "boot-prefixed",
        "boot of an instance launched with prefixes",
        Some(1),
    );
    node.stop_ipamd().await?;
    Ok(row)
}

async fn five_enis() -> anyhow::Result<[Row; 2]> {
    let lab = lab("enis-")?;
    let mut node = node(&lab).with("MINIMUM_IP_TARGET", 5 * 29);
    let count = Count::begin(&lab);
    node.start_ipamd().await?;
    let wanted = |pool: &proto::v1::GetPoolResponse| {
        pool.totals.is_some_and(|totals| totals.free >= 5 * 29) && pool.enis.len() == 5
    };
    node.wait_for_pool_within(PATIENCE, "five full ENIs", wanted)
        .await?;
    rest(&lab, &node).await?;
    let mut eni = count.row(
        "eni",
        "each new ENI, of 4 that a boot wants at once (and 1 DescribeSubnets for all)",
        Some(3),
    );
    // What the boot itself costs, what the primary ENI gets, and the one look at the subnets' tags.
    for action in [
        "DescribeNetworkInterfaces",
        "AssignPrivateIpAddresses",
        "DescribeSubnets",
    ] {
        if let Some(count) = eni.ec2.get_mut(action) {
            *count -= 1;
        }
    }
    eni.ec2
        .values_mut()
        .for_each(|count| *count = count.div_ceil(4));
    eni.ec2.retain(|_, count| *count > 0);
    eni.imds = 0;
    node.stop_ipamd().await?;
    let count = Count::begin(&lab);
    node.start_ipamd().await?;
    rest(&lab, &node).await?;
    let restart = count.row("restart-5", "restart with 5 ENIs", Some(1));
    node.stop_ipamd().await?;
    Ok([eni, restart])
}

/// All pods come at once, to a node that has booted.
async fn pods(
    id: &'static str,
    what: &'static str,
    with: Option<(&str, &str)>,
    aim: Option<u64>,
) -> anyhow::Result<Row> {
    let lab = lab(&format!("{id}-"))?;
    let mut node = node(&lab);
    if let Some((name, value)) = with {
        node = node.with(name, value);
    }
    node.start_ipamd().await?;
    rest(&lab, &node).await?;
    let count = Count::begin(&lab);
    let endpoint = Endpoint::try_from(format!("unix:{}", node.socket().display()))?;
    let client = IpamClient::new(endpoint.connect().await?);
    let mut adds = tokio::task::JoinSet::new();
    for pod in 0..MAX_PODS {
        let mut client = client.clone();
        adds.spawn(async move { client.add(add(pod)).await });
    }
    while let Some(added) = adds.join_next().await {
        added?.with_context(|| format!("an ADD failed:\n{}", node.log_tail()))?;
    }
    rest(&lab, &node).await?;
    let row = count.row(id, what, aim);
    node.stop_ipamd().await?;
    Ok(row)
}

fn add(pod: usize) -> tonic::Request<AddRequest> {
    let mut request = tonic::Request::new(AddRequest {
        sandbox: Some(Sandbox {
            container_id: format!("pod-{pod}"),
            ifname: "eth0".to_owned(),
        }),
        pod: Some(Pod {
            namespace: "budget".to_owned(),
            name: format!("pod-{pod}"),
            uid: String::new(),
        }),
        network: "aws-cni".to_owned(),
        netns: format!("/run/netns/pod-{pod}"),
    });
    request.set_timeout(PATIENCE);
    request
}

/// Waits until nothing is asked any more, and all answers have come.
async fn rest(lab: &Lab, node: &Node<'_>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (mut asked, mut since) = (ec2(lab), Instant::now());
    while since.elapsed() < REST {
        ensure!(
            Instant::now() < deadline,
            "ipamd goes on asking EC2: {asked:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = ec2(lab);
        if now != asked || !node.pool().await?.pending_calls.is_empty() {
            (asked, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// What had been asked before.
struct Count<'lab> {
    lab: &'lab Lab,
    ec2: BTreeMap<String, u64>,
    imds: u64,
}

impl<'lab> Count<'lab> {
    fn begin(lab: &'lab Lab) -> Self {
        Self {
            lab,
            ec2: ec2(lab),
            imds: imds(lab),
        }
    }

    /// What has been asked since.
    fn row(&self, id: &'static str, what: &'static str, aim: Option<u64>) -> Row {
        let now = ec2(self.lab).into_iter();
        let since = now.map(|(action, count)| {
            let before = self.ec2.get(&action).copied().unwrap_or(0);
            (action, count - before)
        });
        Row {
            id,
            what,
            how: How::Real,
            ec2: since.filter(|(_, count)| *count > 0).collect(),
            imds: imds(self.lab) - self.imds,
            aim,
        }
    }
}

fn ec2(lab: &Lab) -> BTreeMap<String, u64> {
    lab.sim().look(|world, _| world.log.counts().clone())
}

fn imds(lab: &Lab) -> u64 {
    lab.sim()
        .look(|world, _| world.log.imds_counts().values().sum())
}
