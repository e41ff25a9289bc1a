//! The metadata services of all instances, each on a port of its own, also of those that are launched later.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Imds, serve};
use crate::ids::InstanceId;
use crate::sim::{ImdsFor, Sim};

/// Instances beyond so many have no metadata service: each needs a port, and the usual limit of open files is 1024.
const MOST: usize = 500;
/// How long after its launch an instance may be without one. Bounds how often all instances are looked through.
const TICK: Duration = Duration::from_millis(20);

/// Which instance's metadata is where. All clones are one.
#[derive(Clone, Debug)]
pub struct ImdsPorts {
    sim: Sim,
    ip: IpAddr,
    shutdown: CancellationToken,
    open: Arc<Mutex<BTreeMap<InstanceId, SocketAddr>>>,
}

impl ImdsPorts {
    /// Listens on `ip` until `shutdown`, for no instance yet.
    #[must_use]
    pub fn new(sim: Sim, ip: IpAddr, shutdown: CancellationToken) -> ImdsPorts {
        let open = Arc::default();
        ImdsPorts {
            sim,
            ip,
            shutdown,
            open,
        }
    }

    /// Opens a port for each instance that has none.
    ///
    /// # Errors
    /// When a port can't be had.
    pub fn open(&self) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<InstanceId> = self.sim.look(|world, _| {
            let alive = world.instances().filter(|instance| instance.is_alive());
            let ids = alive
                .map(|instance| &instance.id)
                .filter(|id| !open.contains_key(*id));
            ids.take(MOST.saturating_sub(open.len())).cloned().collect()
        });
        for id in new {
            let listener = TcpListener::bind((self.ip, 0))?;
            open.insert(id.clone(), listener.local_addr()?);
            let service = Imds {
                sim: self.sim.clone(),
                whose: ImdsFor::Instance(id),
            };
            let serving = serve(listener, self.shutdown.clone(), service);
            // Ends with `shutdown`.
            drop(tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::warn!(%error, "a metadata service ended");
                }
            }));
        }
        Ok(())
    }

    /// Opens ports as instances are launched, until `shutdown`.
    ///
    /// # Errors
    /// When a port can't be had.
    pub async fn follow(self) -> io::Result<()> {
        let mut changes = self.sim.changes();
        let ended = self.shutdown.clone();
        let follow = async {
            while changes.changed().await.is_ok() {
                self.open()?;
                tokio::time::sleep(TICK).await;
            }
            Ok(())
        };
        ended.run_until_cancelled(follow).await.unwrap_or(Ok(()))
    }

    /// Where each is.
    #[must_use]
    pub fn endpoints(&self) -> BTreeMap<InstanceId, SocketAddr> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
