//! The real ipamd against LocalStack's EC2 and moto's: implementations of EC2's wire format that are not ours. And the same
//! against the simulator: ipamd is started with no argument, and two environment variables tell it where EC2 and IMDS are.
//!
//! LocalStack and moto are started from PyPI packages at pinned versions, each in a namespace of its own and on its
//! loopback. They have no instance metadata service, so a small one stands in front. They have no links either: each ENI
//! that they attach appears in the namespace as a veth with the ENI's MAC.
//!
//! What LocalStack and moto do otherwise than EC2, as far as ipamd meets it (`cargo xtask test conformance` has the whole
//! list): their answer to AssignPrivateIpAddresses lists what the ENI had before, its own address included; they put all
//! ENIs on one page, whatever MaxResults says; they take that an ENI is to go with its instance, and do not show it; and they know no limits, no exhaustion, no prefixes, no throttling, and
//! attach at once. `ipamd` and `pods` show those on the simulator.

#![expect(clippy::print_stdout, reason = "skips are told on standard output")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use libtest_mimic::Trial;
use proto::v1::{AddRequest, AddressState, DelRequest, EniState, GetPoolResponse, Pod, Sandbox};
use suites::harness;

use cloud::Cloud;
use stand::Stand;

#[path = "localstack/cloud.rs"]
mod cloud;
#[path = "localstack/ec2.rs"]
mod ec2;
#[path = "localstack/imds.rs"]
mod imds;
#[path = "localstack/moto.rs"]
mod moto;
#[path = "localstack/server.rs"]
mod server;
#[path = "localstack/stand.rs"]
mod stand;
#[path = "localstack/venv.rs"]
mod venv;

/// What the primary ENI of an m5.large has room for beside its own address.
const FIRST_ENI: usize = 9;
/// What is too much goes back within half a minute, an ENI when it is a minute old; it may take two rounds.
const GIVING_BACK: Duration = Duration::from_mins(4);

fn main() -> ExitCode {
    // Where the packages come from, the index, is not to be reached from within the sandbox.
    let listing = std::env::args().any(|argument| argument == "--list");
    let mut clouds = Vec::new();
    for cloud in Cloud::ALL {
        match if listing { Ok(()) } else { cloud.install() } {
            Ok(()) => clouds.push(cloud),
            Err(error) => println!("SKIPPED localstack::{}: {error:#}", cloud.word()),
        }
    }
    let shared = Shared::default();
    let mut tests = vec![harness::test(
        "between_clouds_nothing_but_environment_variables_differs",
        environments,
    )];
    // In this order, for each cloud. What needs time to pass comes last: it passes for all at once.
    for cloud in &clouds {
        let test = |name: &str| format!("{}_{name}", cloud.word());
        tests.extend([
            shared.test(*cloud, &test("listens_on_loopback_alone"), |stand| {
                Box::pin(ready(listens_on_loopback_alone(stand)))
            }),
            shared.test(*cloud, &test("fills_the_pool"), |stand| {
                Box::pin(fills_its_pool(stand))
            }),
            shared.test(
                *cloud,
                &test("gives_pods_beyond_the_first_eni_addresses_of_a_second_one"),
                |stand| Box::pin(grows(stand)),
            ),
            shared.test(
                *cloud,
                &test("shows_our_tags_and_that_our_enis_go_with_the_instance"),
                |stand| Box::pin(tags(stand)),
            ),
            shared.test(
                *cloud,
                &test("sees_nothing_of_an_address_that_cools_and_is_free_again"),
                |stand| Box::pin(gives_back(stand)),
            ),
            shared.test(
                *cloud,
                &test("tells_an_ipamd_without_books_all_enis_and_addresses"),
                |stand| Box::pin(starts_anew(stand)),
            ),
            shared.test(
                *cloud,
                &test("refuses_calls_for_an_eni_that_is_gone_and_another_is_made"),
                |stand| Box::pin(loses_an_eni(stand)),
            ),
        ]);
    }
    for cloud in &clouds {
        tests.push(shared.test(
            *cloud,
            &format!("{}_gets_back_what_is_too_much", cloud.word()),
            |stand| Box::pin(shrinks(stand)),
        ));
    }
    let checks = tests.len();
    let ended = harness::run("localstack", tests);
    if !listing {
        let on: Vec<_> = clouds.iter().map(|cloud| cloud.word()).collect();
        println!("{checks} checks, on {}", on.join(", "));
    }
    ended
}

