//! What all that happens at once shares: who is valid, who was hurt, what was met, what was broken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use suites::node::{Node, Sandbox};
use vpc_lab::{Lab, Netns};

use crate::stranger::Damage;

/// How long the reconciler may take to see a damage and to repair it, and a moment for a machine that is busy.
const REPAIR: Duration = Duration::from_secs(4);

/// Lines of the story that are kept for the case that something is broken.
const STORY: usize = 4000;

/// What a run of a minute or more must have met.
const MUST: &[&str] = &[
    "ADD: given",
    "ADD: killed",
    "ADD: again",
    "CHECK: as it was made",
    "CHECK: finds damage",
    "DEL: done",
    "DEL: killed",
    "DEL: late, without a namespace",
    "DEL: after its namespace had gone",
    "DEL: of what was never added",
    "GC: done",
    "packets: answered",
    "ipamd: SIGTERM",
    "ipamd: SIGKILL",
    "stranger: link of a pod",
    "stranger: route to a pod",
    "stranger: neighbour of a pod",
    "stranger: address in a pod",
];

pub(crate) struct World<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) host: &'a Netns,
    pub(crate) damage: Damage,
    /// Whether runtimes lose pods, which GC alone takes back: a minute after ipamd's last start.
    pub(crate) forgets: bool,
    template: Sandbox<'a>,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cover: BTreeMap<String, u64>,
    verbs: u64,
    story: VecDeque<String>,
    broken: Vec<String>,
    /// Attachments that the runtimes know, by container id.
    valid: BTreeSet<String>,
    /// Who has an address by the result of an ADD.
    owners: BTreeMap<Ipv4Addr, String>,
    /// Pods that a runtime has lost, with the namespaces that it left.
    forgotten: Vec<Netns>,
    /// Pods that a stranger has damaged, by the name of the host's end of their link.
    hurt: BTreeSet<String>,
    health: Health,
    daemon: Daemon,
}

/// What strangers did to what all pods share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    hurts: u64,
    /// As many of them were there when ipamd started, which repaired them.
    mended: u64,
    last: Option<Instant>,
}

/// ipamd, as the pods' side may see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// It was started so often.
    starts: u64,
    up: bool,
}

/// A moment before something, for the question whether it may have failed for a good reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before(Health, Daemon);

