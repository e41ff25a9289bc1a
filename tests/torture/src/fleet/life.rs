//! How ipamd and its machine die and come back.

use aws_sim::LaunchSpec;
use aws_sim::world::AttachmentStatus;
use ipam::{Effect, EniId, Event, IntentStage, Ledger, SeenEni, State, Sweep};
use torture::imds;

use super::{Fleet, Job};
use crate::act::{Disk, Fate, Outside};
use crate::cover::Met;
use crate::ec2::TAG_INSTANCE;
use crate::node::{Phase, Waiting};

/// Requests of a process that has died are on the wire no longer than this.
const ON_THE_WIRE: u64 = 100;
/// A start without books so long after the machine's is not the first.
const LATE: u64 = 16 * 60_000;
/// How often IMDS is looked at.
const POLL: u64 = 30_000;

impl Fleet {
    pub(super) fn crash_soon(&mut self, n: usize, after: u32, fate: Fate, down: u64) {
        if self.nodes[n].state.is_none() {
            return;
        }
        if after == 0 {
            self.cover.met(Met::CrashIdle);
            self.crash(n, fate, down);
        } else {
            self.nodes[n].crash = Some((after, fate, down));
        }
    }

    /// Whether ipamd lives to carry this effect out. It may die before or after it.
    pub(super) fn may_go_on(&mut self, n: usize, effect: &Effect) -> bool {
        let Some((left, fate, down)) = &mut self.nodes[n].crash else {
            return true;
        };
        *left -= 1;
        if *left > 0 {
            return true;
        }
        let (fate, down) = (*fate, *down);
        let before = self.nodes[n].dice.below(2) == 0;
        let met = match effect {
            Effect::WriteBooks if before => Met::CrashBeforeWrite,
            Effect::WriteBooks => Met::CrashAfterWrite,
            Effect::Answer(..) if before => Met::CrashBeforeAnswer,
            Effect::Answer(..) => Met::CrashAfterAnswer,
            Effect::Call(..) if before => Met::CrashBeforeCall,
            Effect::Call(..) => Met::CrashAfterCall,
            Effect::Tell(_) | Effect::WakeAt(_) => Met::CrashIdle,
            _ if before => Met::CrashBeforeHost,
            _ => Met::CrashAfterHost,
        };
        self.cover.met(met);
        if !before {
            self.carry_out(n, effect.clone());
            if matches!(effect, Effect::WriteBooks) {
                self.write_if_due(n);
            }
        }
        self.crash(n, fate, down);
        false
    }

    /// ipamd dies at once.
    pub(super) fn crash(&mut self, n: usize, fate: Fate, down: u64) {
        self.trace.note(self.now, 4, || {
            format!("node {n}: ipamd dies, books {fate:?}")
        });
        let node = &mut self.nodes[n];
        if let Some(state) = &node.state
            && matches!(state.readiness(node.time(self.now)), Err(refusal) if refusal.reason == ipam::Reason::Starting)
        {
            self.cover.met(Met::CrashLoading);
        }
        self.settle_disk(n);
        let node = &mut self.nodes[n];
        if fate != Fate::Kept && node.disk.content.is_some() {
            node.disk.fate = Some(fate);
        }
        self.settle_calls(n);
        // A change of the kernel is done or not.
        for host in std::mem::take(&mut self.nodes[n].hosting).into_values() {
            if self.nodes[n].dice.below(2) == 0 {
                self.cover.met(Met::CrashHostDone);
                self.change_kernel(n, &host).ok();
            } else {
                self.cover.met(Met::CrashHostLost);
            }
        }
        let node = &mut self.nodes[n];
        for waiting in std::mem::take(&mut node.waiting).into_values() {
            match waiting {
                Waiting::Add { serial, .. } => {
                    if let Some(slot) = node.slot_of(serial)
                        && slot.phase == Phase::Asking
                    {
                        slot.phase = Phase::Refused;
                    }
                }
                // The plugin leaves a file instead.
                Waiting::Del { serial } => drop(node.spool.insert(serial)),
                Waiting::Gc => {}
            }
        }
        node.forget_process();
        let life = node.life;
        self.push(self.now + down, Job::Restart(n, life));
    }