/// ipamd has no argument anywhere. On AWS, the SDK knows where EC2 and IMDS are, and the instance has a role.
fn environments() -> anyhow::Result<()> {
    let imds: SocketAddr = "127.0.0.1:1".parse()?;
    let of = |cloud: Cloud| -> BTreeMap<_, _> {
        let own = format!("{}-node", cloud.word());
        stand::environment(cloud, imds)
            .into_iter()
            .map(|(name, value)| (name, value.replace(&own, "node")))
            .collect()
    };
    let all = Cloud::ALL.map(of);
    let names: BTreeSet<_> = all.iter().flat_map(BTreeMap::keys).collect();
    let differ = names
        .into_iter()
        .filter(|name| all.iter().any(|one| one.get(*name) != all[0].get(*name)));
    let differ: Vec<_> = differ.collect();
    // The address of IMDS is the system's to choose in each.
    ensure!(differ == [&"AWS_ENDPOINT_URL_EC2"], "{differ:?}");
    Ok(())
}

fn listens_on_loopback_alone(stand: &Stand) -> anyhow::Result<()> {
    let elsewhere = stand.listeners_off_loopback()?;
    ensure!(elsewhere.is_empty(), "something listens on {elsewhere:?}");
    Ok(())
}

async fn fills_its_pool(stand: &Stand) -> anyhow::Result<()> {
    let pool = wait_for_pool(stand, "4 addresses are free", |pool| free(pool) >= 4).await?;
    let node = pool.node.clone().context("a pool without a node")?;
    ensure!(node.instance_id == stand.instance_id, "{node:?}");
    ensure!(
        node.instance_type == "m5.large" && node.slots_per_eni == 10,
        "{node:?}"
    );
    agrees_with_ec2(stand, &pool)
}

async fn grows(stand: &Stand) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for number in 0..=FIRST_ENI {
        let address = add(stand, &format!("grows-{number}")).await?;
        ensure!(
            seen.insert(address.clone()),
            "{address} was given to two pods"
        );
    }
    let pool = stand.pool().await?;
    ensure!(
        pool.enis.len() >= 2,
        "{} pods on {} ENI",
        seen.len(),
        pool.enis.len()
    );
    let owned: BTreeSet<_> = pool
        .enis
        .iter()
        .flat_map(|eni| &eni.addresses)
        .filter(|address| address.state() == AddressState::Owned)
        .map(|address| address.address.clone())
        .collect();
    ensure!(
        seen.is_subset(&owned),
        "given {seen:?}, but owned are {owned:?}"
    );
    agrees_with_ec2(stand, &pool)?;

    for number in 0..=FIRST_ENI {
        del(stand, &format!("grows-{number}")).await?;
    }
    Ok(())
}

async fn tags(stand: &Stand) -> anyhow::Result<()> {
    let tags = stand.ec2().tags_of_enis(&stand.instance_id)?;
    let second = tags.get(1).context("EC2 shows no second ENI")?;
    for (key, value) in [
        (
            "node.k8s.amazonaws.com/instance_id",
            stand.instance_id.as_str(),
        ),
        ("cluster.k8s.amazonaws.com/name", "demo"),
        ("eks:eni:owner", "amazon-vpc-cni"),
    ] {
        let wanted = (key.to_owned(), value.to_owned());
        ensure!(second.contains(&wanted), "{wanted:?} is not in {second:?}");
    }
    // It is told once the ENI is attached. LocalStack and moto take it, and show something else ever after.
    if stand.cloud != Cloud::Simulator {
        return eventually("the call is taken", || {
            let log = stand.log();
            let mut lines = log.lines();
            let taken = lines.find(|line| {
                line.contains("EC2 call done") && line.contains("ModifyNetworkInterfaceAttribute")
            });
            Ok(taken.is_some())
        })
        .await;
    }
    eventually("the second ENI goes with the instance", || {
        let enis = stand.ec2().enis(&stand.instance_id)?;
        Ok(enis.get(1).is_some_and(|eni| eni.goes_with_the_instance))
    })
    .await
}

