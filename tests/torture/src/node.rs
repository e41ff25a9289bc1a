//! A node: its pool, its disk, its kernel, its pods, and what is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use aws_sim::ids::Dice;
use books::{Distrust, Identity};
use ipam::{Call, CallId, EniId, Ledger, Mode, Place, RequestId, Sandbox, Settings, State, Time};
use ipnet::IpNet;

use crate::act::{Disk as DiskTrouble, Fate};
use crate::cover::Met;
use crate::ec2::Client;
use crate::fleet::Host;

/// A node's boot began this long before the fleet's time: no node's clock is another's.
pub(crate) const UPTIME: u64 = 100_000;

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) dice: Dice,
    pub(crate) instance: aws_sim::InstanceId,
    pub(crate) client: Client,
    pub(crate) facts: ipam::Node,
    pub(crate) settings: Settings,
    /// Counts boots, of all instances that were this node.
    pub(crate) boot: u32,
    pub(crate) booted_at: u64,
    /// Counts starts of ipamd.
    pub(crate) life: u32,
    /// None while ipamd does not run.
    pub(crate) state: Option<State>,
    /// Its pool has read the books.
    pub(crate) started: bool,
    /// There were none, and it knows that there should have been: it looks for what they knew.
    pub(crate) seeks: bool,
    /// Whether the instance runs.
    pub(crate) up: bool,
    /// It comes back as another instance.
    pub(crate) replaced: bool,
    pub(crate) wake: Option<Time>,
    pub(crate) crash: Option<(u32, Fate, u64)>,
    pub(crate) disk: Disk,
    pub(crate) kernel: Kernel,
    pub(crate) host_free_at: u64,
    /// Changes of the kernel that are asked for and not done.
    pub(crate) hosting: BTreeMap<u64, Host>,
    pub(crate) next_host: u64,
    pub(crate) imds_gone_until: u64,
    pub(crate) calls: BTreeMap<CallId, Flight>,
    /// Calls of an ipamd that has died, still on their way to EC2.
    pub(crate) ghosts: BTreeMap<(u32, CallId), (Client, Call)>,
    pub(crate) next_request: u64,
    pub(crate) waiting: BTreeMap<RequestId, Waiting>,
    pub(crate) pods: Vec<PodSlot>,
    pub(crate) next_serial: u32,
    /// Pods that have gone, for DELs that come twice.
    pub(crate) departed: Vec<u32>,
    /// DELs that came while ipamd was down.
    pub(crate) spool: BTreeSet<u32>,
    /// Who owns what, as kubelets were told.
    pub(crate) owned: BTreeMap<u32, Owned>,
    /// The mode of its configuration, or by command.
    pub(crate) mode: Option<Mode>,
    pub(crate) last_mode: Mode,
    pub(crate) knows: Knowledge,
    /// When calls were made lately, for the budget.
    pub(crate) calls_at: Vec<u64>,
    pub(crate) calls_made: u64,
    /// When calls of sweeps were made lately.
    pub(crate) sweeps_at: Vec<u64>,
}

/// A call on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) call: Call,
    pub(crate) began: u64,
    pub(crate) attempt: u32,
    pub(crate) arrives_at: u64,
    /// It has taken effect; its reply is under way.
    pub(crate) arrived: bool,
    /// When EC2 looked, of a Describe.
    pub(crate) view: u64,
}

/// A request that the pool has not answered.
#[derive(Clone, Debug)]
pub(crate) enum Waiting {
    Add {
        serial: u32,
        deadline: u64,
        /// Its plugin does not listen any more.
        gone: bool,
    },
    Del {
        serial: u32,
    },
    Gc,
}

/// What a sandbox was granted.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) addresses: Vec<IpAddr>,
    /// The books that knew it are lost: it is held by the pod's link alone.
    pub(crate) stray: bool,
    /// Somebody took it away behind the node's back.
    pub(crate) lost: bool,
}

/// A place for a pod, and the pod in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodSlot {
    pub(crate) serial: u32,
    pub(crate) phase: Phase,
    /// What its link has.
    pub(crate) link: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    None,
    Asking,
    Refused,
    Running,
}

/// What the kernel has been told.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) links: BTreeMap<Place, EniId>,
    pub(crate) routes: BTreeMap<IpNet, Place>,
    pub(crate) refuses_until: u64,
}

/// What the node was told of EC2.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// When a reply last changed an ENI.
    pub(crate) changed: BTreeMap<EniId, u64>,
    /// Up to when the node has been told what happened to an ENI.
    pub(crate) until: BTreeMap<EniId, u64>,
    /// The same, for slots that a call brought after that.
    pub(crate) brought: BTreeMap<IpNet, u64>,
    /// The same, for ENIs that it does not know of.
    pub(crate) all: u64,
    /// The same, for ENIs that are attached to nothing.
    pub(crate) loose: u64,
}

/// The disk with the books.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Whose, and what.
    pub(crate) content: Option<(Identity, Ledger)>,
    pub(crate) due: bool,
    pub(crate) writing: Option<Ledger>,
    pub(crate) trouble: Option<(DiskTrouble, u64)>,
    /// Damage that was done to the file.
    pub(crate) fate: Option<Fate>,
    /// Why a file was set aside, of this instance: it stays beside the books.
    pub(crate) set_aside: Option<Met>,
}