    /// The write that is under way has replaced the file, or not.
    fn settle_disk(&mut self, n: usize) {
        let trouble = self.nodes[n].disk.troubled(self.now);
        let node = &mut self.nodes[n];
        let Some(ledger) = node.disk.writing.take() else {
            return;
        };
        if node.dice.below(2) == 0 && trouble != Some(Disk::Full) {
            self.cover.met(Met::CrashWriteDone);
            node.disk.content = Some((node.identity(), ledger));
        } else {
            self.cover.met(Met::CrashWriteLost);
        }
    }

    fn settle_calls(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let (life, client) = (node.life, node.client.clone());
        for (id, flight) in std::mem::take(&mut node.calls) {
            if flight.arrived {
                self.cover.met(Met::CrashReplyLost);
            } else if flight.arrives_at <= self.now + ON_THE_WIRE && node.dice.below(2) == 0 {
                node.ghosts
                    .insert((life, id), (client.clone(), flight.call));
            } else {
                self.cover.met(Met::CrashCallLost);
            }
        }
    }

    /// SIGTERM: who waits is refused, the books are flushed.
    pub(super) fn end_in_order(&mut self, n: usize, down: u64) {
        if self.nodes[n].state.is_none() {
            return;
        }
        self.cover.met(Met::CrashShutDown);
        let life = self.nodes[n].life;
        self.step(n, Event::ShutDown);
        for _ in 0..4 {
            if self.nodes[n].life == life && self.nodes[n].disk.writing.is_some() {
                self.pass(50);
            }
        }
        if self.nodes[n].life == life && self.nodes[n].state.is_some() {
            self.crash(n, Fate::Kept, down);
        }
    }

    /// ipamd starts.
    pub(super) fn start(&mut self, n: usize) {
        if !self.nodes[n].up || self.nodes[n].state.is_some() {
            return;
        }
        self.trace
            .note(self.now, 5, || format!("node {n}: ipamd starts"));
        let had = self.nodes[n].disk.ledger().cloned();
        let identity = self.nodes[n].identity();
        let by_bytes = self.nodes[n].chance(100);
        let (ledger, met) = self.nodes[n].disk.read(&identity, by_bytes);
        self.cover.met(met);
        // As `open_books` of ipamd/src/main.rs.
        let lost = ledger.is_none()
            && !matches!(
                met,
                Met::BooksFresh | Met::BooksLost | Met::BooksOtherInstance
            );
        self.nodes[n].seeks = (lost || self.now > self.nodes[n].booted_at + LATE)
            && ledger.is_none()
            && self.nodes[n].settings.sweep != Sweep::Off;
        if let Some(lost) = had.filter(|_| ledger.is_none()) {
            self.books_are_lost(n, &lost);
        }
        if self.nodes[n].seeks {
            self.is_sought(n);
        }
        let seen = self.imds(n);
        self.learn_groups(n);
        let node = &mut self.nodes[n];
        let state = State::new(node.facts.clone(), node.settings.clone(), &node.boot_id());
        node.state = Some(state);
        let life = node.life;
        if let Some(mode) = node.mode {
            self.step(n, Event::SetMode(Some(mode)));
        }
        let found = ledger.is_some();
        let books = ledger;
        self.step(n, Event::Start { books, seen, lost });
        self.nodes[n].started = self.nodes[n].life == life;
        if self.nodes[n].started && found {
            self.check_restored(n);
        }
        self.replay_spool(n);
        if self.nodes[n].life == life {
            let first = self.nodes[n].delay(1_000, POLL);
            self.push(self.now + first, Job::Poll(n, life));
        }
    }