async fn gives_back(stand: &Stand) -> anyhow::Result<()> {
    let address = add(stand, "gives-back").await?;
    let released = del(stand, "gives-back").await?;
    ensure!(
        released == [address.as_str()],
        "{address} was owned, but {released:?} came back"
    );
    let pool = stand.pool().await?;
    ensure!(
        state_of(&pool, &address) == Some(AddressState::Cooling),
        "after the DEL: {:?}",
        state_of(&pool, &address)
    );
    let another = add(stand, "another").await?;
    ensure!(another != address, "{address} did not cool");
    wait_for_pool(stand, "the address is free again", |pool| {
        state_of(pool, &address) == Some(AddressState::Free)
    })
    .await?;
    del(stand, "another").await?;
    // A DEL may be repeated.
    ensure!(del(stand, "another").await?.is_empty());
    Ok(())
}

/// All that was remembered is lost: it is EC2's word alone that counts.
async fn starts_anew(stand: &Stand) -> anyhow::Result<()> {
    let held = |pool: &GetPoolResponse| -> BTreeSet<(String, String)> {
        let enis = pool.enis.iter();
        let of = |eni: &proto::v1::Eni| {
            let id = eni.eni_id.clone();
            let addresses = eni.addresses.clone().into_iter();
            addresses.map(move |address| (id.clone(), address.address))
        };
        enis.flat_map(of).collect()
    };
    let before = held(&stand.pool().await?);
    stand.lose_ipamd_and_its_books()?;
    stand.start_ipamd().await?;
    let pool = stand.pool().await?;
    ensure!(pool.enis.len() >= 2, "{pool:#?}");
    ensure!(
        before.is_subset(&held(&pool)),
        "there were {before:?}, and now {pool:#?}"
    );
    agrees_with_ec2(stand, &pool)
}

/// Somebody takes the second ENI away. EC2's refusal tells ipamd, in EC2's words.
async fn loses_an_eni(stand: &Stand) -> anyhow::Result<()> {
    let enis = stand.ec2().enis(&stand.instance_id)?;
    let second = enis.get(1).context("EC2 shows no second ENI")?;
    let force = [
        ("AttachmentId", second.attachment.as_str()),
        ("Force", "true"),
    ];
    stand.ec2().call("DetachNetworkInterface", &force)?;
    let gone = [("NetworkInterfaceId", second.id.as_str())];
    eventually("EC2 deletes it", || {
        Ok(stand.ec2().call("DeleteNetworkInterface", &gone).is_ok())
    })
    .await?;
    // More pods than the first ENI has room for: the second is asked for more.
    let pods = FIRST_ENI + 4;
    let mut seen = BTreeSet::new();
    for number in 0..pods {
        seen.insert(add(stand, &format!("loses-{number}")).await?);
    }
    ensure!(seen.len() == pods, "an address was given twice: {seen:?}");
    // Pods on it have lost their addresses; those to come get others, on a new ENI.
    let id = |eni: &proto::v1::Eni| eni.eni_id.clone();
    wait_for_pool(stand, "a new ENI beside the one that is gone", |pool| {
        let whole = |eni: &&proto::v1::Eni| eni.state() == EniState::Ready;
        let whole: Vec<_> = pool.enis.iter().filter(whole).map(id).collect();
        whole.len() == 2 && !whole.contains(&second.id)
    })
    .await?;
    let refusal = "InvalidNetworkInterfaceID.NotFound";
    ensure!(stand.log().contains(refusal), "{refusal} is not told");
    let added = add(stand, "loses-another").await?;
    let pool = stand.pool().await?;
    let mut whole = pool.enis.iter().filter(|eni| eni.eni_id != second.id);
    ensure!(
        whole.any(|eni| eni.addresses.iter().any(|it| it.address == added)),
        "{added} is on none of {pool:#?}"
    );
    del(stand, "loses-another").await?;
    for number in 0..pods {
        del(stand, &format!("loses-{number}")).await?;
    }
    wait_for_pool(stand, "the ENI has left the pool", |pool| {
        pool.enis.iter().all(|eni| eni.eni_id != second.id)
    })
    .await?;
    Ok(())
}

/// There are no pods any more: four addresses stay, and no second ENI, attached or not.
async fn shrinks(stand: &Stand) -> anyhow::Result<()> {
    wait_for_pool_within(GIVING_BACK, stand, "four addresses on one ENI", |pool| {
        let held = pool.totals.is_some_and(|totals| totals.held == 4);
        held && pool.enis.len() == 1 && pool.pending_calls.is_empty()
    })
    .await?;
    let enis = stand.ec2().enis(&stand.instance_id)?;
    let [primary] = enis.as_slice() else {
        bail!("EC2 shows {enis:?}");
    };
    ensure!(primary.addresses.len() == 1 + 4, "{primary:?}");
    let ours = stand.ec2().tagged_with(&stand.instance_id)?;
    ensure!(ours == 0, "{ours} of our ENIs are left behind");
    Ok(())
}

