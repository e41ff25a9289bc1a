//! A node around a pool: EC2, the kernel and the disk as the tests need them, and what must always be true.

mod consistent;
mod fingerprint;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

pub(super) use self::watch::Watch;
use crate::*;

pub(super) const COOLDOWN: u64 = 30_000;
/// No test is about more than this.
const DAY: u64 = 86_400_000;
const SLOTS: u32 = 4;
const MAX_ENIS: u32 = 3;

/// How an effect goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Works,
    /// Nothing happens, and the pool is told why.
    Fails(CallErrorKind),
    /// It happens, but nobody knows.
    WorksUnknown,
}

#[derive(Clone, Debug)]
struct ModelEni {
    facts: EniFacts,
    token: Option<ClientToken>,
    made_at: u64,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) state: State,
    node: Node,
    settings: Settings,
    pub(super) disk: Ledger,
    enis: BTreeMap<EniId, ModelEni>,
    /// ENIs that others have left, attached to nothing; with when, and their age then.
    pub(super) loose: BTreeMap<EniId, (LooseEni, u64)>,
    made: u32,
    pub(super) subnet_left: u32,
    next_address: u32,
    /// The subnets of the node's zone.
    pub(super) zone: Vec<SubnetFacts>,
    /// Subnets that have no address.
    pub(super) exhausted: BTreeSet<SubnetId>,
    /// EC2 gives no whole /28 now.
    pub(super) fragmented: bool,
    routed: BTreeSet<(EniId, IpNet)>,
    set_up: BTreeSet<EniId>,
    prepared: bool,
    books_lost: bool,
    /// Whether IMDS can be read when ipamd starts.
    pub(super) imds: bool,
    /// The pods' links in the kernel.
    pub(super) links: BTreeMap<Sandbox, Vec<IpAddr>>,
    /// What the pool wants done, oldest first.
    pub(super) todo: Vec<Effect>,
    /// What was done, but the pool does not know yet.
    pub(super) replies: Vec<Event>,
    pub(super) wake: Option<u64>,
    pub(super) told: Vec<String>,
    /// Of those that are watched.
    pub(super) watch: Option<Watch>,
    /// All calls ever asked for.
    pub(super) asked: Vec<Call>,
    next_request: u64,
    waiting: BTreeMap<RequestId, (Option<Sandbox>, u64)>,
    pub(super) answers: BTreeMap<RequestId, Answer>,
    pub(super) owned: BTreeMap<Sandbox, (Vec<IpAddr>, u64)>,
    /// Until when an address cools, and who had it.
    cooling: BTreeMap<IpAddr, (u64, Sandbox)>,
}

pub(super) fn node() -> Node {
    Node {
        instance_id: InstanceId::new("i-1"),
        instance_type: "m5.test".to_owned(),
        availability_zone: "eu-west-1a".to_owned(),
        vpc_id: VpcId::new("vpc-1"),
        primary_eni: EniId::new("eni-0"),
        primary_mac: Mac([2, 0, 0, 0, 0, 0]),
        subnet_id: SubnetId::new("subnet-1"),
        subnet_cidr: "10.0.0.0/16".parse().unwrap(),
        security_groups: vec![SecurityGroupId::new("sg-1")],
        limits: InstanceLimits {
            enis_per_card: vec![MAX_ENIS],
            ipv4_slots_per_eni: SLOTS,
            ipv6_slots_per_eni: SLOTS,
            prefixes: true,
        },
    }
}

pub(super) fn targets(warm_ip: u32, minimum_ip: u32) -> Settings {
    settings(Families::V4, false, warm_ips(warm_ip, minimum_ip))
}

pub(super) fn warm_ips(warm: u32, minimum: u32) -> Warm {
    Warm::Targets(WarmTargets {
        ip: Some(warm),
        minimum_ip: Some(minimum),
        ..WarmTargets::default()
    })
}

pub(super) fn settings(families: Families, delegation: bool, warm: Warm) -> Settings {
    Settings {
        families,
        delegation,
        warm,
        max_enis_per_card: None,
        all_cards: false,
        max_pods: None,
        cooldown: Duration::from_millis(COOLDOWN),
        subnets: Subnets::default(),
        cluster_size: 0,
        sweep: Sweep::Off,
    }
}

/// A pool that has not started. With targets of nothing it asks only for what who waits needs: aws-node's targets can't
/// say that.
fn state(node: &Node, settings: &Settings) -> State {
    let mut state = State::new(node.clone(), settings.clone(), "boot");
    let nothing = WarmTargets {
        ip: Some(0),
        minimum_ip: Some(0),
        ..WarmTargets::default()
    };
    if settings.warm == Warm::Targets(nothing) {
        state.step(Time(0), Event::SetMode(Some(Mode::AllocateOnly)));
    }
    state
}

