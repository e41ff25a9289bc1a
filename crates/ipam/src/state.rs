//! The pool's state and its one transition function.

mod asking;
mod calls;
mod ending;
mod facts;
mod groups;
mod growth;
mod kernel;
mod merge;
mod mode;
mod pods;
mod query;
mod refuse;
mod restart;
mod subnets;
mod sweep;
mod why;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

use self::mode::Troubles;
use self::subnets::Survey;
use self::sweep::Sweeps;
pub use self::why::{Retry, WaitsFor, Why};
use crate::pool::Pool;
use crate::retry::{self, Jitter, Setback};
use crate::{
    BooksVersion, Call, CallError, CallId, ClientToken, Effect, EniId, Event, Governor,
    IntentStage, Mode, Node, Place, Refusal, RequestId, SecurityGroupId, Settings, SlotKind,
    SubnetId, Time,
};

/// The pool of one node.
#[derive(Clone, Debug)]
pub struct State {
    node: Node,
    settings: Settings,
    boot_id: String,
    jitter: Jitter,
    now: Time,
    phase: Phase,
    /// ipamd is going: nothing new is begun.
    going: bool,
    /// Pods bound to the node that have not been added yet.
    bound: u32,
    /// The node drains, or may not be scheduled to.
    draining: bool,
    /// The mode that a person has set.
    set_mode: Option<Mode>,
    troubles: Troubles,

    pool: Pool,
    /// ADDs that are not answered yet, in order of arrival.
    adds: Vec<Add>,
    /// Until when pods are expected again whose ADD was late before the node's turn had come.
    turned_away: VecDeque<Time>,
    /// Answers to DEL and GC that wait for the books.
    farewells: Vec<Farewell>,

    /// Oldest first.
    intents: Vec<Intent>,
    /// Slots on their way out, and those that are gone so recently that an older view of EC2 may still show them.
    tombstones: BTreeMap<IpNet, Tombstone>,
    /// ENIs deleted so recently that an older view of EC2 may still show them, and when.
    deleted: BTreeMap<EniId, Time>,
    /// When to look for what can be given back.
    shrink_at: Option<Time>,
    /// What served who waits when that was last looked at, of each family.
    supply_before: (u64, u64),
    lost_before: u64,
    /// When what is wanted beyond who waits is asked for.
    warm_at: Option<Time>,
    calls: BTreeMap<CallId, PendingCall>,
    next_call: CallId,
    /// How often EC2 may be asked.
    governor: Governor,
    survey: Survey,
    /// What EC2 did not do of late, and when to ask again.
    setbacks: BTreeMap<Spot, Setback<CallError>>,
    /// How many of a kind a subnet is asked for at once, where it did not have all that was asked for.
    at_once: BTreeMap<(SubnetId, SlotKind), u32>,
    /// The last failure of what would make the pool grow; none since it grew.
    last_error: Option<CallError>,
    describe_setback: Option<Setback<CallError>>,
    /// When to Describe for other reasons than an unknown outcome.
    describe_at: Option<Time>,

    /// Of the ledger as it is now.
    version: BooksVersion,
    /// Of the last write that was asked for and has not failed.
    requested: BooksVersion,
    /// What is on disk.
    written: BooksVersion,
    disk_setback: Option<Setback<String>>,

    preparation: Preparation,
    sweeps: Sweeps,

    /// What began to cool in the last step.
    freed: Vec<IpAddr>,

    /// The last [`Effect::WakeAt`].
    wake_at: Option<Time>,
    effects: Vec<Effect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// [`Event::Start`] has not come.
    New,
    /// The books are read; EC2's answer is awaited.
    Loading,
    Running,
}

/// Where [`Effect::PrepareNode`] stands.
#[derive(Clone, Debug, Default)]
struct Preparation {
    /// It was done once: links and routes may be made.
    done: bool,
    under_way: bool,
    /// When to ask for it (again).
    due: Option<Time>,
    setback: Option<Setback<String>>,
    /// What pods' links had then and nobody knows: neither the books, nor EC2 yet.
    strangers: BTreeSet<IpAddr>,
}

/// An ADD that is not answered yet.
#[derive(Clone, Debug)]
struct Add {
    request: crate::AddRequest,
    since: Time,
}

/// An answer that waits for the books.
#[derive(Clone, Debug)]
struct Farewell {
    request: RequestId,
    version: BooksVersion,
    answer: crate::Answer,
}

