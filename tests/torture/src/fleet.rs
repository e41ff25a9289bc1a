//! A fleet: nodes with real pools around one simulated EC2, in one thread, on virtual time.

mod build;
mod calls;
mod checks;
mod kernel;
mod kubelet;
mod life;
mod outside;
mod quiet;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_sim::ids::Dice;
use aws_sim::{SimTime, World};
use ipam::{CallError, CallId, CallReply, Effect, EniId, Event, IntentStage, RequestId, Time};
use ipnet::IpNet;
use torture::queue::Queue;

pub(crate) use self::kernel::Host;
use crate::act::{Act, Disk, Numbered};
use crate::cover::{Cover, Met};
use crate::node::Node;
use crate::trace::Trace;

/// So many steps after one thing that happened are a pool that asks itself.
const SPINS: u64 = 60_000;

/// One step of so many is timed.
pub(crate) const SAMPLED: u64 = 64;

/// A fleet, and all that is known of it.
pub(crate) struct Fleet {
    pub(crate) now: u64,
    pub(crate) steps: u64,
    pub(crate) cover: Cover,
    pub(crate) trace: Trace,
    pub(crate) broken: Option<Broken>,
    seed: u64,
    aws: World,
    nodes: Vec<Node>,
    queue: Queue<Job>,
    subnets: Vec<aws_sim::SubnetId>,
    /// Security groups that no ENI is born with.
    groups: Vec<String>,
    /// Who owns an address, in the whole fleet.
    owners: HashMap<IpAddr, (usize, u32)>,
    cooling: HashMap<IpAddr, Cooling>,
    /// What others took from nodes, and when.
    taken: BTreeMap<(EniId, IpNet), u64>,
    /// ENIs that others took off their node, and when.
    taken_enis: BTreeMap<EniId, u64>,
    /// Since when an ENI is not ours to touch.
    foreign: BTreeMap<EniId, u64>,
    /// ENIs that nobody knows any more, and why that is so.
    left_over: BTreeMap<EniId, Met>,
    /// Client tokens that a node said may have left an ENI.
    given_up: Vec<String>,
    truth: Truth,
    /// The most calls that any node made within a minute.
    pub(crate) most_calls: usize,
    /// Until then EC2 does nothing.
    outage_until: u64,
    /// How many steps there were when the last thing happened.
    steps_before: u64,
    /// Of the steps that are timed.
    pub(crate) pools_took: Duration,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Which, by the numbers of the list in README.md; 0 is a panic.
    pub(crate) rule: u8,
    pub(crate) what: String,
}

#[derive(Clone, Copy, Debug)]
struct Cooling {
    until: u64,
    node: usize,
    serial: u32,
}

/// What EC2 holds for the nodes, as written.
#[derive(Default)]
struct Truth {
    revision: Option<u64>,
    slots: HashMap<IpNet, (EniId, usize, ipam::Place)>,
}

/// What falls due. The number after the node is the life of its ipamd.
enum Job {
    Wake(usize, Time),
    Written(usize, u32),
    Arrive(usize, u32, CallId),
    Reply(usize, u32, CallId, Box<Result<CallReply, CallError>>),
    Host(usize, u32, u64),
    /// The plugin is gone, and ipamd hears of it.
    Gone(usize, u32, RequestId),
    /// By now it must have been answered.
    Overdue(usize, u32, RequestId),
    Restart(usize, u32),
    Boot(usize),
    Poll(usize, u32),
}

impl Fleet {
    pub(crate) fn play(&mut self, (number, act): Numbered) {
        let many = self.nodes.len();
        self.draw_lots(number);
        self.steps_before = self.steps;
        self.trace.note(self.now, 0, || format!("# {act:?}"));
        match act {
            Act::Pass(millis) => self.pass(millis),
            Act::Add(node, pods, patience) => self.pods_come(node % many, pods, patience),
            Act::Again(node, pod) => self.ask_again(node % many, pod),
            Act::GiveUp(node, pod) => self.give_up(node % many, pod),
            Act::Del(node, pod, count) => self.pods_go(node % many, pod, count),
            Act::DelTwice(node, pod) => self.del_twice(node % many, pod),
            Act::DelUnknown(node) => self.del_unknown(node % many),
            Act::Forget(node, pod) => self.forget(node % many, pod),
            Act::Gc(node) => self.gc(node % many),
            Act::Crash(node, after, fate, down) => self.crash_soon(node % many, after, fate, down),
            Act::Restart(node, down) => self.end_in_order(node % many, down),
            Act::Bound(node, pods) => self.step(node % many, Event::PodsBound(pods)),
            Act::Draining(node, draining) => self.step(node % many, Event::Draining(draining)),
            Act::SetMode(node, mode) => {
                self.nodes[node % many].mode = mode;
                self.step(node % many, Event::SetMode(mode));
            }
            Act::Doubt(node) => self.step(node % many, Event::Doubt),
            Act::Disk(node, disk, millis) => {
                self.cover.met(match disk {
                    Disk::Full => Met::FaultDisk,
                    Disk::Unsure => Met::FaultDiskUnsure,
                    Disk::Slow => Met::FaultSlowDisk,
                });
                self.nodes[node % many].disk.trouble = Some((disk, self.now + millis));
            }
            Act::Kernel(node, millis) => {
                self.nodes[node % many].kernel.refuses_until = self.now + millis;
            }
            Act::Imds(node, millis) => {
                self.nodes[node % many].imds_gone_until = self.now + millis;
            }
            Act::Fault(action, wrong, chance, millis) => self.fault(action, wrong, chance, millis),
            Act::Outage(millis) => self.outage(millis),
            Act::Outside(what, node, which) => self.outside(what, node % many, which),
            Act::Quiet => self.quiet(),
        }
    }

