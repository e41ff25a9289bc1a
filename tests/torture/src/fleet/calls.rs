//! Calls to EC2, with the SDK's patience and repeats: see `Patience` in crates/cloud/src/ec2.rs.

use std::time::Duration;

use aws_sim::{Ec2Error, Effect as Strike, Fault, Refused, SimTime, When};
use ipam::{Call, CallError, CallErrorKind, CallId, CallReply, Event, SlotKind, Whose};
use torture::sdk::{self, Next};

use super::{Fleet, Job};
use crate::act::{ACTIONS, Wrong};
use crate::cover::Met;
use crate::ec2::Attempt;
use crate::node::{Flight, millis};

impl Fleet {
    pub(super) fn begin_call(&mut self, n: usize, id: CallId, call: Call) {
        self.cover.met(met_call(&call));
        self.check_call(n, &call);
        let node = &mut self.nodes[n];
        let flight = Flight {
            call,
            began: self.now,
            attempt: 1,
            arrives_at: self.now + node.delay(1, 40),
            arrived: false,
            view: 0,
        };
        let (life, at) = (node.life, flight.arrives_at);
        node.calls.insert(id, flight);
        self.push(at, Job::Arrive(n, life, id));
    }

    /// A request reaches EC2.
    pub(super) fn arrive(&mut self, n: usize, life: u32, id: CallId) {
        let now = self.sim_now();
        let wall = self.aws.unix_millis(now) / 1000;
        let lag = millis(self.aws.config.describe_lag);
        let node = &mut self.nodes[n];
        if life != node.life {
            self.arrive_late(n, life, id);
            return;
        }
        let Some(flight) = node.calls.get_mut(&id) else {
            return;
        };
        let call = flight.call.clone();
        flight.arrived = true;
        flight.view = self.now.saturating_sub(lag);
        let (began, attempt) = (flight.began, flight.attempt);
        let sent = node.client.send(&mut self.aws, now, wall, &call);
        if sent.mismatch {
            self.cover.met(Met::FaultMismatch);
        }
        let tried = sdk::Tried {
            now: self.now,
            began,
            attempt,
            backoff: 200 << attempt,
        };
        let next = sdk::next(&call, sent, tried);
        if next.is_throttled() {
            self.cover.met(Met::FaultBucket);
        }
        self.trace.note(self.now, 3, || {
            let said = match &next {
                Next::Done(_, Ok(_)) => "done".to_owned(),
                Next::Done(_, Err(error)) | Next::Again(_, error) => {
                    format!("{:?} {}: {}", error.kind, error.code, error.message)
                }
            };
            format!("EC2: node {n}'s {} ({}): {said}", call.action(), id.0)
        });
        match next {
            Next::Again(at, _) => {
                self.cover.met(Met::FaultSdkRetry);
                if let Some(flight) = self.nodes[n].calls.get_mut(&id) {
                    flight.attempt += 1;
                    flight.arrived = false;
                    flight.arrives_at = at;
                }
                self.push(at, Job::Arrive(n, life, id));
            }
            Next::Done(at, outcome) => {
                let way = self.nodes[n].delay(1, 40);
                self.push(at + way, Job::Reply(n, life, id, Box::new(outcome)));
            }
        }
    }

    /// A request that was sent before a crash.
    fn arrive_late(&mut self, n: usize, life: u32, id: CallId) {
        let now = self.sim_now();
        let wall = self.aws.unix_millis(now) / 1000;
        let node = &mut self.nodes[n];
        let Some((client, call)) = node.ghosts.remove(&(life, id)) else {
            return;
        };
        self.cover.met(Met::CrashCallArrives);
        let what = || format!("EC2: node {n}'s {} ({}), late", call.action(), id.0);
        self.trace.note(self.now, 2, what);
        let sent = client.send(&mut self.aws, now, wall, &call);
        if let Attempt::Answered(Ok(CallReply::Created(facts))) = sent.attempt {
            self.left_if_unknown(n, &facts.id);
        }
    }

    pub(super) fn replied(&mut self, n: usize, id: CallId, outcome: Result<CallReply, CallError>) {
        let node = &mut self.nodes[n];
        let Some(flight) = node.calls.remove(&id) else {
            return;
        };
        match &outcome {
            Err(error) => self.cover.met(met_kind(error.kind)),
            Ok(CallReply::Enis(_)) => {
                node.knows.all = flight.view;
                for (eni, changed) in &node.knows.changed {
                    // The pool believes a Describe only that long after its own change.
                    if flight.began >= changed + 30_000 {
                        node.knows.until.insert(eni.clone(), flight.view);
                    }
                }
            }
            Ok(CallReply::Orphans(_)) => node.knows.loose = flight.view,
            Ok(CallReply::Created(facts)) => {
                node.knows.changed.insert(facts.id.clone(), self.now);
            }
            Ok(reply) => {
                if let Some(eni) = flight.call.eni() {
                    node.knows.changed.insert(eni.clone(), self.now);
                    if let CallReply::Attached(_) = reply {
                        // A Describe from before shows only what was attached then.
                        node.knows.until.remove(eni);
                    }
                    if let CallReply::Assigned(slots) = reply {
                        // A Describe from before the reply tells nothing of what it brings, whenever it was taken.
                        let until = node.knows.until.get(eni).copied().unwrap_or(0);
                        let brought = slots.iter().map(|net| (*net, until));
                        node.knows.brought.extend(brought);
                    }
                }
            }
        }
        let twice = node.chance(3).then(|| outcome.clone());
        let life = node.life;
        self.step(n, Event::CallDone { call: id, outcome });
        if let Some(outcome) = twice
            && self.nodes[n].life == life
        {
            self.cover.met(Met::FaultReplyTwice);
            self.step(n, Event::CallDone { call: id, outcome });
        }
    }