impl<'a> World<'a> {
    pub(crate) fn new(lab: &'a Lab, node: &Node<'a>, damage: Damage, forgets: bool) -> Self {
        let mut template = node.sandbox("", "", std::path::Path::new(""));
        template.conf["addTimeoutSeconds"] = 10.into();
        let state = State {
            daemon: Daemon {
                starts: 1,
                up: true,
            },
            ..State::default()
        };
        Self {
            lab,
            host: node.lab().netns(),
            damage,
            forgets,
            template,
            begun: Instant::now(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime's call for a container of this id.
    pub(crate) fn sandbox(&self, id: &str, netns: &str) -> Sandbox<'a> {
        let mut sandbox = self.template.clone();
        id.clone_into(&mut sandbox.container_id);
        id.clone_into(&mut sandbox.pod);
        netns.clone_into(&mut sandbox.netns);
        sandbox
    }

    /// Tells that this was met.
    pub(crate) fn met(&self, what: &str) {
        *self.state().cover.entry(what.to_owned()).or_default() += 1;
    }

    /// Counts a verb of the plugin's.
    pub(crate) fn verb(&self) {
        self.state().verbs += 1;
    }

    /// A line of the story.
    pub(crate) fn tell(&self, line: impl fmt::Display) {
        let at = self.begun.elapsed().as_secs_f64();
        let mut state = self.state();
        if state.story.len() >= STORY {
            state.story.pop_front();
        }
        state.story.push_back(format!("{at:9.4} {line}"));
    }

    /// A promise was broken.
    pub(crate) fn broken(&self, what: String) {
        self.tell(format_args!("BROKEN {what}"));
        self.state().broken.push(what);
    }

    pub(crate) fn is_broken(&self) -> bool {
        !self.state().broken.is_empty()
    }

    pub(crate) fn now_valid(&self, id: &str) {
        self.state().valid.insert(id.to_owned());
    }

    pub(crate) fn valid_no_more(&self, id: &str) {
        self.state().valid.remove(id);
    }

    pub(crate) fn valid(&self) -> BTreeSet<String> {
        self.state().valid.clone()
    }

    /// This pod has this address from now on. If another has it, that is told.
    pub(crate) fn owns(&self, id: &str, address: Ipv4Addr) -> Option<String> {
        let mut state = self.state();
        let before = state.owners.insert(address, id.to_owned());
        before.filter(|other| other != id)
    }

    /// Before its DEL: from then on another may have it.
    pub(crate) fn owns_no_more(&self, id: &str) {
        self.state().owners.retain(|_, owner| owner != id);
    }

    /// A runtime loses this pod.
    pub(crate) fn forget(&self, id: &str, netns: Option<Netns>) {
        let mut state = self.state();
        state.valid.remove(id);
        state.forgotten.extend(netns);
    }

    /// The namespaces that were left by lost pods go.
    pub(crate) fn clear_forgotten(&self) {
        let gone = std::mem::take(&mut self.state().forgotten);
        drop(gone);
    }

    /// A stranger is about to damage this pod alone.
    pub(crate) fn hurt(&self, host_veth: &str) {
        self.state().hurt.insert(host_veth.to_owned());
    }

    pub(crate) fn is_hurt(&self, host_veth: &str) -> bool {
        self.state().hurt.contains(host_veth)
    }

    /// A stranger is about to damage what all share.
    pub(crate) fn hurt_all(&self) {
        let health = &mut self.state().health;
        health.hurts += 1;
        health.last = Some(Instant::now());
    }

    pub(crate) fn ends(&self) {
        self.state().daemon.up = false;
    }

    /// ipamd is about to be started.
    pub(crate) fn starts(&self) -> u64 {
        let mut state = self.state();
        state.daemon.starts += 1;
        state.health.hurts
    }

    /// ipamd serves: what was damaged before it started is repaired.
    pub(crate) fn serves(&self, hurts: u64) {
        let mut state = self.state();
        state.daemon.up = true;
        state.health.mended = hurts;
    }

    pub(crate) fn before(&self) -> Before {
        let state = self.state();
        Before(state.health, state.daemon)
    }

    /// Whether what all share was whole from then until now.
    pub(crate) fn was_whole(&self, before: Before) -> bool {
        let repaired = |health: Health| {
            let long_ago = health.last.is_none_or(|last| last.elapsed() > REPAIR);
            health.hurts == health.mended || (self.damage.is_repaired() && long_ago)
        };
        let now = self.state().health;
        before.0.hurts == now.hurts && repaired(before.0) && repaired(now)
    }

    /// Whether ipamd was there from then until now.
    pub(crate) fn was_served(&self, before: Before) -> bool {
        before.1.up && self.state().daemon == before.1
    }

    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let state = self.state();
        let met = |what: &&&str| !state.cover.contains_key(**what);
        MUST.iter().filter(met).copied().collect()
    }

    pub(crate) fn report(&self, seed: u64, seconds: u64) -> Report {
        let state = self.state();
        Report {
            seed,
            seconds,
            verbs: state.verbs,
            met: state.cover.clone(),
            broken: state.broken.clone(),
            story: if state.broken.is_empty() {
                Vec::new()
            } else {
                state.story.iter().cloned().collect()
            },
        }
    }
}

/// What a run did.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seed: u64,
    seconds: u64,
    /// Calls of the plugin.
    pub(crate) verbs: u64,
    /// What was met, and how often.
    met: BTreeMap<String, u64>,
    /// Promises that were broken.
    pub(crate) broken: Vec<String>,
    /// What happened last, if any was.
    story: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        for (what, times) in &self.met {
            writeln!(f, "{times:>7}  {what}")?;
        }
        for what in &self.broken {
            writeln!(f, "BROKEN: {what}")?;
        }
        let Self { seed, seconds, .. } = self;
        let outcome = match self.broken.len() {
            0 => "nothing broken, nothing left over".to_owned(),
            n => format!("{n} broken"),
        };
        writeln!(
            f,
            "seed {seed}, {seconds} s, {} calls of the plugin: {outcome}",
            self.verbs
        )
    }
}
