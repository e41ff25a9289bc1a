//! The real ipamd against LocalStack's EC2: an implementation of EC2's wire format that is not ours.
//!
//! LocalStack is started from PyPI packages at pinned versions, in a namespace of its own and on its loopback. It
//! has no instance metadata service, so a small one stands in front. It has no links either: each ENI that it
//! attaches appears in the namespace as a veth with the ENI's MAC.
//!
//! What LocalStack can't show: it knows no limits, no exhaustion, no prefixes, no throttling, and attaches at once.
//! `ipamd` and `pods` show those on the simulated EC2.

#![expect(clippy::print_stdout, reason = "skips are told on standard output")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use libtest_mimic::Trial;
use proto::v1::{AddRequest, AddressState, DelRequest, GetPoolResponse, Pod, Sandbox};
use suites::harness;

use stand::{Stand, log_tail};

#[path = "localstack/ec2.rs"]
mod ec2;
#[path = "localstack/imds.rs"]
mod imds;
#[path = "localstack/server.rs"]
mod server;
#[path = "localstack/stand.rs"]
mod stand;
#[path = "localstack/venv.rs"]
mod venv;

/// What the primary ENI of an m5.large has room for beside its own address.
const FIRST_ENI: usize = 9;

fn main() -> ExitCode {
    let shared = Shared::default();
    let tests = vec![
        shared.test(
            "localstack_listens_on_loopback_alone",
            listens_on_loopback_alone,
        ),
        shared.test(
            "ipamd_fills_its_pool_with_nothing_but_environment_variables",
            fills_its_pool,
        ),
        shared.test(
            "pods_beyond_the_first_eni_get_addresses_of_a_second_one",
            grows,
        ),
        shared.test("an_address_given_back_cools_and_is_free_again", gives_back),
    ];
    // Where the packages come from, the index, is not to be reached from within the sandbox.
    if !std::env::args().any(|argument| argument == "--list")
        && let Err(error) = venv::install()
    {
        println!("SKIPPED localstack::all: {error:#}");
        let all = Trial::test("all", || Ok(())).with_ignored_flag(true);
        return libtest_mimic::run(&libtest_mimic::Arguments::default(), vec![all]).exit_code();
    }
    harness::run("localstack", tests)
}

async fn listens_on_loopback_alone(stand: &Stand) -> anyhow::Result<()> {
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

    let tags = stand.ec2().tags_of_enis(&stand.instance_id)?;
    let second = tags.get(1).context("EC2 shows no second ENI")?;
    ensure!(
        second.contains(&(
            "node.k8s.amazonaws.com/instance_id".to_owned(),
            stand.instance_id.clone()
        )),
        "the second ENI is tagged {second:?}"
    );
    for number in 0..=FIRST_ENI {
        del(stand, &format!("grows-{number}")).await?;
    }
    Ok(())
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
    let reply = reply.with_context(log_tail)?.into_inner();
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
    let released = reply.with_context(log_tail)?.into_inner().released;
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

/// Each address of the pool is on the ENI that LocalStack says.
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
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let pool = stand.pool().await?;
        if wanted(&pool) {
            return Ok(pool);
        }
        if Instant::now() > deadline {
            bail!("not within 30 s: {what}\n{pool:#?}\n{}", log_tail());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One LocalStack and one ipamd for all tests: they take seconds to start.
#[derive(Clone, Default)]
struct Shared {
    stand: Arc<Mutex<Option<Arc<Stand>>>>,
}

impl Shared {
    fn test(
        &self,
        name: &str,
        body: impl AsyncFnOnce(&Stand) -> anyhow::Result<()> + Send + 'static,
    ) -> Trial {
        let shared = self.clone();
        harness::async_test(name, async move || body(&*shared.stand().await?).await)
    }

    /// The stand; raised by the first test that asks.
    async fn stand(&self) -> anyhow::Result<Arc<Stand>> {
        let known = self
            .stand
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(stand) = known {
            return Ok(stand);
        }
        let stand = Arc::new(Stand::raise().await?);
        *self.stand.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&stand));
        Ok(stand)
    }
}
