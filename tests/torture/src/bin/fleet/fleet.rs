//! Nodes with real pools around one simulated EC2, in one thread, on virtual time. Nothing goes wrong but what EC2's
//! buckets and its subnets refuse.

mod build;
mod calls;
mod kubelet;

use std::time::Instant;

use aws_sim::ids::Dice;
use aws_sim::world::AttachmentStatus;
use aws_sim::{SimTime, World};
use ipam::{CallError, CallId, CallReply, Effect, Event, Reason, RequestId, Settings, State, Time};
use torture::imds;
use torture::queue::Queue;

pub(crate) use self::build::Plan;
use crate::node::{self, Node};
use crate::tally::Tally;

/// How often ipamd looks at IMDS: see ipamd/src/watch.rs.
const LOOK: u64 = 30_000;

pub(crate) struct Fleet {
    pub(crate) now: u64,
    pub(crate) aws: World,
    pub(crate) nodes: Vec<Node>,
    pub(crate) tally: Tally,
    /// Events that pools have taken.
    pub(crate) steps: u64,
    settings: Settings,
    dice: Dice,
    queue: Queue<Job>,
    churn: Option<u64>,
    keeps_books: bool,
    told_at: Instant,
}

/// What falls due. The number after the node is the life of its ipamd.
enum Job {
    Start(usize),
    Wake(usize, Time),
    Written(usize, u32),
    Arrive(usize, u32, CallId),
    Reply(usize, u32, CallId, Box<Result<CallReply, CallError>>),
    Host(usize, u32, Box<Effect>),
    Look(usize, u32),
    /// A pod's sandbox is made.
    Ask(usize, usize),
    /// A pod goes, and another comes.
    Replace(usize),
}

impl Fleet {
    /// Time goes on, up to `until` or until `enough`. `what` is for people.
    pub(crate) fn run(&mut self, what: &str, until: u64, enough: impl Fn(&Self) -> bool) {
        let mut count = 0_u32;
        while !enough(self)
            && let Some((at, job)) = self.queue.pop_due(until)
        {
            self.now = self.now.max(at);
            self.due(job);
            count = count.wrapping_add(1);
            if count.is_multiple_of(4096) && self.told_at.elapsed().as_secs() >= 15 {
                self.told_at = Instant::now();
                eprintln!(
                    "  {what}: {} s, {} pods run, {} calls, {} throttled",
                    self.now / 1000,
                    self.tally.running,
                    self.tally.asked(),
                    self.tally.throttled()
                );
            }
        }
        if !enough(self) {
            self.now = until;
        }
        self.tally.fill(self.now);
    }

    fn due(&mut self, job: Job) {
        match job {
            Job::Start(n) => self.start(n),
            Job::Wake(n, at) if self.nodes[n].wake == Some(at) => {
                self.nodes[n].wake = None;
                self.step(n, Event::Wake);
            }
            Job::Written(n, life) if life == self.nodes[n].life => self.written(n),
            Job::Arrive(n, life, id) if life == self.nodes[n].life => self.arrive(n, id),
            Job::Reply(n, life, call, outcome) if life == self.nodes[n].life => {
                self.nodes[n].calls.remove(&call);
                let outcome = *outcome;
                self.step(n, Event::CallDone { call, outcome });
            }
            Job::Host(n, life, effect) if life == self.nodes[n].life => self.host(n, *effect),
            Job::Look(n, life) if life == self.nodes[n].life => self.look(n),
            Job::Ask(n, pod) => self.ask(n, pod),
            Job::Replace(n) => self.replace(n),
            // Of an ipamd that is no more, or a time that it does not wait for any more.
            _ => {}
        }
    }

    /// ipamd starts, with the books that are there.
    fn start(&mut self, n: usize) {
        let seen = Some(self.seen(n));
        let node = &mut self.nodes[n];
        node.begin(&self.settings);
        let books = node.books.clone();
        let first = self.below(LOOK);
        if books.is_some() {
            self.watch(n, first);
        }
        self.step(
            n,
            Event::Start {
                books,
                seen,
                lost: false,
            },
        );
    }

    /// All ipamds die and start again, in the same moment.
    pub(crate) fn restart_all(&mut self) {
        for n in 0..self.nodes.len() {
            self.start(n);
        }
    }

    /// The instance is terminated.
    pub(crate) fn terminate(&mut self, n: usize) {
        let instance = self.nodes[n].instance.as_str().to_owned();
        let event = aws_sim::Event::TerminateInstance { instance };
        let now = self.sim_now();
        self.aws.happen(now, &event).expect("an instance that runs");
        let running = self.nodes[n].running();
        self.nodes[n].end();
        self.nodes[n].pods.clear();
        self.tally.gone(self.now, running);
    }

    /// One event for a node's pool, and all that it wants done.
    fn step(&mut self, n: usize, event: Event) {
        let now = node::time(self.now);
        let node = &mut self.nodes[n];
        let Some(state) = &mut node.state else {
            return;
        };
        self.steps += 1;
        for effect in state.step(now, event) {
            self.carry_out(n, effect);
        }
        self.write_if_due(n);
        let node = &mut self.nodes[n];
        if !node.ready && node.state.as_ref().is_some_and(|it| has_started(it, now)) {
            node.ready = true;
            self.pods_come(n);
        }
    }

