//! A node around a pool: EC2, the kernel and the disk as the tests need them, and what must always be true.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::*;

pub(super) const COOLDOWN: u64 = 30_000;
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
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) state: State,
    targets: Targets,
    pub(super) disk: Ledger,
    enis: BTreeMap<EniId, ModelEni>,
    made: u32,
    pub(super) subnet_left: u32,
    next_address: u32,
    routed: BTreeSet<(EniId, Ipv4Addr)>,
    set_up: BTreeSet<EniId>,
    prepared: bool,
    books_lost: bool,
    /// The pods' links in the kernel.
    pub(super) links: BTreeMap<Sandbox, Ipv4Addr>,
    /// What the pool wants done, oldest first.
    pub(super) todo: Vec<Effect>,
    /// What was done, but the pool does not know yet.
    pub(super) replies: Vec<Event>,
    wake: Option<u64>,
    pub(super) told: Vec<String>,
    /// All calls ever asked for.
    pub(super) asked: Vec<Call>,
    next_request: u64,
    waiting: BTreeMap<RequestId, (Option<Sandbox>, u64)>,
    pub(super) answers: BTreeMap<RequestId, Answer>,
    pub(super) owned: BTreeMap<Sandbox, (Ipv4Addr, u64)>,
    /// Until when an address cools, and who had it.
    cooling: BTreeMap<Ipv4Addr, (u64, Sandbox)>,
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
            max_enis: MAX_ENIS,
            ipv4_slots_per_eni: SLOTS,
        },
    }
}

pub(super) fn targets(warm_ip: u32, minimum_ip: u32) -> Targets {
    Targets {
        warm_ip,
        minimum_ip,
        max_enis: None,
        cooldown: Duration::from_millis(COOLDOWN),
    }
}