/// A start without books.
pub(super) fn fresh() -> Event {
    Event::Start {
        books: None,
        seen: None,
        lost: false,
    }
}

pub(super) fn sandbox(n: u32) -> Sandbox {
    Sandbox {
        container_id: format!("c{n}").into(),
        ifname: "eth0".into(),
    }
}

pub(super) fn error(kind: CallErrorKind, action: &'static str) -> CallError {
    CallError {
        kind,
        action,
        code: format!("{kind:?}"),
        message: "EC2's own words".to_owned(),
        request_id: Some("req-1".to_owned()),
    }
}

impl World {
    /// Not started yet.
    pub(super) fn new(settings: Settings) -> Self {
        Self::on(node(), settings)
    }

    /// On another node than usual; not started yet.
    pub(super) fn on(node: Node, settings: Settings) -> Self {
        let mut world = Self {
            now: 1_000,
            state: state(&node, &settings),
            node,
            settings,
            disk: Ledger::default(),
            enis: BTreeMap::new(),
            loose: BTreeMap::new(),
            made: 0,
            subnet_left: 1_000,
            next_address: 0,
            zone: Vec::new(),
            exhausted: BTreeSet::new(),
            fragmented: false,
            routed: BTreeSet::new(),
            set_up: BTreeSet::new(),
            prepared: false,
            books_lost: false,
            imds: false,
            links: BTreeMap::new(),
            todo: Vec::new(),
            replies: Vec::new(),
            wake: None,
            told: Vec::new(),
            watch: None,
            asked: Vec::new(),
            next_request: 0,
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            owned: BTreeMap::new(),
            cooling: BTreeMap::new(),
        };
        world.make_eni(None, None, 0);
        let primary = world.enis.get_mut(&EniId::new("eni-0")).unwrap();
        primary.facts.attachment = Some(Attachment {
            id: AttachmentId::new("attach-0"),
            place: Place::PRIMARY,
            complete: true,
            delete_on_termination: true,
        });
        world
    }

    /// Started, and calm.
    pub(super) fn started(settings: Settings) -> Self {
        let mut world = Self::new(settings);
        world.step(fresh());
        world.calm();
        world
    }

    /// Everything works until nothing is left to do at this moment.
    pub(super) fn calm(&mut self) {
        self.go_on_until(|world| world.todo.is_empty() && world.replies.is_empty());
    }

    /// Everything works but this, until nothing else is left to do at this moment.
    pub(super) fn calm_but(&mut self, what: impl Fn(&Effect) -> bool) {
        while let Some(at) = self.todo.iter().position(|effect| !what(effect)) {
            self.carry_out(at, Fate::Works);
            while !self.replies.is_empty() {
                self.deliver(0);
            }
        }
    }

    /// Everything works, and time goes on, until this is to be done.
    pub(super) fn until_to_do(&mut self, what: impl Fn(&Effect) -> bool) {
        self.go_on_until(|world| world.todo.iter().any(&what));
    }

