//! EC2 and IMDS as the nodes meet them.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;
use aws_sim::{ImdsFor, Sim};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::kernel::Kernel;
use crate::netns::Netns;
use crate::places;

/// EC2 and IMDS, listening in the namespace of the VPC, and who tells the kernel's thread of changes.
#[derive(Debug)]
pub(super) struct Servers {
    shutdown: CancellationToken,
    runtime: Option<Runtime>,
}

impl Servers {
    /// Starts both on threads of their own, and the messages to the kernel's thread.
    pub(super) fn start(vpc: &Netns, sim: &Sim, kernel: &Kernel) -> anyhow::Result<Servers> {
        let listen = |address: Ipv4Addr| -> anyhow::Result<TcpListener> {
            let listener = vpc
                .run(|| TcpListener::bind((address, 80)))
                .with_context(|| format!("listening at {address} in the VPC"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let (ec2, imds) = (listen(places::EC2)?, listen(places::IMDS)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("aws-sim")
            .enable_all()
            .build()?;
        let shutdown = CancellationToken::new();
        {
            let (sim, shutdown) = (sim.clone(), shutdown.clone());
            runtime.spawn(async move {
                if let Err(error) = sim.serve_ec2(ec2, shutdown).await {
                    tracing::error!(%error, "EC2 ended");
                }
            });
        }
        {
            let (sim, shutdown) = (sim.clone(), shutdown.clone());
            runtime.spawn(async move {
                if let Err(error) = sim.serve_imds(imds, ImdsFor::Peer, shutdown).await {
                    tracing::error!(%error, "IMDS ended");
                }
            });
        }
        let mut changes = {
            let _inside = runtime.enter();
            sim.changes()
        };
        let bell = kernel.bell()?;
        runtime.spawn(async move { while changes.changed().await.is_ok() && bell.ring() {} });
        Ok(Servers {
            shutdown,
            runtime: Some(runtime),
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            // Not waiting is what lets the lab be dropped inside another runtime.
            runtime.shutdown_background();
        }
    }
}