/// Asks EC2 again and again.
async fn eventually(
    what: &str,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    harness::eventually(what, || ready(is_so().map(|so| so.then_some(())))).await
}

async fn add(stand: &Stand, container_id: &str) -> anyhow::Result<String> {
    let request = AddRequest {
        sandbox: Some(sandbox(container_id)),
        pod: Some(Pod {
            namespace: "default".to_owned(),
            name: container_id.to_owned(),
            uid: String::new(),
        }),
        network: "aws-cni".to_owned(),
        netns: String::new(),
    };
    let reply = stand.ipam().await?.add(request).await;
    let reply = reply.with_context(|| stand.log_tail())?.into_inner();
    match reply.addresses.as_slice() {
        [address] => Ok(address.address.clone()),
        other => bail!("{container_id} got {other:?}"),
    }
}

async fn del(stand: &Stand, container_id: &str) -> anyhow::Result<Vec<String>> {
    let request = DelRequest {
        sandbox: Some(sandbox(container_id)),
    };
    let reply = stand.ipam().await?.del(request).await;
    let released = reply
        .with_context(|| stand.log_tail())?
        .into_inner()
        .released;
    Ok(released
        .into_iter()
        .map(|address| address.address)
        .collect())
}

fn sandbox(container_id: &str) -> Sandbox {
    Sandbox {
        container_id: container_id.to_owned(),
        ifname: "eth0".to_owned(),
    }
}

fn free(pool: &GetPoolResponse) -> u32 {
    pool.totals.map_or(0, |totals| totals.free)
}

fn state_of(pool: &GetPoolResponse, address: &str) -> Option<AddressState> {
    let mut all = pool.enis.iter().flat_map(|eni| &eni.addresses);
    let known = all.find(|known| known.address == address)?;
    Some(known.state())
}

/// Each address of the pool is on the ENI that EC2 says.
fn agrees_with_ec2(stand: &Stand, pool: &GetPoolResponse) -> anyhow::Result<()> {
    let truth = stand.ec2().enis(&stand.instance_id)?;
    for eni in &pool.enis {
        let known = truth
            .iter()
            .find(|known| known.id == eni.eni_id)
            .with_context(|| format!("EC2 does not know {}", eni.eni_id))?;
        for address in &eni.addresses {
            ensure!(
                known.addresses.contains(&address.address),
                "EC2 says that {} has {:?}, not {}",
                known.id,
                known.addresses,
                address.address
            );
        }
    }
    Ok(())
}

async fn wait_for_pool(
    stand: &Stand,
    what: &str,
    wanted: impl Fn(&GetPoolResponse) -> bool,
) -> anyhow::Result<GetPoolResponse> {
    wait_for_pool_within(Duration::from_secs(30), stand, what, wanted).await
}

async fn wait_for_pool_within(
    patience: Duration,
    stand: &Stand,
    what: &str,
    wanted: impl Fn(&GetPoolResponse) -> bool,
) -> anyhow::Result<GetPoolResponse> {
    let deadline = Instant::now() + patience;
    loop {
        let pool = stand.pool().await?;
        if wanted(&pool) {
            return Ok(pool);
        }
        if Instant::now() > deadline {
            bail!(
                "not within {patience:?}: {what}\n{pool:#?}\n{}",
                stand.log_tail()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One EC2 and one ipamd for all tests of a cloud: they take seconds to start.
#[derive(Clone, Default)]
struct Shared {
    stands: Arc<Mutex<BTreeMap<Cloud, Arc<Stand>>>>,
}

type Checking<'s> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 's>>;

impl Shared {
    fn test(&self, cloud: Cloud, name: &str, body: fn(&Stand) -> Checking<'_>) -> Trial {
        let shared = self.clone();
        harness::async_test(name, async move || body(&*shared.stand(cloud).await?).await)
    }

    /// The stand; raised by the first test that asks.
    async fn stand(&self, cloud: Cloud) -> anyhow::Result<Arc<Stand>> {
        if let Some(stand) = self.stands().get(&cloud) {
            return Ok(Arc::clone(stand));
        }
        let stand = Arc::new(Stand::raise(cloud).await?);
        self.stands().insert(cloud, Arc::clone(&stand));
        Ok(stand)
    }

    fn stands(&self) -> MutexGuard<'_, BTreeMap<Cloud, Arc<Stand>>> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
