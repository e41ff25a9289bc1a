//! Kubelets, runtimes and plugins: what they ask, and what they are told.

use std::net::IpAddr;

use ipam::{AddRequest, Answer, Event, Grant, Reason, RequestId};

use super::{Cooling, Fleet, Job};
use crate::cover::Met;
use crate::node::{Owned, Phase, PodSlot, Waiting, millis, serial_of};

const NETWORK: &str = "aws-cni";
/// After a DEL or a GC, the answer comes within this; a disk that hangs is not among the troubles.
const ANSWERED_WITHIN: u64 = 20_000;

impl Fleet {
    pub(super) fn pods_come(&mut self, n: usize, pods: usize, patience: u64) {
        for _ in 0..pods {
            let node = &mut self.nodes[n];
            let Some(at) = node.pods.iter().position(|slot| slot.phase == Phase::None) else {
                return;
            };
            if !node.up {
                return;
            }
            self.cover.met(Met::PodAdd);
            node.next_serial += 1;
            let serial = node.next_serial;
            node.pods[at] = PodSlot {
                serial,
                phase: Phase::Asking,
                link: Vec::new(),
            };
            self.ask(n, serial, patience);
        }
    }

    /// ADD.
    fn ask(&mut self, n: usize, serial: u32, patience: u64) {
        // What lies in the spool is replayed before each ADD.
        self.replay_spool(n);
        let node = &mut self.nodes[n];
        if node.state.is_none() {
            self.cover.met(Met::PodAddDown);
            if let Some(slot) = node.slot_of(serial)
                && slot.phase == Phase::Asking
            {
                slot.phase = Phase::Refused;
            }
            return;
        }
        let node = &mut self.nodes[n];
        let request = node.request();
        let deadline = self.now + patience;
        let gone = false;
        let waiting = Waiting::Add {
            serial,
            deadline,
            gone,
        };
        node.waiting.insert(request, waiting);
        let event = Event::Add(AddRequest {
            request,
            sandbox: node.sandbox(serial),
            pod: ipam::Pod::default(),
            network: NETWORK.to_owned(),
            netns: String::new(),
            deadline: node.time(deadline),
        });
        let life = node.life;
        self.push(deadline + 1, Job::Overdue(n, life, request));
        self.step(n, event);
    }

    pub(super) fn replay_spool(&mut self, n: usize) {
        if self.nodes[n].state.is_none() {
            return;
        }
        for serial in std::mem::take(&mut self.nodes[n].spool) {
            self.ask_del(n, serial);
        }
    }

    pub(super) fn ask_again(&mut self, n: usize, pod: usize) {
        let node = &mut self.nodes[n];
        let at = pod % node.pods.len();
        let (serial, phase) = (node.pods[at].serial, node.pods[at].phase);
        let met = match phase {
            Phase::None => return,
            Phase::Asking => Met::PodAgainWaiting,
            Phase::Refused => Met::PodAgainRefused,
            Phase::Running => Met::PodAgainOwned,
        };
        // Its link is there, and its books are not: the plugin would fail before it asks.
        if node.owned.get(&serial).is_some_and(|owned| owned.stray) {
            return;
        }
        if phase == Phase::Refused {
            node.pods[at].phase = Phase::Asking;
        }
        self.cover.met(met);
        self.ask(n, serial, 30_000);
    }

    /// A plugin that waits is killed. What it asked is answered until ipamd hears of it.
    pub(super) fn give_up(&mut self, n: usize, pod: usize) {
        let node = &mut self.nodes[n];
        let adds = node.waiting.iter_mut();
        let mut adds = adds.filter_map(|(request, waiting)| match waiting {
            Waiting::Add { serial, gone, .. } if !*gone => Some((*request, *serial, gone)),
            _ => None,
        });
        let Some((request, serial, gone)) = adds.nth(pod % 4) else {
            return;
        };
        *gone = true;
        self.cover.met(Met::PodTimesOut);
        if let Some(slot) = node.slot_of(serial)
            && slot.phase == Phase::Asking
        {
            slot.phase = Phase::Refused;
        }
        let (life, way) = (node.life, node.delay(0, 12));
        self.push(self.now + way, Job::Gone(n, life, request));
    }