impl Disk {
    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.content.as_ref().map(|(_, ledger)| ledger)
    }

    /// Reads the books as ipamd does at its start. What was not damaged need not go by way of the file's bytes each time,
    /// which takes long.
    pub(crate) fn read(&mut self, ours: &Identity, by_bytes: bool) -> (Option<Ledger>, Met) {
        let Some((whose, ledger)) = &self.content else {
            return (None, self.set_aside.unwrap_or(Met::BooksFresh));
        };
        if self.fate.is_none() && whose == ours && !by_bytes {
            return (Some(ledger.clone()), Met::BooksFound);
        }
        let Ok(mut bytes) = books::encode(whose, ledger) else {
            return (None, Met::BooksFresh);
        };
        match self.fate.take() {
            None | Some(Fate::Kept) => {}
            Some(Fate::Lost) => {
                self.content = None;
                return (None, Met::BooksLost);
            }
            Some(Fate::Empty) => bytes.clear(),
            Some(Fate::Torn(at)) => {
                let at = bytes.len() * usize::from(at) / 1000;
                bytes.truncate(at.min(bytes.len().saturating_sub(3)));
            }
            Some(Fate::Flipped(at)) => {
                let at = (bytes.len() - 1) * usize::from(at) / 1000;
                bytes[at] ^= 1;
            }
            Some(Fate::Newer) => replace(&mut bytes, "weir-books/3", "weir-books/9"),
            Some(Fate::Foreign) => replace(&mut bytes, "weir-books/3", "else-books/3"),
        }
        match books::decode(ours, &bytes) {
            Ok(ledger) => (Some(ledger), Met::BooksFound),
            Err(reason) => {
                self.content = None;
                let met = match reason {
                    Distrust::Empty => Met::BooksEmpty,
                    Distrust::Torn(_) => Met::BooksTorn,
                    Distrust::Foreign(_) => Met::BooksForeign,
                    Distrust::Newer { .. } => Met::BooksNewer,
                    Distrust::OtherInstance { .. } => Met::BooksOtherInstance,
                    Distrust::OtherBoot { .. } => Met::BooksOtherBoot,
                    Distrust::Checksum { .. } | _ => Met::BooksDamaged,
                };
                self.set_aside = Some(met).filter(|met| *met != Met::BooksOtherInstance);
                (None, met)
            }
        }
    }

    pub(crate) fn troubled(&self, now: u64) -> Option<DiskTrouble> {
        self.trouble
            .filter(|(_, until)| now < *until)
            .map(|(trouble, _)| trouble)
    }
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8_lossy(bytes).replacen(from, to, 1);
    *bytes = text.into_bytes();
}

impl Node {
    /// The node's own clock, at a moment of the fleet.
    pub(crate) fn time(&self, now: u64) -> Time {
        Time(now - self.booted_at + UPTIME)
    }

    /// The fleet's time, at a moment of the node.
    pub(crate) fn fleet_time(&self, time: Time) -> u64 {
        (time.0 + self.booted_at).saturating_sub(UPTIME)
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            instance_id: self.facts.instance_id.clone(),
            boot_id: self.boot_id(),
        }
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("{:08x}-6a53-4a3e-9b5e-{:012x}", self.number + 1, self.boot)
    }

    /// From `least` to `most` milliseconds, the shorter more often.
    pub(crate) fn delay(&mut self, least: u64, most: u64) -> u64 {
        let span = usize::try_from(most - least).unwrap_or(0) + 1;
        let within = self.dice.below(span) + 1;
        least + u64::try_from(self.dice.below(within)).unwrap_or(0)
    }

    pub(crate) fn chance(&mut self, in_thousand: usize) -> bool {
        self.dice.below(1000) < in_thousand
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(crate) fn sandbox(&self, serial: u32) -> Sandbox {
        Sandbox {
            container_id: format!("n{}-{serial}", self.number).into(),
            ifname: "eth0".into(),
        }
    }

    /// The place of a pod that is there.
    pub(crate) fn slot_of(&mut self, serial: u32) -> Option<&mut PodSlot> {
        self.pods
            .iter_mut()
            .find(|slot| slot.serial == serial && slot.phase != Phase::None)
    }

    /// What ipamd knew of requests and calls is gone.
    pub(crate) fn forget_process(&mut self) {
        self.life += 1;
        self.state = None;
        self.wake = None;
        self.crash = None;
        self.waiting.clear();
        self.calls.clear();
        self.hosting.clear();
        self.host_free_at = 0;
        self.disk.due = false;
        self.disk.writing = None;
        self.knows = Knowledge::default();
        self.started = false;
    }

    /// No pod, no link, no route: the machine was off.
    pub(crate) fn forget_boot(&mut self) {
        self.kernel = Kernel::default();
        self.pods.iter_mut().for_each(|slot| {
            slot.phase = Phase::None;
            slot.link.clear();
        });
        self.departed.clear();
        self.spool.clear();
        self.owned.clear();
    }
}

/// The number in a sandbox's name.
pub(crate) fn serial_of(sandbox: &Sandbox) -> u32 {
    let number = sandbox.container_id.rsplit('-').next();
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(u32::MAX)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
