//! Who stands in for EC2: LocalStack, moto, and the simulator that all other suites stand on.

use std::net::{SocketAddr, TcpListener};

use aws_sim::{ImdsFor, Sim, World, WorldConfig};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use vpc_lab::Netns;
use vpc_lab::netns::Running;

use crate::imds::{self, Table};
use crate::server::LocalStack;
use crate::{moto, server, venv};

/// One that speaks EC2's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cloud {
    LocalStack,
    Moto,
    Simulator,
}

/// It runs; stopped when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what its end does")]
pub(crate) enum Server {
    LocalStack(LocalStack),
    Moto(Running),
    Simulator(Simulator),
}

impl Cloud {
    pub(crate) const ALL: [Cloud; 3] = [Cloud::LocalStack, Cloud::Moto, Cloud::Simulator];

    /// For the names of tests.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Cloud::LocalStack => "localstack",
            Cloud::Moto => "moto",
            Cloud::Simulator => "simulator",
        }
    }

    /// Where it listens, in a namespace of its own.
    pub(crate) fn address(self) -> &'static str {
        match self {
            Cloud::LocalStack => server::ADDRESS,
            Cloud::Moto => moto::ADDRESS,
            Cloud::Simulator => "127.0.0.1:4567",
        }
    }

    /// Installs it unless it is there. To be called outside the sandbox, which has no way to the index.
    pub(crate) fn install(self) -> anyhow::Result<()> {
        match self {
            Cloud::LocalStack => venv::install(),
            Cloud::Moto => moto::install(),
            Cloud::Simulator => Ok(()),
        }
    }

    /// Starts it and returns when it answers.
    pub(crate) fn start(self, netns: &Netns) -> anyhow::Result<Server> {
        Ok(match self {
            Cloud::LocalStack => Server::LocalStack(LocalStack::start(netns)?),
            Cloud::Moto => Server::Moto(moto::start(netns)?),
            Cloud::Simulator => Server::Simulator(Simulator::start(netns, self.address())?),
        })
    }
}

impl Server {
    /// Serves the instance's metadata. LocalStack and moto have none: a small service tells what the table says.
    pub(crate) fn imds(
        &self,
        netns: &Netns,
        instance_id: &str,
        table: Table,
    ) -> anyhow::Result<SocketAddr> {
        match self {
            Server::LocalStack(_) | Server::Moto(_) => imds::serve(netns, table),
            Server::Simulator(simulator) => simulator.imds(netns, instance_id),
        }
    }
}

/// `aws-sim` in this process, on the namespace's loopback.
#[derive(Debug)]
pub(crate) struct Simulator {
    sim: Sim,
    shutdown: CancellationToken,
    runtime: Option<Runtime>,
}

impl Simulator {
    fn start(netns: &Netns, address: &str) -> anyhow::Result<Self> {
        let listener = netns.run(|| TcpListener::bind(address))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let sim = Sim::new(World::new(WorldConfig::default()));
        let shutdown = CancellationToken::new();
        let (serving, ends) = (sim.clone(), shutdown.clone());
        // What ends it shows as an EC2 that does not answer.
        runtime.spawn(async move { drop(serving.serve_ec2(listener, ends).await) });
        Ok(Self {
            sim,
            shutdown,
            runtime: Some(runtime),
        })
    }

    fn imds(&self, netns: &Netns, instance_id: &str) -> anyhow::Result<SocketAddr> {
        let listener = netns.run(|| TcpListener::bind("127.0.0.1:0"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let whose = ImdsFor::Instance(instance_id.into());
        let (sim, ends) = (self.sim.clone(), self.shutdown.clone());
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move { drop(sim.serve_imds(listener, whose, ends).await) });
        }
        Ok(address)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped inside another runtime.
            runtime.shutdown_background();
        }
    }
}
