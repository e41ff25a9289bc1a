//! Has the kernel forget the connections of pods that are gone.
//!
//! For that the kernel walks through its whole table of connections: 8 ms for the 262,144 buckets of a node with 8 GiB or
//! more, in which the CPU does nothing else and nobody's wait for all CPUs ends, as wiring has some. So it is done aside, and
//! rarely: addresses that are freed soon after each other share a walk.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use datapath::Host;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::sleep;

/// Takes addresses that were freed.
#[derive(Clone, Debug)]
pub(crate) struct Forgetter(mpsc::UnboundedSender<Vec<IpAddr>>);

/// How long the first address waits for others, unless it cools for too short a time.
const GATHER: Duration = Duration::from_secs(2);

/// At the most so many frees share a walk.
const MOST: usize = 1024;

impl Forgetter {
    /// Starts the task; it ends with the last of these. Needs a runtime of several threads. `cooldown` is how long no pod
    /// gets an address that was freed.
    pub(crate) fn start(host: Arc<Host>, cooldown: Duration) -> Self {
        let gather = GATHER.min(cooldown / 2);
        let (freed, mut queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            // At a start there may be some that cool no longer.
            let mut pause = Duration::ZERO;
            while let Some(first) = queue.recv().await {
                sleep(pause).await;
                pause = gather;
                let mut frees: Vec<Vec<IpAddr>> = vec![first];
                while frees.len() < MOST
                    && let Ok(more) = queue.try_recv()
                {
                    frees.push(more);
                }
                let addresses: Vec<IpAddr> = frees.into_iter().flatten().collect();
                block_in_place(|| Handle::current().block_on(forget(&host, &addresses)));
            }
        });
        Self(freed)
    }

    /// The next pod that has the address would get what is sent in the connections of the last one.
    pub(crate) fn forget(&self, addresses: Vec<IpAddr>) {
        // The task is there as long as this is.
        drop(self.0.send(addresses));
    }
}

async fn forget(host: &Host, addresses: &[IpAddr]) {
    match host.forget_connections(addresses).await {
        Ok(count) => tracing::debug!(?addresses, count, "connections of gone pods forgotten"),
        Err(error) => tracing::warn!(
            ?addresses,
            "connections of gone pods could not be forgotten: {}",
            crate::sentence(&error)
        ),
    }
}
