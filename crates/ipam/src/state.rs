//! The pool's state and its one transition function.

mod calls;
mod growth;
mod kernel;
mod merge;
mod pods;
mod query;
mod refuse;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::pool::{Address, Claim, Eni, Holding, Life, Owner};
use crate::retry::{self, Jitter, Setback};
use crate::{
    BooksVersion, Call, CallError, CallId, ClientToken, Effect, EniId, Event, IntentStage, Ledger,
    Node, Refusal, RequestId, Sandbox, SecurityGroupId, SubnetId, Targets, Time,
};

/// The pool of one node.
#[derive(Clone, Debug)]
pub struct State {
    node: Node,
    targets: Targets,
    boot_id: String,
    jitter: Jitter,
    now: Time,
    phase: Phase,
    /// ipamd is going: nothing new is begun.
    going: bool,

    enis: BTreeMap<EniId, Eni>,
    /// Where each owner's address is; an index of the claims in `enis`.
    owners: BTreeMap<Sandbox, (EniId, Ipv4Addr)>,
    /// ADDs that are not answered yet, in order of arrival.
    adds: Vec<Add>,
    /// Answers to DEL and GC that wait for the books.
    farewells: Vec<Farewell>,

    /// Oldest first.
    intents: Vec<Intent>,
    calls: BTreeMap<CallId, PendingCall>,
    next_call: CallId,
    /// What EC2 did not do of late, and when to ask again.
    setbacks: BTreeMap<Spot, Setback<CallError>>,
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

/// An ENI on its way; what the books have of it is [`crate::EniIntent`].
#[derive(Clone, Debug)]
struct Intent {
    token: ClientToken,
    subnet: SubnetId,
    groups: Vec<SecurityGroupId>,
    addresses: u32,
    device_index: u32,
    stage: IntentStage,
    since: Time,
    /// The books have this stage from this version on; its call is made only then.
    version: BooksVersion,
    call: Option<CallId>,
    /// The Create may have happened already, so it can't be given up without knowing.
    maybe_created: bool,
    /// The Attach or Delete has an unknown outcome; a Describe with this id or a later one settles it.
    unsettled: Option<CallId>,
    setback: Option<Setback<CallError>>,
}

#[derive(Clone, Debug)]
struct PendingCall {
    call: Call,
    since: Time,
}

/// What a refusal of EC2 is remembered for: no more than it concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    /// Addresses on this ENI.
    Assign(EniId),
    /// Addresses from this subnet.
    Subnet(SubnetId),
    /// New ENIs.
    Create,
}

impl State {
    /// A pool that knows nothing yet; it wants [`Event::Start`] first.
    ///
    /// `boot_id` (`/proc/sys/kernel/random/boot_id`) makes the tokens of this boot's calls differ from all
    /// others, and seeds the jitter of retries.
    #[must_use]
    pub fn new(node: Node, targets: Targets, boot_id: &str) -> Self {
        Self {
            node,
            targets,
            boot_id: boot_id.to_owned(),
            jitter: Jitter::new(boot_id),
            now: Time::default(),
            phase: Phase::New,
            going: false,
            enis: BTreeMap::new(),
            owners: BTreeMap::new(),
            adds: Vec::new(),
            farewells: Vec::new(),
            intents: Vec::new(),
            calls: BTreeMap::new(),
            next_call: CallId(1),
            setbacks: BTreeMap::new(),
            last_error: None,
            describe_setback: None,
            describe_at: None,
            version: BooksVersion(0),
            requested: BooksVersion(0),
            written: BooksVersion(0),
            disk_setback: None,
            preparation: Preparation::default(),
            wake_at: None,
            effects: Vec::new(),
        }
    }

    /// Takes one event and says what has to be done. `now` must not go back.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        let asked_for = matches!(event, Event::Add(_) | Event::Del { .. } | Event::Gc { .. });
        match event {
            Event::Start(ledger) => self.start(ledger),
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
            Event::AddressesRouted {
                eni,
                addresses,
                outcome,
            } => self.addresses_routed(&eni, &addresses, outcome),
            Event::Wake => self.wake_at = None,
            Event::ShutDown => self.shut_down(),
        }
        self.settle(asked_for);
        std::mem::take(&mut self.effects)
    }

    /// Does all that the state now allows. The order matters: answers before deadlines, claims before plans,
    /// plans before anybody is told that there is no hope.
    fn settle(&mut self, asked_for: bool) {
        self.end_cooling();
        self.answer_adds();
        self.answer_farewells();
        self.end_waits();
        self.claim_for_waiters();
        if !self.going && self.phase != Phase::New {
            self.describe_if_needed();
            self.grow();
            self.refuse_hopeless();
            self.call_for_intents();
            self.work_on_node();
        }
        self.write_books(asked_for);
        self.ask_to_wake();
    }

    fn start(&mut self, ledger: Option<Ledger>) {
        if self.phase != Phase::New {
            return;
        }
        self.phase = Phase::Loading;
        let Some(ledger) = ledger else {
            return;
        };
        self.version = ledger.version;
        self.requested = ledger.version;
        self.written = ledger.version;
        for entry in ledger.grants {
            let owner = Owner {
                sandbox: entry.sandbox.clone(),
                pod: entry.pod,
                network: entry.network,
                netns: entry.netns,
                version: ledger.version,
                told: Some(self.now),
            };
            self.owners
                .insert(entry.sandbox, (entry.eni.clone(), entry.address));
            let claim = Claim::Owned(Box::new(owner));
            self.restore(
                entry.eni,
                entry.device_index,
                entry.address,
                claim,
                entry.since,
            );
        }
        for entry in ledger.cooling {
            let claim = Claim::Cooling {
                last: entry.sandbox,
                pod: entry.pod,
                until: entry.until,
            };
            self.restore(entry.eni, 0, entry.address, claim, entry.since);
        }
        self.intents = ledger
            .intents
            .into_iter()
            .map(|entry| Intent {
                token: entry.token,
                subnet: entry.subnet,
                groups: entry.groups,
                addresses: entry.addresses,
                device_index: entry.device_index,
                maybe_created: entry.stage == IntentStage::Create,
                stage: entry.stage,
                since: entry.since,
                version: ledger.version,
                call: None,
                // The Describe of every start settles it.
                unsettled: None,
                setback: None,
            })
            .collect();
    }

    fn restore(&mut self, eni: EniId, index: u32, ip: Ipv4Addr, claim: Claim, since: Time) {
        let now = self.now;
        self.enis
            .entry(eni)
            .or_insert_with(|| Eni::new(index, None, Life::Absent, now))
            .addresses
            .insert(ip, Address::new(Holding::Unconfirmed, claim, since));
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
        let addresses = self.enis.values().flat_map(|eni| eni.addresses.values());
        let cooling = addresses.filter_map(Address::free_at);
        let deadlines = self.adds.iter().map(|add| add.request.deadline);
        let always = cooling.chain(deadlines);
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
        let node = self
            .enis
            .values()
            .filter_map(|eni| Some(eni.trouble.as_ref()?.until));
        let unless_going = intents
            .chain(setbacks)
            .chain(describe)
            .chain(self.describe_at)
            .chain(self.preparation.due)
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