    /// Only links hold what the books knew; what cooled, and what was being made, nobody knows.
    fn books_are_lost(&mut self, n: usize, lost: &Ledger) {
        // What is on its way out may still be seen by a reader that lags.
        for tombstone in &lost.tombstones {
            let at = self.now + ON_THE_WIRE;
            self.taken
                .insert((tombstone.eni.clone(), tombstone.slot), at);
        }
        for intent in &lost.intents {
            if let IntentStage::Detach(eni, _) | IntentStage::Delete(eni) = &intent.stage {
                self.taken_enis.insert(eni.clone(), self.now + ON_THE_WIRE);
                self.left_over.insert(eni.clone(), Met::ExBooksLeak);
            }
        }
        let node = &mut self.nodes[n];
        for slot in &node.pods {
            if let Some(owned) = node.owned.get_mut(&slot.serial)
                && slot.phase != Phase::None
                && !slot.link.is_empty()
            {
                owned.stray = true;
            }
        }
        let owners = &mut self.owners;
        node.owned.retain(|serial, owned| {
            if !owned.stray {
                owned.addresses.iter().for_each(|ip| {
                    if owners.get(ip) == Some(&(n, *serial)) {
                        owners.remove(ip);
                    }
                });
            }
            owned.stray
        });
        let before = self.cooling.len();
        self.cooling.retain(|_, cooling| cooling.node != n);
        if self.cooling.len() < before {
            self.cover.met(Met::ExBooksCooling);
        }
        let ours = node.instance.as_str();
        let unattached = self.aws.enis().filter(|eni| {
            eni.attachment
                .as_ref()
                .is_none_or(|at| at.status == AttachmentStatus::Detaching)
                && eni.tags.get(TAG_INSTANCE).is_some_and(|it| it == ours)
        });
        for eni in unattached {
            let id = EniId::new(eni.id.as_str());
            self.left_over.insert(id, Met::ExBooksLeak);
        }
    }

    /// The node knows that its books are lost: what is left over it must find.
    fn is_sought(&mut self, n: usize) {
        let ours = self.nodes[n].instance.as_str();
        let made_for =
            |eni: &aws_sim::world::Eni| eni.tags.get(TAG_INSTANCE).is_some_and(|it| it == ours);
        let enis = self.aws.enis().filter(|eni| made_for(eni));
        let enis: Vec<EniId> = enis.map(|eni| EniId::new(eni.id.as_str())).collect();
        self.left_over.retain(|id, _| !enis.contains(id));
    }

    /// A Create that arrived after its ipamd died: books that know its intent make it theirs.
    pub(super) fn left_if_unknown(&mut self, n: usize, eni: &EniId) {
        let token = self
            .aws
            .enis()
            .find(|it| it.id.as_str() == eni.as_str())
            .and_then(|it| it.tags.get(crate::ec2::TAG_TOKEN).cloned())
            .unwrap_or_default();
        let known = self.nodes[n].disk.ledger().is_some_and(|ledger| {
            let mut intents = ledger.intents.iter();
            intents.any(|it| it.token.as_str() == token)
        });
        if !known && !self.nodes[n].seeks {
            self.left_over.insert(eni.clone(), Met::ExBooksLeak);
        }
    }

    /// The ENIs as IMDS shows them.
    fn imds(&mut self, n: usize) -> Option<Vec<SeenEni>> {
        if self.now < self.nodes[n].imds_gone_until {
            self.cover.met(Met::FaultImdsGone);
            return None;
        }
        let now = self.aws.advance(self.sim_now());
        let then = now.minus(self.aws.config.imds_lag);
        Some(imds::seen(&self.aws, &self.nodes[n].instance, then))
    }

    /// The primary ENI's security groups, as IMDS shows them. That it may show nothing for longer keeps the real ipamd from
    /// starting; here it starts with what it knew.
    fn learn_groups(&mut self, n: usize) {
        if self.now < self.nodes[n].imds_gone_until {
            return;
        }
        let now = self.aws.advance(self.sim_now());
        let then = now.minus(self.aws.config.imds_lag);
        let groups = imds::groups(&self.aws, &self.nodes[n].instance, then);
        if !groups.is_empty() {
            self.nodes[n].facts.security_groups = groups;
        }
    }