    fn carry_out(&mut self, n: usize, effect: Effect) {
        let life = self.nodes[n].life;
        match effect {
            Effect::WriteBooks => self.nodes[n].write_due = true,
            Effect::Answer(request, answer) => self.answered(n, request, &answer),
            Effect::Call(id, call) => self.begin_call(n, id, call),
            Effect::Tell(_) => {}
            Effect::WakeAt(at) => {
                self.nodes[n].wake = Some(at);
                self.queue.push(node::fleet_time(at), Job::Wake(n, at));
            }
            effect @ (Effect::PrepareNode(_)
            | Effect::SetUpEni(_)
            | Effect::TearDownEni { .. }
            | Effect::Route { .. }
            | Effect::Unroute { .. }) => self.push(10, Job::Host(n, life, Box::new(effect))),
        }
    }

    /// As ipamd's engine: one write at a time, of the books as they are when it begins.
    fn write_if_due(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if !node.write_due || node.writing.is_some() {
            return;
        }
        let Some(state) = &node.state else {
            return;
        };
        node.writing = Some(state.ledger());
        node.write_due = false;
        let life = node.life;
        self.push(3, Job::Written(n, life));
    }

    fn written(&mut self, n: usize) {
        let Some(ledger) = self.nodes[n].writing.take() else {
            return;
        };
        let version = ledger.version;
        if self.keeps_books {
            self.nodes[n].books = Some(ledger);
        }
        self.step(n, Event::BooksWritten(version));
        self.write_if_due(n);
    }

    /// The kernel does what it is asked.
    fn host(&mut self, n: usize, effect: Effect) {
        let outcome = Ok(());
        let event = match effect {
            // The pods' links are as the books have them: none is a stranger.
            Effect::PrepareNode(_) => Event::NodePrepared(Ok(Vec::new())),
            Effect::SetUpEni(set_up) => {
                self.aws.advance(self.sim_now());
                let there = self.aws.enis_of(&self.nodes[n].instance).any(|eni| {
                    let at = eni.attachment.as_ref();
                    eni.id.as_str() == set_up.eni.as_str()
                        && at.is_some_and(|at| at.status == AttachmentStatus::Attached)
                });
                if !there {
                    let life = self.nodes[n].life;
                    let again = Box::new(Effect::SetUpEni(set_up));
                    self.push(250, Job::Host(n, life, again));
                    return;
                }
                let eni = set_up.eni;
                Event::EniSetUp { eni, outcome }
            }
            Effect::TearDownEni { eni, .. } => Event::EniTornDown { eni, outcome },
            Effect::Route { eni, slots, .. } => Event::Routed {
                eni,
                slots,
                outcome,
            },
            Effect::Unroute { eni, slots, .. } => Event::Unrouted {
                eni,
                slots,
                outcome,
            },
            _ => return,
        };
        self.step(n, event);
    }

    /// ipamd looks at IMDS all the time. Here it does until that agrees with the pool, and again after each call: nobody else
    /// changes what a node has, so that all looks in between show the same, and none helps before the first Describe.
    fn watch(&mut self, n: usize, after: u64) {
        let node = &mut self.nodes[n];
        if !node.sight.looks {
            node.sight.looks = true;
            let life = node.life;
            self.push(after, Job::Look(n, life));
        }
    }

    /// As ipamd's watch: doubt when IMDS shows twice what the pool does not hold.
    fn look(&mut self, n: usize) {
        let seen = self.seen(n);
        let node = &mut self.nodes[n];
        let Some(state) = &node.state else {
            return;
        };
        let sight = &mut node.sight;
        sight.looks = false;
        if state.agrees_with(&seen) {
            (sight.doubted, sight.told) = (None, None);
            return;
        }
        if sight.doubted.as_ref() != Some(&seen) {
            sight.doubted = Some(seen);
        } else if sight.told.as_ref() != Some(&seen) {
            sight.told = Some(seen);
            self.step(n, Event::Doubt);
        }
        self.watch(n, LOOK);
    }

    fn seen(&mut self, n: usize) -> Vec<ipam::SeenEni> {
        let now = self.aws.advance(self.sim_now());
        let then = now.minus(self.aws.config.imds_lag);
        imds::seen(&self.aws, &self.nodes[n].instance, then)
    }

    fn sim_now(&self) -> SimTime {
        SimTime::from_millis(self.now)
    }

    /// So many milliseconds from now.
    fn push(&mut self, after: u64, job: Job) {
        self.queue.push(self.now + after, job);
    }

    /// Any number below.
    fn below(&mut self, bound: u64) -> u64 {
        let bound = usize::try_from(bound).unwrap_or(usize::MAX);
        u64::try_from(self.dice.below(bound)).unwrap_or(0)
    }
}

fn has_started(state: &State, now: Time) -> bool {
    !matches!(state.readiness(now), Err(refusal) if refusal.reason == Reason::Starting)
}

/// Where an answer goes that nobody waits for.
const NOBODY: RequestId = RequestId(0);