pub(super) fn sandbox(n: u32) -> Sandbox {
    Sandbox {
        container_id: format!("c{n}"),
        ifname: "eth0".to_owned(),
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
    pub(super) fn new(targets: Targets) -> Self {
        let mut world = Self {
            now: 1_000,
            state: State::new(node(), targets, "boot"),
            targets,
            disk: Ledger::default(),
            enis: BTreeMap::new(),
            made: 0,
            subnet_left: 1_000,
            next_address: 0,
            routed: BTreeSet::new(),
            set_up: BTreeSet::new(),
            prepared: false,
            books_lost: false,
            links: BTreeMap::new(),
            todo: Vec::new(),
            replies: Vec::new(),
            wake: None,
            told: Vec::new(),
            asked: Vec::new(),
            next_request: 0,
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            owned: BTreeMap::new(),
            cooling: BTreeMap::new(),
        };
        world.make_eni(None, 0);
        let primary = world.enis.get_mut(&EniId::new("eni-0")).unwrap();
        primary.facts.attachment = Some(Attachment {
            id: AttachmentId::new("attach-0"),
            device_index: 0,
            complete: true,
            delete_on_termination: true,
        });
        world
    }

    /// Started, and calm.
    pub(super) fn started(targets: Targets) -> Self {
        let mut world = Self::new(targets);
        world.step(Event::Start(None));
        world.calm();
        world
    }

    /// Everything works until nothing is left to do at this moment.
    pub(super) fn calm(&mut self) {
        while !(self.todo.is_empty() && self.replies.is_empty()) {
            if self.todo.is_empty() {
                self.deliver(0);
            } else {
                self.carry_out(0, Fate::Works);
            }
        }
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
        self.replies.clear();
        self.waiting.clear();
        self.wake = None;
        self.state = State::new(node(), self.targets, "boot");
        // The kernel keeps what it has; but the new ipamd must not count on it.
        self.routed.clear();
        self.set_up.clear();
        self.prepared = false;
        self.step(Event::Start(Some(self.disk.clone())));
    }

    /// ipamd dies, and its books with it: only the kernel knows the pods.
    pub(super) fn crash_without_books(&mut self) {
        self.disk = Ledger::default();
        self.books_lost = true;
        self.owned.clear();
        self.cooling.clear();
        self.crash(true);
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

    pub(super) fn step(&mut self, event: Event) {
        let effects = self.state.step(Time(self.now), event);
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
                other => self.todo.push(other),
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
        if let Some((ip, _)) = self.owned.remove(sandbox) {
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
            let ip = grant.address;
            for (other, theirs) in &self.links {
                assert!(
                    *other == whose || *theirs != ip,
                    "{ip} has the link of {other}"
                );
            }
            for (other, (theirs, _)) in &self.owned {
                assert!(*other == whose || *theirs != ip, "{ip} has two owners");
            }
            if let Some((until, last)) = self.cooling.get(&ip) {
                assert!(*until <= self.now || *last == whose, "{ip} still cools");
            }
            let facts = &self.enis[&grant.eni].facts;
            assert!(
                facts.secondary_addresses.contains(&ip),
                "EC2 does not hold {ip}"
            );
            let attachment = facts.attachment.as_ref().expect("attached");
            assert_eq!(attachment.device_index, grant.device_index);
            assert!(self.set_up.contains(&grant.eni), "link not set up");
            assert!(
                self.routed.contains(&(grant.eni.clone(), ip)),
                "{ip} not routed"
            );
            let entry = self.disk.grants.iter().find(|entry| entry.address == ip);
            assert_eq!(entry.expect("on disk").sandbox, whose);
            self.links.insert(whose.clone(), ip);
            let before = self.owned.insert(whose, (ip, self.now));
            if let Some((before, since)) = before {
                assert_eq!(before, ip, "asked again, answered otherwise");
                self.owned
                    .values_mut()
                    .find(|(owned, _)| *owned == ip)
                    .unwrap()
                    .1 = since;
            }
        }
        self.answers.insert(request, answer);
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
            Call::DescribeEnis | Call::AssignAddresses { .. } => {}
        }
        let busy = self.todo.iter().any(|effect| {
            matches!(effect, Effect::Call(_, other) if call.eni().is_some() && other.eni() == call.eni())
        });
        assert!(!busy, "two changes of one ENI at once: {call:?}");
    }

    fn assert_invariants(&self) {
        for (sandbox, (ip, _)) in &self.owned {
            let grant = self.state.grant_of(sandbox).map(|grant| grant.address);
            assert_eq!(grant, Some(*ip), "{sandbox} lost its address");
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
            assert!(
                sandbox.is_none() || *deadline > self.now,
                "{sandbox:?} waits beyond its deadline"
            );
        }
        let addresses = view.enis.iter().flat_map(|eni| &eni.addresses);
        let strays = addresses.filter(|address| {
            address.state == AddressState::Quarantined && address.owner.is_none()
        });
        let strays = u32::try_from(strays.count()).unwrap();
        assert!(strays == 0 || self.books_lost, "the books know every pod");
        assert_eq!(
            view.totals.owned + view.totals.quarantined - strays,
            u32::try_from(self.state.ledger().grants.len()).unwrap() + self.lost_cooling(&view),
        );
    }

    fn lost_cooling(&self, view: &PoolView) -> u32 {
        let cooling: BTreeSet<_> = self
            .state
            .ledger()
            .cooling
            .iter()
            .map(|c| c.address)
            .collect();
        let lost = view
            .enis
            .iter()
            .flat_map(|eni| &eni.addresses)
            .filter(|address| {
                address.state == AddressState::Quarantined && cooling.contains(&address.address)
            });
        u32::try_from(lost.count()).unwrap()
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
                let held: Vec<_> = held.iter().flat_map(|eni| &eni.addresses).collect();
                for facts in self.enis.values().map(|eni| &eni.facts) {
                    let own = &facts.primary_address;
                    assert!(!held.contains(&own), "an ENI's own address is no pod's");
                }
                self.prepared |= !fails;
                let in_use = self.links.values().copied().collect();
                Event::NodePrepared(outcome.map(|()| in_use))
            }
            Effect::SetUpEni(set_up) => {
                let eni = set_up.eni;
                if !fails {
                    self.set_up.insert(eni.clone());
                }
                Event::EniSetUp { eni, outcome }
            }
            Effect::RouteAddresses { eni, addresses, .. } => {
                if !fails {
                    assert!(
                        self.prepared && self.set_up.contains(&eni),
                        "routed before the link was there"
                    );
                    self.routed
                        .extend(addresses.iter().map(|ip| (eni.clone(), *ip)));
                }
                Event::AddressesRouted {
                    eni,
                    addresses,
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
    pub(super) fn take_away(&mut self, ip: Ipv4Addr) {
        for eni in self.enis.values_mut() {
            eni.facts.secondary_addresses.retain(|held| *held != ip);
        }
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

    pub(super) fn held_by_ec2(&self) -> usize {
        self.enis
            .values()
            .map(|eni| eni.facts.secondary_addresses.len())
            .sum()
    }

    pub(super) fn make_eni(&mut self, token: Option<ClientToken>, addresses: u32) -> EniFacts {
        let n = self.made;
        self.made += 1;
        let mut facts = EniFacts {
            id: EniId::new(format!("eni-{n}")),
            mac: Mac([2, 0, 0, 0, 0, u8::try_from(n % 256).unwrap()]),
            subnet_id: SubnetId::new("subnet-1"),
            subnet_cidr: "10.0.0.0/16".parse().unwrap(),
            primary_address: self.address(),
            secondary_addresses: Vec::new(),
            security_groups: vec![SecurityGroupId::new("sg-1")],
            managed: true,
            attachment: None,
        };
        for _ in 0..addresses {
            facts.secondary_addresses.push(self.address());
        }
        let id = facts.id.clone();
        let eni = ModelEni {
            facts: facts.clone(),
            token,
        };
        self.enis.insert(id, eni);
        facts
    }

    fn address(&mut self) -> Ipv4Addr {
        self.subnet_left = self.subnet_left.saturating_sub(1);
        self.next_address += 1;
        Ipv4Addr::from(0x0a00_0000 + self.next_address)
    }

    fn ec2(&mut self, call: &Call) -> Result<CallReply, CallError> {
        let refuse = |kind| Err(error(kind, call.action()));
        let attached = |eni: &&ModelEni| eni.facts.attachment.is_some();
        match call {
            Call::DescribeEnis => {
                let enis = self.enis.values().filter(attached);
                Ok(CallReply::Enis(enis.map(|eni| eni.facts.clone()).collect()))
            }
            Call::CreateEni {
                token, addresses, ..
            } => {
                assert!(*addresses < SLOTS);
                let made = self
                    .enis
                    .values()
                    .find(|eni| eni.token.as_ref() == Some(token));
                if let Some(eni) = made {
                    return Ok(CallReply::Created(eni.facts.clone()));
                }
                if self.subnet_left <= *addresses {
                    return refuse(CallErrorKind::SubnetExhausted);
                }
                let facts = self.make_eni(Some(token.clone()), *addresses);
                Ok(CallReply::Created(facts))
            }
            Call::AttachEni { eni, device_index } => {
                let at = self
                    .enis
                    .values()
                    .filter_map(|eni| eni.facts.attachment.as_ref());
                let taken: Vec<u32> = at.map(|attachment| attachment.device_index).collect();
                let Some(eni) = self.enis.get_mut(eni) else {
                    return refuse(CallErrorKind::NotFound);
                };
                if eni.facts.attachment.is_some() || taken.contains(device_index) {
                    return refuse(CallErrorKind::InUse);
                }
                if taken.len() >= MAX_ENIS as usize {
                    return refuse(CallErrorKind::EniLimit);
                }
                let id = AttachmentId::new(format!("attach-{}", eni.facts.id));
                eni.facts.attachment = Some(Attachment {
                    id: id.clone(),
                    device_index: *device_index,
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
            Call::AssignAddresses { eni, count } => {
                if self.subnet_left < *count {
                    return refuse(CallErrorKind::SubnetExhausted);
                }
                let Some(held) = self.enis.get(eni).filter(attached) else {
                    return refuse(CallErrorKind::NotFound);
                };
                let held = u32::try_from(held.facts.secondary_addresses.len()).unwrap();
                if held + count > SLOTS - 1 {
                    return refuse(CallErrorKind::AddressLimit);
                }
                let new: Vec<_> = (0..*count).map(|_| self.address()).collect();
                let eni = self.enis.get_mut(eni).unwrap();
                eni.facts.secondary_addresses.extend(&new);
                Ok(CallReply::Assigned(new))
            }
            Call::DeleteEni { eni } => match self.enis.get(eni) {
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