    /// IMDS is looked at now and then; where it differs from the pool, EC2 is to be asked.
    pub(super) fn poll(&mut self, n: usize) {
        let life = self.nodes[n].life;
        self.push(self.now + POLL, Job::Poll(n, life));
        let Some(seen) = self.imds(n) else {
            return;
        };
        let before = self.nodes[n].facts.security_groups.clone();
        self.learn_groups(n);
        let groups = self.nodes[n].facts.security_groups.clone();
        if groups != before {
            self.step(n, Event::SecurityGroups(groups));
        }
        let Some(state) = &self.nodes[n].state else {
            return;
        };
        if !state.agrees_with(&seen) {
            self.cover.met(Met::FaultImdsLags);
            self.step(n, Event::Doubt);
        }
    }

    /// What happens to the machine itself.
    pub(super) fn machine(&mut self, what: Outside, n: usize) {
        if !self.nodes[n].up {
            return;
        }
        let down = self.nodes[n].delay(6_000, 60_000);
        if self.nodes[n].state.is_some() {
            self.crash(n, Fate::Kept, down);
        }
        // Nothing of it is on the wire when it comes back.
        self.pass(2 * ON_THE_WIRE);
        let instance = self.nodes[n].instance.as_str().to_owned();
        let met = match what {
            Outside::Stop => {
                let event = aws_sim::Event::StopInstance { instance };
                if self.aws.happen(self.sim_now(), &event).is_err() {
                    return;
                }
                Met::OutStop
            }
            Outside::Replace => {
                let event = aws_sim::Event::TerminateInstance { instance };
                if self.aws.happen(self.sim_now(), &event).is_err() {
                    return;
                }
                Met::OutReplace
            }
            _ => Met::OutReboot,
        };
        self.cover.met(met);
        self.trace.note(self.now, 6, || {
            format!("node {n}: the machine goes: {what:?}")
        });
        let node = &mut self.nodes[n];
        node.up = false;
        node.life += 1;
        node.state = None;
        node.replaced = what == Outside::Replace;
        node.forget_boot();
        self.owners.retain(|_, (owner, _)| *owner != n);
        self.cooling.retain(|_, cooling| cooling.node != n);
        // Made for a boot whose books nobody will read.
        let ours = self.nodes[n].instance.as_str();
        for eni in self.aws.enis() {
            let tagged = eni.tags.get(TAG_INSTANCE).is_some_and(|it| it == ours);
            let off = eni
                .attachment
                .as_ref()
                .is_none_or(|at| at.status == AttachmentStatus::Detaching);
            if tagged && (off || what == Outside::Replace) {
                let id = EniId::new(eni.id.as_str());
                self.left_over.insert(id, Met::ExBooksLeak);
            }
        }
        self.push(self.now + down, Job::Boot(n));
    }

    /// The machine comes up.
    pub(super) fn boot(&mut self, n: usize) {
        let now = self.aws.advance(self.sim_now());
        if self.nodes[n].replaced {
            let kind = self.nodes[n].facts.instance_type.clone();
            let subnet = self.nodes[n].facts.subnet_id.as_str();
            let spec = LaunchSpec::new(&kind, &aws_sim::SubnetId::from(subnet));
            let Ok(instance) = self.aws.launch_instance(now, spec) else {
                // The subnet is full.
                self.push(self.now + 10_000, Job::Boot(n));
                return;
            };
            self.nodes[n].replaced = false;
            self.nodes[n].instance = instance;
            self.learn_node(n);
        }
        let instance = self.nodes[n].instance.clone();
        let state = self
            .aws
            .instance(&instance)
            .map(|it| it.state.code_and_name().1);
        // A machine may be up before EC2 calls it running.
        let boots = self.nodes[n].dice.below(2) == 0;
        let is_up = match state {
            Some("running") => true,
            Some("pending") => boots,
            _ => false,
        };
        if !is_up {
            let event = aws_sim::Event::StartInstance {
                instance: instance.as_str().to_owned(),
            };
            self.aws.happen(now, &event).ok();
            self.push(self.now + 3_000, Job::Boot(n));
            return;
        }
        let node = &mut self.nodes[n];
        node.boot += 1;
        node.booted_at = self.now;
        node.up = true;
        // On some machines the books' folder outlives the boot.
        if node.dice.below(2) == 0 {
            node.disk.content = None;
        }
        node.disk.fate = None;
        node.forget_process();
        self.trace
            .note(self.now, 7, || format!("node {n}: the machine is up"));
        self.start(n);
    }
}
