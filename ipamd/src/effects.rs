//! Carries out what the pool wants done beyond this process: EC2 and the kernel. Nothing is decided here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud::Ec2;
use datapath::{EgressPlan, EniPlan, EniSlots, Host, HostError, NodePlan};
use ipam::{Call, CallId, Effect, EniSetUp, Event, Held, Place};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::engine::{Outcomes, Work};
use crate::forget::Forgetter;

/// How long the link of an ENI that EC2 calls attached is waited for before the pool is told. The pool tries
/// again: drivers have been seen to take minutes.
const LINK_PATIENCE: Duration = Duration::from_secs(30);

/// What effects are carried out with.
#[derive(Clone, Debug)]
pub(crate) struct Hands {
    pub(crate) ec2: Arc<Ec2>,
    pub(crate) host: Arc<Host>,
    pub(crate) connections: Forgetter,
    /// What pods share, but for the addresses: the pool says which. The VPC's CIDRs may change.
    pub(crate) node: watch::Receiver<NodePlan>,
    /// How pods reach the family that they have no address in, if at all.
    pub(crate) egress: Option<EgressPlan>,
    pub(crate) eni_mtu: u32,
    pub(crate) tasks: TaskTracker,
    pub(crate) outcomes: Outcomes,
}

impl Hands {
    /// Begins what the pool wants done, or what follows from what it did.
    pub(crate) fn begin(&self, work: Work) {
        match work {
            Work::Effect(effect) => self.begin_effect(effect),
            Work::Freed(addresses) => self.connections.forget(addresses),
        }
    }

    /// Its outcome comes as an event.
    fn begin_effect(&self, effect: Effect) {
        let hands = self.clone();
        match effect {
            Effect::Call(id, call) => {
                self.tasks.spawn(async move { hands.call(id, call).await });
            }
            Effect::PrepareNode(held) => {
                self.tasks.spawn(async move {
                    let outcome = hands.prepare(held).await;
                    let outcome = outcome.map_err(|error| crate::sentence(&error));
                    hands.outcomes.tell(Event::NodePrepared(outcome));
                });
            }
            Effect::SetUpEni(eni) => {
                self.tasks.spawn(async move { hands.set_up(eni).await });
            }
            Effect::Route { eni, place, slots } => {
                self.tasks.spawn(async move {
                    let held = hands.host.hold(at(place), &slots).await;
                    let outcome = held.map_err(|error| crate::sentence(&error));
                    if let Err(why) = &outcome {
                        tracing::error!(%eni, ?slots, "slots could not be routed: {why}");
                    }
                    hands.outcomes.tell(Event::Routed {
                        eni,
                        slots,
                        outcome,
                    });
                });
            }
            Effect::Unroute { eni, place, slots } => {
                self.tasks.spawn(async move {
                    let released = hands.host.release(at(place), &slots).await;
                    let outcome = released.map_err(|error| crate::sentence(&error));
                    if let Err(why) = &outcome {
                        tracing::error!(%eni, ?slots, "routes could not be removed: {why}");
                    }
                    hands.outcomes.tell(Event::Unrouted {
                        eni,
                        slots,
                        outcome,
                    });
                });
            }
            Effect::TearDownEni {
                eni,
                place,
                primary_address,
                slots,
            } => {
                self.tasks.spawn(async move {
                    let outcome = hands.tear_down(place, primary_address, &slots).await;
                    let outcome = outcome.map_err(|error| crate::sentence(&error));
                    match &outcome {
                        Ok(()) => tracing::info!(%eni, %place, "ENI taken down"),
                        Err(why) => tracing::error!(%eni, "ENI could not be taken down: {why}"),
                    }
                    hands.outcomes.tell(Event::EniTornDown { eni, outcome });
                });
            }
            // The pool's task sees to these itself.
            Effect::WriteBooks | Effect::Answer(..) | Effect::Tell(_) | Effect::WakeAt(_) => {}
        }
    }

    pub(crate) fn node_plan(&self, held: Vec<Held>) -> NodePlan {
        let held = held.into_iter().map(|held| EniSlots {
            place: at(held.place),
            slots: held.slots,
        });
        NodePlan {
            held: held.collect(),
            ..self.node.borrow().clone()
        }
    }

    pub(crate) fn eni_plan(&self, eni: &EniSetUp) -> EniPlan {
        EniPlan {
            mac: datapath::Mac(eni.mac.0),
            place: at(eni.place),
            primary_address: eni.primary_address,
            subnet: eni.subnet_cidr,
            mtu: self.eni_mtu,
            ipv6: self.node.borrow().ipv6,
        }
    }

    async fn prepare(&self, held: Vec<Held>) -> Result<Vec<IpAddr>, HostError> {
        let plan = self.node_plan(held);
        self.host.prepare(&plan).await?;
        self.host.prepare_egress(self.egress).await?;
        tracing::info!(enis = plan.held.len(), "prepared the node's network");
        self.host.pods().await
    }

    async fn tear_down(
        &self,
        place: Place,
        primary_address: Ipv4Addr,
        slots: &[IpNet],
    ) -> Result<(), HostError> {
        self.host.release(at(place), slots).await?;
        self.host.take_down_eni(at(place), primary_address).await
    }

    async fn call(&self, id: CallId, call: Call) {
        let begun = Instant::now();
        tracing::debug!(?call, "calling EC2");
        let outcome = self.ec2.call(&call).await;
        let action = call.action();
        let eni = call.eni().map(ToString::to_string).unwrap_or_default();
        let millis = begun.elapsed().as_millis();
        match &outcome {
            Ok(reply) => {
                tracing::info!(action, eni, millis, "EC2 call done");
                tracing::debug!(?reply, "EC2's reply");
            }
            Err(error) => {
                tracing::warn!(action, eni, millis, kind = ?error.kind, "EC2 call failed: {error}");
            }
        }
        self.outcomes.tell(Event::CallDone { call: id, outcome });
    }

    async fn set_up(&self, eni: EniSetUp) {
        let outcome = if eni.place == Place::PRIMARY {
            // `Host::prepare` has done what there is to do on the primary ENI.
            Ok(())
        } else {
            let plan = self.eni_plan(&eni);
            let outcome = self.host.set_up_eni(&plan, LINK_PATIENCE).await;
            outcome.map_err(|error| crate::sentence(&error))
        };
        match &outcome {
            Ok(()) => tracing::info!(eni = %eni.eni, place = %eni.place, "ENI set up"),
            Err(why) => tracing::error!(eni = %eni.eni, "ENI could not be set up: {why}"),
        }
        self.outcomes.tell(Event::EniSetUp {
            eni: eni.eni,
            outcome,
        });
    }
}

/// As the kernel's side names it.
pub(crate) fn at(place: Place) -> datapath::Place {
    datapath::Place {
        card: place.card,
        device_index: place.device_index,
    }
}