/// An ENI on its way in or out; what the books have of it is [`crate::EniIntent`].
#[derive(Clone, Debug)]
struct Intent {
    token: ClientToken,
    subnet: SubnetId,
    groups: Vec<SecurityGroupId>,
    ipv4: Option<(SlotKind, u32)>,
    ipv6_prefixes: u32,
    place: Place,
    stage: IntentStage,
    since: Time,
    /// The books have this stage from this version on; its call is made only then.
    version: BooksVersion,
    call: Option<CallId>,
    /// Of one that goes: what the node had for it is undone.
    torn_down: TornDown,
    /// The Create may have happened already, so it can't be given up without knowing.
    maybe_created: bool,
    /// The Attach, Detach or Delete has an unknown outcome; a Describe with this id or a later one settles it.
    unsettled: Option<CallId>,
    setback: Option<Setback<CallError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TornDown {
    No,
    Asked,
    Done,
}

/// A slot on its way out.
#[derive(Clone, Debug)]
struct Tombstone {
    eni: EniId,
    /// The books have it from this version on; it is given back only then.
    version: BooksVersion,
    /// When EC2 said that it is gone.
    given_back: Option<Time>,
}

#[derive(Clone, Debug)]
struct PendingCall {
    call: Call,
    since: Time,
}

/// What a refusal of EC2 is remembered for: no more than it concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    /// This kind on this ENI.
    Assign(EniId, SlotKind),
    /// Giving back on this ENI.
    Unassign(EniId),
    /// The security groups of this ENI.
    Groups(EniId),
    /// This kind from this subnet.
    Subnet(SubnetId, SlotKind),
    /// New ENIs.
    Create,
}

impl State {
    /// A pool that knows nothing yet; it wants [`Event::Start`] first.
    ///
    /// `boot_id` (`/proc/sys/kernel/random/boot_id`) makes the tokens of this boot's calls differ from all
    /// others, and seeds the jitter of retries.
    #[must_use]
    pub fn new(node: Node, settings: Settings, boot_id: &str) -> Self {
        Self {
            governor: Governor::new(settings.cluster_size, node.instance_id.as_str()),
            node,
            settings,
            boot_id: boot_id.to_owned(),
            jitter: Jitter::new(boot_id),
            now: Time::default(),
            phase: Phase::New,
            going: false,
            bound: 0,
            draining: false,
            set_mode: None,
            troubles: Troubles::default(),
            pool: Pool::default(),
            adds: Vec::new(),
            turned_away: VecDeque::new(),
            farewells: Vec::new(),
            intents: Vec::new(),
            tombstones: BTreeMap::new(),
            deleted: BTreeMap::new(),
            shrink_at: None,
            supply_before: (0, 0),
            lost_before: 0,
            warm_at: None,
            calls: BTreeMap::new(),
            next_call: CallId(1),
            survey: Survey::default(),
            setbacks: BTreeMap::new(),
            at_once: BTreeMap::new(),
            last_error: None,
            describe_setback: None,
            describe_at: None,
            version: BooksVersion(0),
            requested: BooksVersion(0),
            written: BooksVersion(0),
            disk_setback: None,
            preparation: Preparation::default(),
            sweeps: Sweeps::default(),
            freed: Vec::new(),
            wake_at: None,
            effects: Vec::new(),
        }
    }