    /// Pods come and go meanwhile.
    pub(super) fn outage(&mut self, lasts: u64) {
        self.aws.faults.clear();
        self.outage_until = 0;
        self.fault(0, Wrong::ServerError, 1000, lasts);
        self.outage_until = self.now + lasts;
        for minute in 0..14 {
            for n in 0..self.nodes.len() {
                self.pods_come(n, 2, 20_000);
                self.pods_go(n, minute, 1);
            }
            self.pass(60_000);
        }
    }

    pub(super) fn fault(&mut self, action: usize, wrong: Wrong, chance: u16, lasts: u64) {
        let (effect, met) = match wrong {
            Wrong::ServerError => (
                Strike::Error(Ec2Error {
                    status: 500,
                    ..Ec2Error::client("InternalError", "An internal error has occurred")
                }),
                Met::FaultServerError,
            ),
            Wrong::Throttled => (Strike::Throttled, Met::FaultThrottled),
            Wrong::Credentials => (Strike::Credentials(Refused::Expired), Met::FaultCredentials),
            Wrong::Latency => {
                let latency = Duration::from_millis(u64::from(chance) * 20);
                (Strike::Latency(latency), Met::FaultLatency)
            }
            Wrong::HangBefore => (Strike::HangBefore, Met::FaultHangBefore),
            Wrong::HangAfter => (Strike::HangAfter, Met::FaultHangAfter),
            Wrong::ResetBefore => (Strike::ResetBefore, Met::FaultResetBefore),
            Wrong::ResetAfter => (Strike::ResetAfter, Met::FaultResetAfter),
            Wrong::Truncated => (Strike::Truncated, Met::FaultTruncated),
            Wrong::Twice => (Strike::Twice, Met::FaultTwice),
        };
        if self.now < self.outage_until {
            return;
        }
        self.cover.met(met);
        if self.aws.faults.rules().count() >= 5 {
            self.aws.faults.clear();
        }
        let until = SimTime::from_millis(self.now + lasts);
        let fault = Fault::on(ACTIONS[action % ACTIONS.len()], effect)
            .when(When::Chance(f64::from(chance) / 1000.0))
            .during(self.sim_now(), until);
        self.aws.faults.add(fault);
    }
}

fn met_call(call: &Call) -> Met {
    match call {
        Call::DescribeEnis => Met::CallDescribe,
        Call::DescribeSubnets => Met::CallSubnets,
        Call::CreateEni { .. } => Met::CallCreate,
        Call::AttachEni { .. } => Met::CallAttach,
        Call::DeleteOnTermination { .. } => Met::CallDot,
        Call::SetGroups { .. } => Met::CallGroups,
        Call::Assign { kind, .. } => match kind {
            SlotKind::Address => Met::CallAssignAddress,
            SlotKind::Prefix => Met::CallAssignPrefix,
            SlotKind::Ipv6Prefix => Met::CallAssignIpv6,
        },
        Call::Unassign { .. } => Met::CallUnassign,
        Call::DetachEni { .. } => Met::CallDetach,
        Call::DeleteEni { .. } => Met::CallDelete,
        Call::DescribeOrphans(Whose::Instance) => Met::CallOrphansOwn,
        Call::DescribeOrphans(Whose::Cluster) => Met::CallOrphansCluster,
        Call::DeleteOrphan { .. } => Met::CallDeleteOrphan,
    }
}

fn met_kind(kind: CallErrorKind) -> Met {
    match kind {
        CallErrorKind::Throttled => Met::KindThrottled,
        CallErrorKind::SubnetExhausted => Met::KindSubnet,
        CallErrorKind::PrefixesExhausted => Met::KindPrefixes,
        CallErrorKind::EniLimit => Met::KindEniLimit,
        CallErrorKind::AddressLimit => Met::KindAddressLimit,
        CallErrorKind::NotFound => Met::KindNotFound,
        CallErrorKind::InUse => Met::KindInUse,
        CallErrorKind::InstanceNotReady => Met::KindNotReady,
        CallErrorKind::Refused => Met::KindRefused,
        CallErrorKind::Unavailable => Met::KindUnavailable,
        CallErrorKind::Unknown => Met::KindUnknown,
        CallErrorKind::Other => Met::KindOther,
    }
}
