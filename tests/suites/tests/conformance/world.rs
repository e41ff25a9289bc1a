//! The simulator as a target: a fresh world for each check, served on a port of its own.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use aws_sim::{ImdsFor, InstanceId, Latencies, Sim, World, WorldConfig};
use tokio_util::sync::CancellationToken;

use crate::check::{Check, Outcome};
use crate::ec2::{self, Ec2};

/// Short, so that checks are quick; not zero, so that states between are there.
const LATENCY: Duration = Duration::from_millis(60);

/// A served simulator, until dropped.
pub(crate) struct Insides {
    pub(crate) sim: Sim,
    shutdown: CancellationToken,
}

impl Insides {
    /// Serves an instance's metadata on a port of its own.
    pub(crate) fn serve_imds(&self, instance: &str) -> Outcome<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sim, shutdown) = (self.sim.clone(), self.shutdown.clone());
        let whose = ImdsFor::Instance(InstanceId::from(instance));
        tokio::spawn(async move { sim.serve_imds(listener, whose, shutdown).await });
        Ok(address)
    }
}

impl Drop for Insides {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A world as EC2's defaults have it, but quicker.
pub(crate) fn config() -> WorldConfig {
    WorldConfig {
        latencies: Latencies {
            create: LATENCY,
            attach: LATENCY,
            detach: LATENCY,
            launch: LATENCY,
            terminate: LATENCY,
            ..Latencies::default()
        },
        imds_lag: Duration::ZERO,
        ..WorldConfig::default()
    }
}

/// A new world, empty as a new account without a default VPC, and a client.
pub(crate) fn serve(config: WorldConfig) -> Outcome<Ec2> {
    let sim = Sim::new(World::new(config));
    let shutdown = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (served, until) = (sim.clone(), shutdown.clone());
    tokio::spawn(async move { served.serve_ec2(listener, until).await });
    Ok(Ec2 {
        sdk: ec2::client(address, "AKIAIOSFODNN7EXAMPLE"),
        address,
        image: "ami-0c2b8ca1dad447f8a",
        patience: Duration::from_secs(20),
        insides: Some(Insides { sim, shutdown }),
    })
}

/// A check that looks inside, and how its world differs from [`config`].
pub(crate) struct Inside {
    pub(crate) check: Check,
    pub(crate) config: fn(&mut WorldConfig),
}

/// A check in a world of its own kind.
pub(crate) fn with(check: Check, config: fn(&mut WorldConfig)) -> Inside {
    Inside { check, config }
}

/// A check in a world as the others have it.
pub(crate) fn as_is(check: Check) -> Inside {
    with(check, |_| {})
}
