//! Keeps the kernel as it is to be: looks when netlink says that something changed, and puts back what is missing.
//! docs/reconciler.md says what is looked after.

mod pace;
mod repairs;

use std::collections::BTreeSet;
use std::time::Duration;

use datapath::{Events, Fault, HostError, KernelError, Part, PodPlan, Wanted};
use ipam::InKernel;
use tokio::time::{Instant, sleep, sleep_until};

use self::pace::Pace;
pub(crate) use self::repairs::Repairs;
use crate::effects::Hands;
use crate::engine::{Engine, Gone};

/// A look without any event: for settings that the kernel does not tell of.
const EVERY: Duration = Duration::from_mins(1);
/// What belongs together comes within this time.
const GATHER: Duration = Duration::from_millis(20);
/// When to look again while the node is being prepared.
const SOON: Duration = Duration::from_secs(1);

/// What looks, and with what.
#[derive(Debug)]
pub(crate) struct Reconciler {
    pub(crate) hands: Hands,
    pub(crate) engine: Engine,
    pub(crate) repairs: Repairs,
}

/// What a look ended with.
#[derive(Debug)]
enum Seen {
    /// The node is being prepared.
    NotYet,
    /// All of it.
    All {
        /// Something was missing and was put back.
        repaired: bool,
        /// Pods' links are not whole, and may be in the making.
        doubtful: bool,
    },
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Gone(#[from] Gone),
}

impl Reconciler {
    /// Runs until the pool is gone.
    pub(crate) async fn run(mut self) {
        if self.engine.started().await.is_err() {
            return;
        }
        let mut events = None;
        let mut pace = Pace::new(Instant::now());
        let mut suspects = BTreeSet::new();
        let mut next = Instant::now();
        loop {
            if events.is_none() {
                events = listen();
            }
            tokio::select! {
                heard = next_event(&mut events) => if let Err(error) = heard {
                    tracing::warn!("changes in the kernel can't be listened to: {}", crate::sentence(&error));
                    events = None;
                },
                // The sender goes with ipamd.
                changed = self.hands.node.changed() => if changed.is_err() {
                    return;
                },
                () = sleep_until(next) => {}
            }
            sleep(GATHER).await;
            sleep_until(pace.earliest(Instant::now())).await;
            // What was heard until now is seen by this look.
            if let Some(Err(error)) = events.as_mut().map(Events::drain) {
                tracing::warn!(
                    "changes in the kernel can't be listened to: {}",
                    crate::sentence(&error)
                );
                events = None;
            }
            let begun = Instant::now();
            let seen = self.look(&mut suspects).await;
            let now = Instant::now();
            tracing::debug!(took = ?(now - begun), ?seen, "looked at the kernel");
            next = match seen {
                Ok(Seen::NotYet) => now + SOON,
                Ok(Seen::All { repaired, doubtful }) => {
                    if !repaired {
                        pace.looked(now);
                    } else if pace.repaired(now) {
                        tracing::warn!(
                            "something undoes what ipamd makes in the kernel, again and again: it is put back more \
                             seldom from now on. docs/reconciler.md says what to look for"
                        );
                    }
                    if doubtful {
                        pace.doubted(now)
                    } else {
                        now + EVERY
                    }
                }
                Err(LookError::Gone(Gone)) => return,
                Err(LookError::Host(error)) => {
                    let again = pace.failed(now);
                    tracing::warn!(
                        "the kernel could not be compared with what should be there: {}; it is tried again in {:?}",
                        crate::sentence(&error),
                        again - now
                    );
                    again
                }
            };
        }
    }

    async fn look(&self, suspects: &mut BTreeSet<String>) -> Result<Seen, LookError> {
        // First the turn, so that what the pool says of the kernel is so until the end.
        let turn = self.hands.host.turn().await;
        let Some(in_kernel) = self.engine.look(|state, _| state.in_kernel()).await? else {
            return Ok(Seen::NotYet);
        };
        let faults = turn.look(&self.wanted(in_kernel)).await?;
        let (pods, mut faults): (Vec<Fault>, Vec<Fault>) = faults
            .into_iter()
            .partition(|fault| fault.part() == Part::Pod);
        let before = std::mem::take(suspects);
        for pod in pods {
            if before.contains(&pod.to_string()) {
                faults.push(pod);
            } else {
                suspects.insert(pod.to_string());
            }
        }
        let seen = Seen::All {
            repaired: !faults.is_empty(),
            doubtful: !suspects.is_empty(),
        };
        if faults.is_empty() {
            return Ok(seen);
        }
        let said = repairs::by_part(&faults);
        turn.mend(faults).await?;
        for (part, what) in &said {
            tracing::warn!(
                kind = part.name(),
                count = what.len(),
                "put back in the kernel what was missing: {}",
                repairs::list(what)
            );
        }
        self.repairs.count(said);
        Ok(seen)
    }

    fn wanted(&self, in_kernel: InKernel) -> Wanted {
        let enis = in_kernel.enis.iter();
        let pods = in_kernel.pods.into_iter();
        Wanted {
            node: self.hands.node_plan(in_kernel.held),
            egress: self.hands.egress,
            enis: enis.map(|eni| self.hands.eni_plan(eni)).collect(),
            pods: pods
                .map(|(sandbox, addresses)| PodPlan {
                    container_id: sandbox.container_id.to_string(),
                    ifname: sandbox.ifname.to_string(),
                    addresses,
                })
                .collect(),
        }
    }
}

fn listen() -> Option<Events> {
    Events::open()
        .inspect_err(|error| {
            let why = crate::sentence(error);
            tracing::warn!("changes in the kernel can't be listened to: {why}");
        })
        .ok()
}

async fn next_event(events: &mut Option<Events>) -> Result<(), KernelError> {
    match events {
        // Lost events are as good as any: a look sees all.
        Some(events) => events.next().await.map(drop),
        None => std::future::pending().await,
    }
}