    pub(super) fn pods_go(&mut self, n: usize, first: usize, count: usize) {
        let many = self.nodes[n].pods.len();
        for at in first..first + count {
            let slot = &mut self.nodes[n].pods[at % many];
            let serial = slot.serial;
            match slot.phase {
                Phase::None => continue,
                Phase::Asking => self.cover.met(Met::PodDelWaiting),
                Phase::Refused | Phase::Running => {}
            }
            slot.phase = Phase::None;
            slot.link.clear();
            self.cover.met(Met::PodDel);
            let departed = &mut self.nodes[n].departed;
            if departed.len() < 8 {
                departed.push(serial);
            } else {
                departed[usize::try_from(serial % 8).unwrap_or(0)] = serial;
            }
            self.ask_del(n, serial);
        }
    }

    pub(super) fn del_twice(&mut self, n: usize, pod: usize) {
        let departed = &self.nodes[n].departed;
        if let Some(serial) = departed.get(pod % 8).copied() {
            self.cover.met(Met::PodDelTwice);
            self.ask_del(n, serial);
        }
    }

    pub(super) fn del_unknown(&mut self, n: usize) {
        self.cover.met(Met::PodDelUnknown);
        self.ask_del(n, 4_000_000_000);
    }

    /// DEL. Its plugin leaves a file when ipamd does not answer.
    pub(super) fn ask_del(&mut self, n: usize, serial: u32) {
        let node = &mut self.nodes[n];
        if node.state.is_none() {
            if node.up {
                self.cover.met(Met::PodSpooled);
                node.spool.insert(serial);
                self.end_claim(n, serial);
            }
            return;
        }
        let request = node.request();
        node.waiting.insert(request, Waiting::Del { serial });
        let sandbox = node.sandbox(serial);
        let life = node.life;
        self.end_claim(n, serial);
        self.push(self.now + ANSWERED_WITHIN, Job::Overdue(n, life, request));
        self.step(n, Event::Del { request, sandbox });
    }

    /// Its pod has gone for good: from now on its addresses cool.
    fn end_claim(&mut self, n: usize, serial: u32) {
        let Some(owned) = self.nodes[n].owned.remove(&serial) else {
            return;
        };
        let until = self.now + millis(self.nodes[n].settings.cooldown);
        for ip in owned.addresses {
            if self.owners.get(&ip) == Some(&(n, serial)) {
                self.owners.remove(&ip);
            }
            if !owned.stray && !owned.lost {
                let cooling = Cooling {
                    until,
                    node: n,
                    serial,
                };
                self.cooling.insert(ip, cooling);
            }
        }
    }

    pub(super) fn forget(&mut self, n: usize, pod: usize) {
        let node = &mut self.nodes[n];
        let at = pod % node.pods.len();
        let slot = &mut node.pods[at];
        if slot.phase == Phase::None || slot.phase == Phase::Asking {
            return;
        }
        let serial = slot.serial;
        slot.phase = Phase::None;
        slot.link.clear();
        self.cover.met(Met::PodForgotten);
        self.end_claim(n, serial);
    }

    pub(super) fn gc(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.state.is_none() {
            return;
        }
        self.cover.met(Met::PodGc);
        let request = node.request();
        let pods = node.pods.iter().filter(|slot| slot.phase != Phase::None);
        let valid = pods.map(|slot| slot.serial).collect::<Vec<_>>();
        let valid = valid.iter().map(|serial| node.sandbox(*serial)).collect();
        node.waiting.insert(request, Waiting::Gc);
        let life = node.life;
        self.push(self.now + ANSWERED_WITHIN, Job::Overdue(n, life, request));
        let network = NETWORK.to_owned();
        self.step(
            n,
            Event::Gc {
                request,
                network,
                valid,
            },
        );
    }

