//! The other simulators, LocalStack and moto: started from PyPI in namespaces of their own, and asked the same.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use vpc_lab::Netns;
use vpc_lab::netns::Running;

use crate::check::{Check, Outcome, same};
use crate::differences::Differences;
use crate::ec2::{self, Ec2};
use crate::{http, moto, server, venv};

/// An image that moto ships.
const IMAGE: &str = "ami-12c6146b";
/// Neither lets anyone wait: what is not there after this is not coming.
const PATIENCE: Duration = Duration::from_secs(1);
/// One check. LocalStack's very first call builds a catalogue, for 5 s and more.
const ONE_CHECK: Duration = Duration::from_secs(60);

/// Another simulator of EC2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Moto,
    LocalStack,
}

impl Peer {
    pub(crate) const ALL: [Peer; 2] = [Peer::Moto, Peer::LocalStack];

    /// Its name and the version that is pinned.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Moto => "moto 5.2.5",
            Peer::LocalStack => "LocalStack 4.13.1",
        }
    }

    /// Installs it unless it is there. To be called outside the sandbox, which has no way to the index.
    pub(crate) fn install(self) -> anyhow::Result<()> {
        match self {
            Peer::Moto => moto::install(),
            Peer::LocalStack => venv::install(),
        }
    }

    /// The rows in which it differs from EC2, with what it does instead.
    pub(crate) fn differences(self, checks: &[Check]) -> anyhow::Result<Differences> {
        let netns = Netns::create(match self {
            Peer::Moto => "moto",
            Peer::LocalStack => "conf-localstack",
        })?;
        let localstack;
        let moto_server;
        let address = match self {
            Peer::Moto => {
                moto_server = moto::start(&netns)?;
                let _: &Running = &moto_server;
                moto::ADDRESS.parse()?
            }
            Peer::LocalStack => {
                localstack = server::LocalStack::start(&netns)?;
                let _: &server::LocalStack = &localstack;
                server::ADDRESS.parse()?
            }
        };
        let elsewhere = server::listeners_off_loopback(&netns)?;
        ensure!(
            elsewhere.is_empty(),
            "{} listens on {elsewhere:?}",
            self.name()
        );
        // Sockets belong to the namespace of the thread that opens them.
        netns.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(ask_all(address, checks))
        })
    }
}

async fn ask_all(address: SocketAddr, checks: &[Check]) -> anyhow::Result<Differences> {
    let mut found = Differences::new();
    for (number, check) in checks.iter().enumerate() {
        let ec2 = Ec2 {
            sdk: ec2::client(address, "AKIAIOSFODNN7EXAMPLE"),
            address,
            image: IMAGE,
            patience: PATIENCE,
            insides: None,
        };
        // Addresses are random: with a seed of its own, and nothing left of others, a check always sees the same.
        begin(&ec2, number)
            .await
            .map_err(|difference| anyhow::anyhow!("{difference}"))?;
        match tokio::time::timeout(ONE_CHECK, (check.run)(&ec2)).await {
            Ok(Ok(())) => {}
            Ok(Err(difference)) => drop(found.insert(check.row.to_owned(), difference.0)),
            Err(_) => drop(found.insert(check.row.to_owned(), "no answer".to_owned())),
        }
    }
    Ok(found)
}

async fn begin(ec2: &Ec2, seed: usize) -> Outcome {
    let reset = http::send(ec2.address, "POST", "/moto-api/reset", &[], "").await?;
    same("status of the reset", reset.status, 200)?;
    let seed = http::send(
        ec2.address,
        "POST",
        &format!("/moto-api/seed?a={seed}"),
        &[],
        "",
    )
    .await?;
    same("status of the seed", seed.status, 200)
}