    /// Takes one event and says what has to be done. `now` must not go back.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        self.freed.clear();
        let asked_for = matches!(event, Event::Add(_) | Event::Del { .. } | Event::Gc { .. });
        match event {
            Event::Start { books, seen, lost } => {
                self.governor.begin(self.now);
                self.begin_sweeps(&books, lost);
                self.start(books, seen.as_deref());
            }
            Event::Add(request) => self.add(request),
            Event::Cancel(request) => self.cancel(request),
            Event::Del { request, sandbox } => self.del(request, &sandbox),
            Event::Gc {
                request,
                network,
                valid,
            } => self.gc(request, &network, &valid),
            Event::BooksWritten(version) => {
                self.written = self.written.max(version.min(self.version));
                self.requested = self.requested.max(self.written);
                self.disk_setback = None;
            }
            Event::BooksFailed(why) => self.books_failed(why),
            Event::CallDone { call, outcome } => self.call_done(call, outcome),
            Event::NodePrepared(outcome) => self.node_prepared(outcome),
            Event::EniSetUp { eni, outcome } => self.eni_set_up(&eni, outcome),
            Event::EniTornDown { eni, outcome } => self.eni_torn_down(&eni, outcome),
            Event::Routed {
                eni,
                slots,
                outcome,
            } => self.routed(&eni, &slots, outcome),
            Event::Unrouted {
                eni,
                slots,
                outcome,
            } => self.unrouted(&eni, &slots, outcome),
            Event::Doubt => self.doubt(),
            Event::SecurityGroups(groups) => self.regroup(groups),
            Event::PodsBound(pods) => {
                self.bound = pods;
                self.look_for_too_much();
            }
            Event::Draining(draining) => {
                self.draining = draining;
                self.look_for_too_much();
            }
            Event::SetMode(mode) => {
                self.set_mode = mode;
                self.look_for_too_much();
            }
            Event::Wake => self.wake_at = None,
            Event::ShutDown => self.shut_down(),
        }
        self.settle(asked_for);
        std::mem::take(&mut self.effects)
    }

    /// Does all that the state now allows. The order matters: answers before deadlines, claims before plans,
    /// plans before anybody is told that there is no hope.
    fn settle(&mut self, asked_for: bool) {
        if self.pool.end_cooling(self.now) {
            self.changed();
        }
        self.answer_adds();
        self.answer_farewells();
        self.end_waits();
        self.forget_turned_away();
        self.claim_for_waiters();
        if !self.going && self.phase != Phase::New {
            self.forget_tombstones();
            self.end_troubles();
            self.describe_if_needed();
            let waiters = self.waiting();
            self.grow(waiters);
            self.refuse_hopeless(waiters);
            self.shrink();
            self.call_for_intents();
            self.give_back();
            self.keep_groups();
            self.work_on_node();
            self.sweep();
        }
        self.write_books(asked_for);
        self.ask_to_wake();
    }

    fn shut_down(&mut self) {
        self.going = true;
        let adds: Vec<_> = self.adds.iter().map(|add| add.request.request).collect();
        for request in adds {
            let refusal = self.refuse_shutting_down();
            self.refuse_add(request, refusal);
        }
    }

    /// The ledger has changed: what is done because of that waits for this version.
    fn changed(&mut self) -> BooksVersion {
        self.version.0 += 1;
        self.version
    }

    fn write_books(&mut self, asked_for: bool) {
        if self.version <= self.requested || self.phase == Phase::New {
            return;
        }
        // A plugin gets a fresh verdict on the disk; on our own behalf it is tried with restraint.
        let waits = self
            .disk_setback
            .as_ref()
            .is_some_and(|setback| setback.until > self.now);
        if waits && !asked_for && !self.going {
            return;
        }
        self.requested = self.version;
        self.effects.push(Effect::WriteBooks);
    }

    fn books_failed(&mut self, why: String) {
        self.disk_setback = Some(retry::after_local(
            self.disk_setback.as_ref(),
            why,
            self.now,
            &mut self.jitter,
        ));
        self.requested = self.written;
        let refusal = self.refuse_books();
        for farewell in std::mem::take(&mut self.farewells) {
            self.answer(farewell.request, crate::Answer::Refused(refusal.clone()));
        }
        let adds: Vec<_> = self
            .adds
            .iter()
            .filter(|add| !self.is_told(&add.request.sandbox))
            .map(|add| add.request.request)
            .collect();
        for request in adds {
            self.refuse_add(request, refusal.clone());
        }
    }

    fn answer(&mut self, request: RequestId, answer: crate::Answer) {
        self.effects.push(Effect::Answer(request, answer));
    }

    fn tell(&mut self, what: String) {
        self.effects.push(Effect::Tell(what));
    }

    /// Refuses an ADD, and undoes what was made ready for it alone.
    fn refuse_add(&mut self, request: RequestId, refusal: Refusal) {
        self.drop_add(request);
        self.answer(request, crate::Answer::Refused(refusal));
    }

    fn ask_to_wake(&mut self) {
        let at = self.next_due();
        if let Some(at) = at
            && self.wake_at != Some(at)
        {
            self.wake_at = Some(at);
            self.effects.push(Effect::WakeAt(at));
        }
    }

    /// The first moment at which time alone changes something.
    fn next_due(&self) -> Option<Time> {
        let deadlines = self.adds.iter().map(|add| add.request.deadline);
        let always = deadlines.chain(self.pool.next_cooled());
        let disk = self
            .disk_setback
            .iter()
            .filter(|_| self.version > self.requested)
            .map(|setback| setback.until);
        let intents = self
            .intents
            .iter()
            .filter_map(|intent| Some(intent.setback.as_ref()?.until));
        let setbacks = self.setbacks.values().map(|setback| setback.until);
        let describe = self.describe_setback.iter().map(|setback| setback.until);
        let odd = (!self.pool.is_even()).then(|| self.pool.enis());
        let node = odd
            .into_iter()
            .flatten()
            .filter_map(|(_, eni)| Some(eni.trouble.as_ref()?.until));
        let unless_going = intents
            .chain(setbacks)
            .chain(describe)
            .chain(self.describe_at)
            .chain(self.shrink_at)
            .chain(self.warm_at)
            .chain(self.survey.next_due())
            .chain(self.turned_away.front().copied())
            .chain(self.governor.held(self.now).map(|held| held.until))
            .chain(self.troubles.next_due(self.set_mode))
            .chain(self.next_forgotten())
            .chain(self.preparation.due)
            .chain(self.sweeps.next_due())
            .chain(node)
            .filter(|_| !self.going);
        // What is due now was done just now; what it waits for besides comes as an event.
        always
            .chain(disk)
            .chain(unless_going)
            .filter(|at| *at > self.now)
            .min()
    }
}

#[cfg(test)]
mod tests;