    /// From here on chance is the act's own.
    fn draw_lots(&mut self, number: u32) {
        let mut dice = Dice::new(self.seed ^ (u64::from(number) << 32));
        self.aws.reseed(dice.roll());
        for node in &mut self.nodes {
            node.dice = Dice::new(dice.roll());
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn describe_nodes(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(|node| {
            format!(
                "node {}: {} {} of {}, {:?}",
                node.number,
                node.instance,
                node.facts.instance_type,
                node.facts.subnet_id,
                node.settings
            )
        });
        nodes.collect()
    }

    fn sim_now(&self) -> SimTime {
        SimTime::from_millis(self.now)
    }

    fn push(&mut self, at: u64, job: Job) {
        self.queue.push(at, job);
    }

    /// Time goes on, and what falls due happens.
    fn pass(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.broken.is_none()
            && let Some((at, job)) = self.queue.pop_due(until)
        {
            self.now = self.now.max(at);
            self.due(job);
        }
        self.now = until;
    }

    fn due(&mut self, job: Job) {
        match job {
            Job::Wake(n, at) if self.nodes[n].wake == Some(at) => {
                self.nodes[n].wake = None;
                self.step(n, Event::Wake);
            }
            Job::Written(n, life) if life == self.nodes[n].life => self.books_done(n),
            Job::Arrive(n, life, id) => self.arrive(n, life, id),
            Job::Reply(n, life, id, outcome) if life == self.nodes[n].life => {
                self.replied(n, id, *outcome);
            }
            Job::Host(n, life, id) if life == self.nodes[n].life => self.host_done(n, id),
            Job::Gone(n, life, request) if life == self.nodes[n].life => {
                self.nodes[n].waiting.remove(&request);
                self.step(n, Event::Cancel(request));
            }
            Job::Overdue(n, life, request) if life == self.nodes[n].life => {
                self.overdue(n, request);
            }
            Job::Restart(n, life) if life == self.nodes[n].life => self.start(n),
            Job::Boot(n) => self.boot(n),
            Job::Poll(n, life) if life == self.nodes[n].life => self.poll(n),
            // Of an ipamd that is no more, or a time that it does not wait for any more.
            _ => {}
        }
    }

    /// One event for a node's pool, and all that it wants done.
    fn step(&mut self, n: usize, event: Event) {
        if self.broken.is_some() {
            return;
        }
        let now = self.nodes[n].time(self.now);
        let audit = self.steps.is_multiple_of(256) && self.nodes[n].started;
        let node = &mut self.nodes[n];
        let Some(state) = &mut node.state else {
            return;
        };
        self.steps += 1;
        if self.steps > self.steps_before + SPINS {
            self.fail(6, format!("node {n} never comes to rest: {event:?}"));
            return;
        }
        self.cover.met(met_event(&event));
        self.trace.event(self.now, n, &event);
        let before = audit.then(|| state.view());
        let effects = if self.steps.is_multiple_of(SAMPLED) {
            let began = Instant::now();
            let effects = state.step(now, event);
            self.pools_took += began.elapsed();
            effects
        } else {
            state.step(now, event)
        };
        let life = node.life;
        for effect in effects {
            if self.nodes[n].life != life {
                // It died in the middle.
                return;
            }
            if !self.may_go_on(n, &effect) {
                return;
            }
            self.carry_out(n, effect);
        }
        if self.nodes[n].life == life {
            self.write_if_due(n);
            if let Some(before) = before {
                self.audit(n, Some(before));
            }
        }
    }

    fn carry_out(&mut self, n: usize, effect: Effect) {
        self.trace.effect(self.now, n, &effect);
        match effect {
            Effect::WriteBooks => self.nodes[n].disk.due = true,
            Effect::Answer(request, answer) => self.answered(n, request, answer),
            Effect::Call(id, call) => self.begin_call(n, id, call),
            Effect::Tell(what) => self.told(&what),
            Effect::WakeAt(at) => {
                let due = self.nodes[n].fleet_time(at);
                if due <= self.now {
                    self.fail(7, format!("node {n} wants to be woken in the past: {at:?}"));
                }
                self.nodes[n].wake = Some(at);
                self.push(due, Job::Wake(n, at));
            }
            Effect::PrepareNode(held) => self.begin_host(n, Host::Prepare(held)),
            Effect::SetUpEni(eni) => self.begin_host(n, Host::SetUp(eni, self.now)),
            Effect::TearDownEni {
                eni, place, slots, ..
            } => self.begin_host(n, Host::TearDown(eni, place, slots)),
            Effect::Route { eni, place, slots } => {
                self.begin_host(n, Host::Route(eni, place, slots));
            }
            Effect::Unroute { eni, place, slots } => {
                self.begin_host(n, Host::Unroute(eni, place, slots));
            }
        }
    }

    /// As ipamd's engine: one write at a time, of the books as they are when it begins.
    fn write_if_due(&mut self, n: usize) {
        let slow = self.nodes[n].disk.troubled(self.now) == Some(Disk::Slow);
        let node = &mut self.nodes[n];
        if !node.disk.due || node.disk.writing.is_some() {
            return;
        }
        let Some(state) = &node.state else {
            return;
        };
        let ledger = state.ledger();
        for intent in &ledger.intents {
            self.cover.met(match intent.stage {
                IntentStage::Create => Met::InCreate,
                IntentStage::Attach(_) => Met::InAttach,
                IntentStage::DeleteOnTermination(..) => Met::InDot,
                IntentStage::Detach(..) => Met::InDetach,
                IntentStage::Delete(_) => Met::InDelete,
            });
        }
        if let Some(tombstone) = ledger.tombstones.first() {
            self.cover.met(match tombstone.given_back {
                None => Met::InTombstone,
                Some(_) => Met::InGivenBack,
            });
        }
        node.disk.writing = Some(ledger);
        node.disk.due = false;
        let takes = if slow {
            node.delay(100, 3_000)
        } else {
            node.delay(1, 6)
        };
        let life = node.life;
        self.push(self.now + takes, Job::Written(n, life));
    }

    fn books_done(&mut self, n: usize) {
        let trouble = self.nodes[n].disk.troubled(self.now);
        let node = &mut self.nodes[n];
        let identity = node.identity();
        let Some(ledger) = node.disk.writing.take() else {
            return;
        };
        let version = ledger.version;
        if trouble != Some(Disk::Full) {
            match &mut node.disk.content {
                Some((whose, content)) if *whose == identity => *content = ledger,
                content => *content = Some((identity, ledger)),
            }
        }
        let event = match trouble {
            None | Some(Disk::Slow) => Event::BooksWritten(version),
            Some(Disk::Full | Disk::Unsure) => Event::BooksFailed("disk".to_owned()),
        };
        self.step(n, event);
        self.write_if_due(n);
    }

    fn told(&mut self, what: &str) {
        if let Some((_, rest)) = what.split_once("client token ") {
            let token = rest.split(' ').next().unwrap_or_default();
            self.given_up.push(token.to_owned());
        }
    }

    fn fail(&mut self, rule: u8, what: String) {
        if self.broken.is_none() {
            self.trace
                .note(self.now, 1, || format!("BROKEN, rule {rule}: {what}"));
            self.broken = Some(Broken { rule, what });
        }
    }
}

fn met_event(event: &Event) -> Met {
    match event {
        Event::Start { .. } => Met::EvStart,
        Event::Add(_) => Met::EvAdd,
        Event::Cancel(_) => Met::EvCancel,
        Event::Del { .. } => Met::EvDel,
        Event::Gc { .. } => Met::EvGc,
        Event::BooksWritten(_) => Met::EvWritten,
        Event::BooksFailed(_) => Met::EvFailed,
        Event::CallDone { .. } => Met::EvCallDone,
        Event::NodePrepared(_) => Met::EvPrepared,
        Event::EniSetUp { .. } => Met::EvSetUp,
        Event::EniTornDown { .. } => Met::EvTornDown,
        Event::Routed { .. } => Met::EvRouted,
        Event::Unrouted { .. } => Met::EvUnrouted,
        Event::Doubt => Met::EvDoubt,
        Event::SecurityGroups(_) => Met::EvGroups,
        Event::PodsBound(_) => Met::EvBound,
        Event::Draining(_) => Met::EvDraining,
        Event::SetMode(_) => Met::EvSetMode,
        Event::Wake => Met::EvWake,
        Event::ShutDown => Met::EvShutDown,
    }
}