    /// Everything works, and time goes on, until this is so.
    pub(super) fn go_on_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            if is_so(self) {
                return;
            }
            if !self.todo.is_empty() {
                self.carry_out(0, Fate::Works);
            } else if !self.replies.is_empty() {
                self.deliver(0);
            } else {
                self.advance(1_000);
            }
        }
        panic!("never: {:#?}", self.state.view());
    }

    pub(super) fn add(&mut self, n: u32, patience: u64) -> RequestId {
        let request = self.request();
        self.waiting
            .insert(request, (Some(sandbox(n)), self.now + patience));
        self.step(Event::Add(AddRequest {
            request,
            sandbox: sandbox(n),
            pod: Pod::default(),
            network: "aws-cni".to_owned(),
            netns: String::new(),
            deadline: Time(self.now + patience),
        }));
        request
    }

    pub(super) fn del(&mut self, n: u32) -> RequestId {
        let request = self.request();
        self.waiting.insert(request, (None, u64::MAX));
        self.leave(&sandbox(n));
        self.step(Event::Del {
            request,
            sandbox: sandbox(n),
        });
        request
    }

    pub(super) fn gc(&mut self, valid: Vec<Sandbox>) -> RequestId {
        let request = self.request();
        self.waiting.insert(request, (None, u64::MAX));
        let before = self.owned.clone();
        for (sandbox, (_, since)) in &before {
            if !valid.contains(sandbox) && self.now - since >= 60_000 {
                self.leave(sandbox);
            }
        }
        self.step(Event::Gc {
            request,
            network: "aws-cni".to_owned(),
            valid,
        });
        request
    }

    pub(super) fn cancel(&mut self, nth: usize) {
        let adds = self
            .waiting
            .iter()
            .filter(|(_, (sandbox, _))| sandbox.is_some());
        let Some((request, _)) = adds.skip(nth).map(|(id, w)| (*id, w.clone())).next() else {
            return;
        };
        self.waiting.remove(&request);
        self.step(Event::Cancel(request));
    }

    /// Time goes on; the pool is woken whenever it wanted to be.
    pub(super) fn advance(&mut self, millis: u64) {
        let until = self.now + millis;
        assert!(until < DAY, "it never ends");
        while let Some(wake) = self.wake.filter(|wake| *wake <= until) {
            assert!(wake > self.now, "a wake that is due already spins");
            self.now = wake;
            self.wake = None;
            self.step(Event::Wake);
        }
        self.now = until;
    }

    /// ipamd dies and comes back. Calls on their way may have arrived at EC2 or not.
    pub(super) fn crash(&mut self, arrive: bool) {
        for effect in std::mem::take(&mut self.todo) {
            if let (Effect::Call(_, call), true) = (effect, arrive) {
                self.ec2(&call).ok();
            }
        }
        let seen = self.imds.then(|| self.seen());
        self.restart(seen);
    }

    /// ipamd starts with the books that are on disk, and with what IMDS shows: it may be behind.
    pub(super) fn restart(&mut self, seen: Option<Vec<SeenEni>>) {
        self.begin(Some(self.disk.clone()), seen, false);
    }

    fn begin(&mut self, books: Option<Ledger>, seen: Option<Vec<SeenEni>>, lost: bool) {
        self.todo.clear();
        self.replies.clear();
        self.waiting.clear();
        self.wake = None;
        self.state = state(&self.node, &self.settings);
        // The kernel keeps what it has; but the new ipamd must not count on it.
        self.routed.clear();
        self.set_up.clear();
        self.prepared = false;
        self.step(Event::Start { books, seen, lost });
    }

    /// A person ends ipamd and starts it with other settings.
    pub(super) fn restart_with(&mut self, settings: Settings) {
        self.settings = settings;
        self.disk = self.state.ledger();
        self.restart(None);
    }

    /// ipamd dies just after its last write of the books, before it could say so to anybody.
    pub(super) fn crash_after_write(&mut self) {
        self.disk = self.state.ledger();
        self.crash(false);
    }

    /// ipamd dies, and its books with it: only the kernel knows the pods.
    pub(super) fn crash_without_books(&mut self) {
        self.disk = Ledger::default();
        self.books_lost = true;
        self.owned.clear();
        self.cooling.clear();
        self.crash(true);
    }

    /// ipamd dies, and its books are damaged; it knows no more than that there were some.
    pub(super) fn crash_with_books_that_are_not_trusted(&mut self) {
        self.owned.clear();
        self.cooling.clear();
        self.links.clear();
        self.disk = Ledger::default();
        self.books_lost = true;
        self.begin(None, None, true);
    }

    /// The same as Wake at this very moment must ask for nothing more.
    fn assert_settled(&mut self) {
        for effect in self.state.step(Time(self.now), Event::Wake) {
            match effect {
                Effect::WakeAt(at) => self.wake = Some(at.0),
                other => panic!("not settled: {other:?}"),
            }
        }
    }

    /// From now on all changes are noted.
    pub(super) fn watched(mut self) -> Self {
        self.watch = Some(Watch::default());
        self
    }

    pub(super) fn step(&mut self, event: Event) {
        let before = self.watch.as_ref().map(|_| self.state.view());
        let kind = watch::kind(&event);
        let effects = self.state.step(Time(self.now), event);
        if let (Some(watch), Some(before)) = (&mut self.watch, before) {
            watch.note(&before, kind, &self.state.view());
        }
        for effect in effects {
            match effect {
                Effect::Answer(request, answer) => self.answered(request, answer),
                Effect::WakeAt(at) => {
                    assert!(at.0 > self.now, "wakes in the past");
                    self.wake = Some(at.0);
                }
                Effect::Tell(what) => self.told.push(what),
                Effect::Call(id, call) => {
                    self.assert_may_call(&call);
                    self.asked.push(call.clone());
                    self.todo.push(Effect::Call(id, call));
                }
                other => {
                    self.assert_may_do(&other);
                    self.todo.push(other);
                }
            }
        }
        self.assert_settled();
        self.assert_invariants();
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn leave(&mut self, sandbox: &Sandbox) {
        self.links.remove(sandbox);
        let (addresses, _) = self.owned.remove(sandbox).unwrap_or_default();
        for ip in addresses {
            self.cooling
                .insert(ip, (self.now + COOLDOWN, sandbox.clone()));
        }
    }

    fn answered(&mut self, request: RequestId, answer: Answer) {
        let (whose, deadline) = self
            .waiting
            .remove(&request)
            .expect("answered once, and asked");
        if let (Answer::Granted(grant), Some(whose)) = (&answer, whose) {
            assert!(self.now < deadline, "granted after the deadline");
            assert_eq!(
                grant.addresses.len(),
                self.settings.families.all().len(),
                "one of each family"
            );
            for it in &grant.addresses {
                self.assert_may_have(&whose, it);
            }
            let addresses: Vec<IpAddr> = grant.addresses.iter().map(|it| it.address).collect();
            self.links.insert(whose.clone(), addresses.clone());
            let before = self
                .owned
                .insert(whose.clone(), (addresses.clone(), self.now));
            if let Some((before, since)) = before {
                assert_eq!(before, addresses, "asked again, answered otherwise");
                self.owned.get_mut(&whose).unwrap().1 = since;
            }
        }
        self.answers.insert(request, answer);
    }

    fn assert_may_have(&self, whose: &Sandbox, it: &GrantedAddress) {
        let ip = it.address;
        for (other, theirs) in &self.links {
            assert!(
                other == whose || !theirs.contains(&ip),
                "{ip} has the link of {other}"
            );
        }
        for (other, (theirs, _)) in &self.owned {
            assert!(
                other == whose || !theirs.contains(&ip),
                "{ip} has two owners"
            );
        }
        if let Some((until, last)) = self.cooling.get(&ip) {
            assert!(*until <= self.now || last == whose, "{ip} still cools");
        }
        let facts = &self.enis[&it.eni].facts;
        let slot = facts.slots.iter().find(|net| net.contains(&ip));
        let slot = *slot.unwrap_or_else(|| panic!("EC2 does not hold {ip}"));
        let attachment = facts.attachment.as_ref().expect("attached");
        assert_eq!(attachment.place, it.place);
        assert!(self.set_up.contains(&it.eni), "link not set up");
        assert!(
            self.routed.contains(&(it.eni.clone(), slot)),
            "{ip} not routed"
        );
        let mut entries = self.disk.grants.iter();
        let entry = entries.find(|entry| entry.addresses.iter().any(|it| it.address == ip));
        assert_eq!(entry.expect("on disk").sandbox, *whose);
        let tombstones = &self.disk.tombstones;
        assert!(
            !tombstones
                .iter()
                .any(|it| it.slot == slot && it.given_back.is_none()),
            "{ip} is being given back"
        );
    }

    /// The books know of what the node is to forget; and what a preparation under way would undo or make again is left
    /// until it is done.
    fn assert_may_do(&self, effect: &Effect) {
        let known = match effect {
            Effect::Unroute { slots, .. } => slots.iter().all(|net| {
                let mut tombstones = self.disk.tombstones.iter();
                tombstones.any(|it| it.slot == *net)
            }),
            Effect::TearDownEni { eni, .. } => {
                let mut intents = self.disk.intents.iter();
                intents.any(|it| it.stage.eni() == Some(eni))
            }
            Effect::Route { .. } => true,
            _ => return,
        };
        assert!(known, "the books do not know of {effect:?}");
        let prepares = |it: &Effect| matches!(it, Effect::PrepareNode(_));
        assert!(!self.todo.iter().any(prepares), "{effect:?} meanwhile");
    }

    fn assert_may_call(&self, call: &Call) {
        let intents = &self.disk.intents;
        match call {
            Call::CreateEni { token, .. } => {
                assert!(
                    intents.iter().any(|intent| intent.token == *token),
                    "no intent on disk"
                );
            }
            Call::AttachEni { eni, .. }
            | Call::DeleteEni { eni }
            | Call::DeleteOnTermination { eni, .. } => {
                let intent = intents
                    .iter()
                    .find(|intent| intent.stage.eni() == Some(eni));
                assert!(intent.is_some(), "no intent on disk for {call:?}");
            }
            Call::DetachEni { eni, .. } => {
                let intent = intents
                    .iter()
                    .find(|intent| intent.stage.eni() == Some(eni));
                assert!(intent.is_some(), "no intent on disk for {call:?}");
                assert!(!self.set_up.contains(eni), "{eni} is still set up");
                self.assert_unused(&self.enis[eni].facts.slots);
            }
            Call::Unassign { eni, slots } => {
                for net in slots {
                    let known = self.disk.tombstones.iter().any(|it| it.slot == *net);
                    assert!(known, "{net} is given back, and the books do not know");
                    assert!(
                        !self.routed.contains(&(eni.clone(), *net)),
                        "{net} is given back and still routed"
                    );
                }
                self.assert_unused(slots);
            }
            Call::DeleteOrphan { eni } => {
                let mut known = intents.iter().filter_map(|intent| intent.stage.eni());
                assert!(known.all(|it| it != eni), "{eni} is not left over");
                assert!(self.state.pool.eni(eni).is_none(), "{eni} is the pool's");
            }
            Call::DescribeEnis
            | Call::DescribeOrphans(_)
            | Call::DescribeSubnets
            | Call::SetGroups { .. }
            | Call::Assign { .. } => {}
        }
        let busy = self.todo.iter().any(|effect| {
            matches!(effect, Effect::Call(_, other) if call.eni().is_some() && other.eni() == call.eni())
        });
        assert!(!busy, "two changes of one ENI at once: {call:?}");
    }

    /// Nothing of these is a pod's or cools.
    fn assert_unused(&self, slots: &[IpNet]) {
        let of_pods = self.links.values().flatten();
        let owned = self.owned.values().flat_map(|(addresses, _)| addresses);
        let cooling = self
            .cooling
            .iter()
            .filter(|(_, (until, _))| *until > self.now);
        for ip in of_pods.chain(owned).chain(cooling.map(|(ip, _)| ip)) {
            let slot = slots.iter().find(|net| net.contains(ip));
            assert_eq!(slot, None, "{ip} is given back under a pod");
        }
    }

    fn assert_invariants(&self) {
        self.state.pool.check();
        for (sandbox, (addresses, _)) in &self.owned {
            let grant = self.state.grant_of(sandbox).expect("a grant");
            let granted: Vec<IpAddr> = grant.addresses.iter().map(|it| it.address).collect();
            assert_eq!(granted, *addresses, "{sandbox} lost its address");
        }
        let view = self.state.view();
        let mut seen = BTreeSet::new();
        for address in view.enis.iter().flat_map(|eni| &eni.addresses) {
            assert!(
                seen.insert(address.address),
                "{} is held twice",
                address.address
            );
        }
        for (sandbox, deadline) in self.waiting.values() {
            let Some(sandbox) = sandbox else {
                continue;
            };
            assert!(*deadline > self.now, "{sandbox} waits beyond its deadline");
            let why = self.state.why(sandbox).expect("it waits");
            assert!(!why.waits_for.is_empty(), "{sandbox} waits for nothing");
            let told = |it: &WaitsFor| {
                matches!(
                    it,
                    WaitsFor::Start(None) | WaitsFor::Frozen { until: None, .. }
                )
            };
            let awaited =
                !self.todo.is_empty() || !self.replies.is_empty() || why.waits_for.iter().any(told);
            let next = why.next(Time(self.now));
            assert!(
                awaited || next.is_some(),
                "{sandbox} waits for ever: {why:?}"
            );
        }
        self.assert_consistent(&view);
        let addresses = view.enis.iter().flat_map(|eni| &eni.addresses);
        let strays = addresses.filter(|address| {
            address.state == AddressState::Quarantined
                && address.owner.is_none()
                && address.until.is_none()
        });
        assert!(
            strays.count() == 0 || self.books_lost,
            "the books know every pod"
        );
        // What is on disk says all: read again, it says the same.
        let ledger = self.state.ledger();
        let mut again = state(&self.node, &self.settings);
        again.step(
            Time(self.now),
            Event::Start {
                books: Some(ledger.clone()),
                seen: None,
                lost: false,
            },
        );
        let reread = again.ledger();
        assert_eq!(reread.grants, ledger.grants);
        assert_eq!(reread.intents, ledger.intents);
        assert_eq!(reread.tombstones, ledger.tombstones);
        assert_eq!(reread.orphans, ledger.orphans);
    }

    /// Carries out the nth thing that the pool wants done.
    pub(super) fn carry_out(&mut self, nth: usize, fate: Fate) {
        if nth >= self.todo.len() {
            return;
        }
        let why = || "no luck".to_owned();
        let fails = matches!(fate, Fate::Fails(_));
        let outcome = if fails { Err(why()) } else { Ok(()) };
        let reply = match self.todo.remove(nth) {
            Effect::WriteBooks if fails => Event::BooksFailed(why()),
            Effect::WriteBooks => {
                self.disk = self.state.ledger();
                Event::BooksWritten(self.disk.version)
            }
            Effect::Call(call_id, call) => {
                let outcome = match fate {
                    Fate::Works => self.ec2(&call),
                    Fate::Fails(kind) => Err(error(kind, call.action())),
                    Fate::WorksUnknown => {
                        self.ec2(&call).ok();
                        Err(error(CallErrorKind::Unknown, call.action()))
                    }
                };
                let call = call_id;
                self.replies.push(Event::CallDone { call, outcome });
                return;
            }
            Effect::PrepareNode(held) => {
                let held: Vec<_> = held.iter().flat_map(|eni| &eni.slots).collect();
                for facts in self.enis.values().map(|eni| &eni.facts) {
                    let own = IpNet::from(IpAddr::V4(facts.primary_address));
                    assert!(!held.contains(&&own), "an ENI's own address is no pod's");
                }
                self.prepared |= !fails;
                let in_use = self.links.values().flatten().copied().collect();
                Event::NodePrepared(outcome.map(|()| in_use))
            }
            Effect::SetUpEni(set_up) => {
                let eni = set_up.eni;
                let known = self.enis.get(&eni);
                let attached = known.is_some_and(|it| it.facts.attachment.is_some());
                let outcome = outcome.and_then(|()| attached.then_some(()).ok_or_else(why));
                if outcome.is_ok() {
                    self.set_up.insert(eni.clone());
                }
                Event::EniSetUp { eni, outcome }
            }
            Effect::TearDownEni { eni, slots, .. } => {
                self.assert_unused(&slots);
                if !fails {
                    self.set_up.remove(&eni);
                    self.routed.retain(|(of, _)| *of != eni);
                }
                Event::EniTornDown { eni, outcome }
            }
            Effect::Route { eni, slots, .. } => {
                if !fails {
                    assert!(
                        self.prepared && self.set_up.contains(&eni),
                        "routed before the link was there"
                    );
                    self.routed
                        .extend(slots.iter().map(|net| (eni.clone(), *net)));
                }
                Event::Routed {
                    eni,
                    slots,
                    outcome,
                }
            }
            Effect::Unroute { eni, slots, .. } => {
                self.assert_unused(&slots);
                if !fails {
                    self.routed
                        .retain(|(of, net)| *of != eni || !slots.contains(net));
                }
                Event::Unrouted {
                    eni,
                    slots,
                    outcome,
                }
            }
            other => panic!("{other:?} is not to be done"),
        };
        self.step(reply);
    }

    /// Tells the pool what became of the nth call that was carried out.
    pub(super) fn deliver(&mut self, nth: usize) {
        if nth < self.replies.len() {
            let event = self.replies.remove(nth);
            self.step(event);
        }
    }

    /// Somebody else takes an address away.
    pub(super) fn take_away(&mut self, ip: IpAddr) {
        for eni in self.enis.values_mut() {
            eni.facts.slots.retain(|net| !net.contains(&ip));
        }
    }

    /// Somebody gives the primary ENI other groups; IMDS shows them, and ipamd looks unless it is down.
    pub(super) fn regroup(&mut self, groups: &[&str], looks: bool) {
        let groups: Vec<_> = groups.iter().map(|it| SecurityGroupId::new(*it)).collect();
        self.eni("eni-0").security_groups.clone_from(&groups);
        self.node.security_groups.clone_from(&groups);
        if looks {
            self.step(Event::SecurityGroups(groups));
        }
    }

    /// The groups that all ENIs have; panics where they differ.
    pub(super) fn groups_in_ec2(&self) -> Vec<SecurityGroupId> {
        let mut all = self.enis.values().map(|eni| &eni.facts.security_groups);
        let groups = all.next().cloned().unwrap_or_default();
        assert!(all.all(|it| *it == groups), "{:?}", self.enis);
        groups
    }

    /// What IMDS shows: no lag here.
    pub(super) fn seen(&self) -> Vec<SeenEni> {
        let attached = self.enis.values().filter_map(|eni| {
            let attachment = eni.facts.attachment.as_ref()?;
            Some(SeenEni {
                mac: eni.facts.mac,
                place: attachment.place,
                slots: eni.facts.slots.iter().copied().collect(),
            })
        });
        attached.collect()
    }

    pub(super) fn eni(&mut self, id: &str) -> &mut EniFacts {
        &mut self.enis.get_mut(&EniId::new(id)).unwrap().facts
    }

    /// ENIs that are not attached, or would outlive the instance.
    pub(super) fn leaked(&self) -> Vec<EniFacts> {
        let kept = |facts: &EniFacts| {
            let attachment = facts.attachment.as_ref();
            attachment.is_some_and(|attachment| attachment.delete_on_termination)
        };
        let enis = self.enis.values().map(|eni| eni.facts.clone());
        enis.filter(|facts| !kept(facts)).collect()
    }

    /// EC2 does not tell any more with which tokens ENIs were made.
    pub(super) fn forget_tokens(&mut self) {
        self.enis.values_mut().for_each(|eni| eni.token = None);
    }

    /// Somebody leaves an ENI that is attached to nothing.
    pub(super) fn leave_loose(&mut self, eni: LooseEni) {
        self.loose.insert(eni.id.clone(), (eni, self.now));
    }

    /// What is attached to nothing.
    fn loose(&self) -> impl Iterator<Item = LooseEni> {
        let others = self.loose.values().cloned();
        let others = others.map(|(eni, since)| LooseEni {
            age: eni
                .age
                .map(|age| age + Duration::from_millis(self.now - since)),
            ..eni
        });
        let cluster = match &self.settings.sweep {
            Sweep::Cluster(name) => Some(name.clone()),
            Sweep::Off | Sweep::Own => None,
        };
        let ours = self
            .enis
            .values()
            .filter(|eni| eni.facts.attachment.is_none());
        let ours = ours.map(move |eni| LooseEni {
            id: eni.facts.id.clone(),
            vpc_id: self.node.vpc_id.clone(),
            available: true,
            going: false,
            description: format!("aws-K8S-{}", self.node.instance_id),
            instance: Some(self.node.instance_id.clone()),
            owner: cluster.as_ref().map(|_| "amazon-vpc-cni".to_owned()),
            cluster: cluster.clone(),
            token: eni.token.clone(),
            no_manage: false,
            age: Some(Duration::from_millis(self.now - eni.made_at)),
        });
        others.chain(ours)
    }

    pub(super) fn held_by_ec2(&self) -> u64 {
        self.enis
            .values()
            .flat_map(|eni| &eni.facts.slots)
            .filter(|net| matches!(net, IpNet::V4(_)))
            .map(|net| u64::from(SlotKind::of(net).addresses()))
            .sum()
    }

    pub(super) fn make_eni(
        &mut self,
        token: Option<ClientToken>,
        ipv4: Option<(SlotKind, u32)>,
        ipv6_prefixes: u32,
    ) -> EniFacts {
        let n = self.made;
        self.made += 1;
        let mut facts = EniFacts {
            id: EniId::new(format!("eni-{n}")),
            mac: Mac([2, 0, 0, 0, 0, u8::try_from(n % 256).unwrap()]),
            subnet_id: SubnetId::new("subnet-1"),
            subnet_cidr: "10.0.0.0/8".parse().unwrap(),
            primary_address: self.address(),
            slots: Vec::new(),
            security_groups: vec![SecurityGroupId::new("sg-1")],
            managed: true,
            borrowed: false,
            attachment: None,
        };
        let (kind, count) = ipv4.unwrap_or((SlotKind::Address, 0));
        facts.slots.extend((0..count).map(|_| self.slot(kind)));
        let ipv6 = (0..ipv6_prefixes).map(|_| self.slot(SlotKind::Ipv6Prefix));
        facts.slots.extend(ipv6);
        let id = facts.id.clone();
        let eni = ModelEni {
            facts: facts.clone(),
            token,
            made_at: self.now,
        };
        self.enis.insert(id, eni);
        facts
    }

    fn address(&mut self) -> Ipv4Addr {
        self.subnet_left = self.subnet_left.saturating_sub(1);
        self.next_address += 1;
        Ipv4Addr::from(0x0a00_0000 + self.next_address)
    }

    /// Never the same twice.
    fn slot(&mut self, kind: SlotKind) -> IpNet {
        match kind {
            SlotKind::Address => IpNet::from(IpAddr::V4(self.address())),
            SlotKind::Prefix => {
                self.subnet_left = self.subnet_left.saturating_sub(16);
                self.next_address = (self.next_address / 16 + 1) * 16 + 15;
                let base = Ipv4Addr::from(0x0a00_0000 + self.next_address - 15);
                IpNet::new(base.into(), 28).unwrap()
            }
            SlotKind::Ipv6Prefix => {
                self.next_address += 1;
                let bits = (0xfd00_u128 << 112) + (u128::from(self.next_address) << 48);
                IpNet::new(std::net::Ipv6Addr::from(bits).into(), 80).unwrap()
            }
        }
    }

    fn refusal_of_subnet(&self, kind: SlotKind, count: u32) -> Option<CallErrorKind> {
        match kind {
            SlotKind::Ipv6Prefix => None,
            SlotKind::Prefix if self.fragmented => Some(CallErrorKind::PrefixesExhausted),
            _ if self.subnet_left < count * kind.addresses() => {
                Some(CallErrorKind::SubnetExhausted)
            }
            _ => None,
        }
    }

    fn ec2(&mut self, call: &Call) -> Result<CallReply, CallError> {
        let refuse = |kind| Err(error(kind, call.action()));
        let attached = |eni: &&ModelEni| eni.facts.attachment.is_some();
        match call {
            Call::DescribeEnis => {
                let enis = self.enis.values().filter(attached);
                Ok(CallReply::Enis(enis.map(|eni| eni.facts.clone()).collect()))
            }
            Call::DescribeSubnets => Ok(CallReply::Subnets(self.zone.clone())),
            Call::CreateEni {
                token,
                subnet,
                ipv4,
                ipv6_prefixes,
                groups,
                ..
            } => {
                let most = self.node.limits.ipv4_slots_per_eni;
                assert!(ipv4.is_none_or(|(_, slots)| slots > 0 && slots < most));
                let made = self
                    .enis
                    .values()
                    .find(|eni| eni.token.as_ref() == Some(token));
                if let Some(eni) = made {
                    return Ok(CallReply::Created(eni.facts.clone()));
                }
                let (kind, count) = ipv4.unwrap_or((SlotKind::Address, 0));
                if let Some(kind) = self.refusal_of_subnet(kind, count) {
                    return refuse(kind);
                }
                let room = count * kind.addresses();
                if self.subnet_left <= room || self.exhausted.contains(subnet) {
                    return refuse(CallErrorKind::SubnetExhausted);
                }
                let mut facts = self.make_eni(Some(token.clone()), *ipv4, *ipv6_prefixes);
                facts.subnet_id = subnet.clone();
                facts.security_groups.clone_from(groups);
                *self.eni(facts.id.as_str()) = facts.clone();
                Ok(CallReply::Created(facts))
            }
            Call::AttachEni { eni, place } => {
                let at = self
                    .enis
                    .values()
                    .filter_map(|eni| eni.facts.attachment.as_ref());
                let taken: Vec<Place> = at.map(|attachment| attachment.place).collect();
                let Some(eni) = self.enis.get_mut(eni) else {
                    return refuse(CallErrorKind::NotFound);
                };
                if eni.facts.attachment.is_some() || taken.contains(place) {
                    return refuse(CallErrorKind::InUse);
                }
                if taken.len() >= self.node.limits.max_enis() as usize {
                    return refuse(CallErrorKind::EniLimit);
                }
                let id = AttachmentId::new(format!("attach-{}", eni.facts.id));
                eni.facts.attachment = Some(Attachment {
                    id: id.clone(),
                    place: *place,
                    complete: false,
                    delete_on_termination: false,
                });
                Ok(CallReply::Attached(id))
            }
            Call::DeleteOnTermination { eni, attachment } => {
                let at = self
                    .enis
                    .get_mut(eni)
                    .and_then(|eni| eni.facts.attachment.as_mut());
                match at {
                    Some(at) if at.id == *attachment => {
                        at.delete_on_termination = true;
                        Ok(CallReply::Done)
                    }
                    _ => refuse(CallErrorKind::NotFound),
                }
            }
            Call::SetGroups { eni, groups } => match self.enis.get_mut(eni) {
                Some(eni) => {
                    eni.facts.security_groups.clone_from(groups);
                    Ok(CallReply::Done)
                }
                None => refuse(CallErrorKind::NotFound),
            },
            Call::Assign { eni, kind, count } => {
                if let Some(kind) = self.refusal_of_subnet(*kind, *count) {
                    return refuse(kind);
                }
                let Some(held) = self.enis.get(eni).filter(attached) else {
                    return refuse(CallErrorKind::NotFound);
                };
                if self.exhausted.contains(&held.facts.subnet_id) {
                    return refuse(CallErrorKind::SubnetExhausted);
                }
                let family = |net: &&IpNet| SlotKind::of(net).family() == kind.family();
                let held = held.facts.slots.iter().filter(family).count();
                let own = if kind.family() == Family::V4 { 1 } else { 0 };
                if u32::try_from(held).unwrap() + own + count > self.node.limits.ipv4_slots_per_eni
                {
                    return refuse(CallErrorKind::AddressLimit);
                }
                let new: Vec<_> = (0..*count).map(|_| self.slot(*kind)).collect();
                let eni = self.enis.get_mut(eni).unwrap();
                eni.facts.slots.extend(&new);
                Ok(CallReply::Assigned(new))
            }
            Call::Unassign { eni, slots } => {
                let Some(eni) = self.enis.get_mut(eni) else {
                    return refuse(CallErrorKind::NotFound);
                };
                if slots.iter().any(|net| !eni.facts.slots.contains(net)) {
                    return refuse(CallErrorKind::Other);
                }
                eni.facts.slots.retain(|net| !slots.contains(net));
                let addresses = slots.iter().map(|net| match SlotKind::of(net) {
                    SlotKind::Ipv6Prefix => 0,
                    kind => kind.addresses(),
                });
                self.subnet_left += addresses.sum::<u32>();
                Ok(CallReply::Done)
            }
            Call::DetachEni { eni, attachment } => {
                let Some(eni) = self.enis.get_mut(eni) else {
                    return refuse(CallErrorKind::NotFound);
                };
                let at = eni.facts.attachment.as_ref();
                if at.is_none_or(|at| at.id != *attachment) {
                    return refuse(CallErrorKind::NotFound);
                }
                eni.facts.attachment = None;
                Ok(CallReply::Done)
            }
            Call::DescribeOrphans(_) => Ok(CallReply::Orphans(self.loose().collect())),
            Call::DeleteOrphan { eni } if self.loose.remove(eni).is_some() => Ok(CallReply::Done),
            Call::DeleteEni { eni } | Call::DeleteOrphan { eni } => match self.enis.get(eni) {
                None => refuse(CallErrorKind::NotFound),
                Some(found) if found.facts.attachment.is_some() => refuse(CallErrorKind::InUse),
                Some(_) => {
                    self.enis.remove(eni);
                    Ok(CallReply::Done)
                }
            },
        }
    }
}