    pub(super) fn answered(&mut self, n: usize, request: RequestId, answer: Answer) {
        let Some(waiting) = self.nodes[n].waiting.remove(&request) else {
            self.fail(
                7,
                format!("node {n} answers {} twice, or unasked", request.0),
            );
            return;
        };
        match (answer, waiting) {
            (
                Answer::Granted(grant),
                Waiting::Add {
                    serial,
                    deadline,
                    gone,
                },
            ) => {
                if self.now > deadline {
                    self.fail(7, format!("node {n} grants {serial} after its deadline"));
                }
                self.granted(n, serial, &grant, gone);
            }
            (Answer::Refused(refusal), Waiting::Add { serial, gone, .. }) => {
                self.cover.met(met_refusal(refusal.reason));
                self.check_refusal(n, serial, &refusal);
                let others = self.nodes[n].waiting.values();
                let asked_twice = others
                    .filter(|it| matches!(it, Waiting::Add { serial: it, gone: false, .. } if *it == serial))
                    .count();
                if let Some(slot) = self.nodes[n].slot_of(serial)
                    && slot.phase == Phase::Asking
                    && !gone
                    && asked_twice == 0
                {
                    slot.phase = Phase::Refused;
                }
            }
            (Answer::Refused(refusal), waiting) => {
                self.cover.met(met_refusal(refusal.reason));
                if let Waiting::Del { serial } = waiting {
                    // Asked again later.
                    self.nodes[n].spool.insert(serial);
                }
            }
            (Answer::Released(_), Waiting::Del { .. }) => {}
            (Answer::Collected(gone), Waiting::Gc) => {
                for sandbox in gone {
                    self.cover.met(Met::PodCollected);
                    let serial = serial_of(&sandbox);
                    if self.nodes[n].owned.contains_key(&serial) {
                        let what = format!("node {n}'s GC takes what {sandbox} still has");
                        self.fail(3, what);
                    }
                }
            }
            (answer, waiting) => {
                self.fail(7, format!("node {n} answers {waiting:?} with {answer:?}"));
            }
        }
    }

    fn granted(&mut self, n: usize, serial: u32, grant: &Grant, gone: bool) {
        let addresses: Vec<IpAddr> = grant.addresses.iter().map(|it| it.address).collect();
        let lost = self.check_grant(n, serial, grant);
        let node = &mut self.nodes[n];
        if gone {
            self.cover.met(Met::PodAnswerMissed);
        }
        // Its runtime has forgotten it meanwhile: a GC takes it.
        if node.slot_of(serial).is_none() {
            return;
        }
        match node.owned.get_mut(&serial) {
            Some(owned) => {
                self.cover.met(Met::PodGrantedAgain);
                if owned.addresses != addresses {
                    let what = format!(
                        "node {n} tells {serial} of {addresses:?}, and told it of {:?} before",
                        owned.addresses
                    );
                    self.fail(3, what);
                    return;
                }
            }
            None => {
                self.cover.met(Met::PodGranted);
                for ip in addresses.iter().filter(|_| !lost) {
                    self.owners.insert(*ip, (n, serial));
                    self.cooling.remove(ip);
                }
                let owned = Owned {
                    addresses: addresses.clone(),
                    stray: false,
                    lost,
                };
                node.owned.insert(serial, owned);
            }
        }
        if let Some(slot) = self.nodes[n].slot_of(serial)
            && !gone
        {
            slot.phase = Phase::Running;
            slot.link = addresses;
        }
    }

    pub(super) fn overdue(&mut self, n: usize, request: RequestId) {
        match self.nodes[n].waiting.get(&request) {
            None | Some(Waiting::Add { gone: true, .. }) => {}
            Some(waiting) => {
                let what = format!("node {n} does not answer {}: {waiting:?}", request.0);
                self.fail(7, what);
            }
        }
    }
}

fn met_refusal(reason: Reason) -> Met {
    match reason {
        Reason::PoolExhausted => Met::RefPool,
        Reason::SubnetExhausted => Met::RefSubnet,
        Reason::Ec2Refused => Met::RefRefused,
        Reason::Ec2Throttled => Met::RefThrottled,
        Reason::Ec2Unavailable => Met::RefUnavailable,
        Reason::DeadlineExceeded => Met::RefDeadline,
        Reason::Starting => Met::RefStarting,
        Reason::BooksFailed => Met::RefBooks,
        Reason::EniFailed => Met::RefEni,
        Reason::AddressLost => Met::RefLost,
        Reason::SandboxDeleted => Met::RefDeleted,
        Reason::ShuttingDown => Met::RefShutDown,
        Reason::PoolFrozen => Met::RefFrozen,
    }
}
