//! A node: its pool, its books, its pods, and what is on its way.

use std::collections::BTreeMap;

use aws_sim::InstanceId;
use ipam::{Call, CallId, Ledger, RequestId, Sandbox, SeenEni, Settings, State, Time};
use torture::ec2::Client;

/// A node's boot began this long before its ipamd first started.
const UPTIME: u64 = 60_000;

#[derive(Debug)]
pub(crate) struct Node {
    number: usize,
    pub(crate) instance: InstanceId,
    pub(crate) client: Client,
    pub(crate) facts: ipam::Node,
    /// Counts starts of ipamd.
    pub(crate) life: u32,
    /// None while ipamd does not run.
    pub(crate) state: Option<State>,
    /// Its conflist is written: pods come.
    pub(crate) ready: bool,
    pub(crate) wake: Option<Time>,
    pub(crate) write_due: bool,
    pub(crate) writing: Option<Ledger>,
    /// What is on disk.
    pub(crate) books: Option<Ledger>,
    pub(crate) calls: BTreeMap<CallId, Flight>,
    /// Whose ADD was not answered yet.
    pub(crate) waiting: BTreeMap<RequestId, usize>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) sight: Sight,
    next_request: u64,
    next_serial: u64,
}

/// A call on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) call: Call,
    pub(crate) began: u64,
    pub(crate) attempt: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pod {
    /// Of its sandbox.
    serial: u64,
    pub(crate) running: bool,
}

/// What IMDS showed, as ipamd's watch remembers it.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    pub(crate) doubted: Option<Vec<SeenEni>>,
    pub(crate) told: Option<Vec<SeenEni>>,
    /// It will look again.
    pub(crate) looks: bool,
}

impl Node {
    pub(crate) fn new(
        number: usize,
        (instance, access_key): (InstanceId, String),
        facts: ipam::Node,
        subnets: Vec<(String, ipnet::Ipv4Net)>,
        pods: usize,
    ) -> Self {
        Self {
            number,
            client: Client {
                instance: instance.as_str().to_owned(),
                access_key,
                subnets,
                all_cards: false,
            },
            instance,
            facts,
            life: 0,
            state: None,
            ready: false,
            wake: None,
            write_due: false,
            writing: None,
            books: None,
            calls: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pods: vec![Pod::default(); pods],
            sight: Sight::default(),
            next_request: 0,
            next_serial: 0,
        }
    }

    /// The pool of an ipamd that begins.
    pub(crate) fn begin(&mut self, settings: &Settings) {
        let boot_id = format!("{:08x}-6a53-4a3e-9b5e-000000000001", self.number + 1);
        self.end();
        self.state = Some(State::new(self.facts.clone(), settings.clone(), &boot_id));
    }

    /// ipamd is gone, and all that it had begun.
    pub(crate) fn end(&mut self) {
        self.life += 1;
        self.state = None;
        self.wake = None;
        self.write_due = false;
        self.writing = None;
        self.calls.clear();
        self.waiting.clear();
        self.sight = Sight::default();
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// A new sandbox for a pod.
    pub(crate) fn new_sandbox(&mut self, pod: usize) -> Sandbox {
        self.next_serial += 1;
        self.pods[pod].serial = self.next_serial;
        self.sandbox(pod)
    }

    pub(crate) fn sandbox(&self, pod: usize) -> Sandbox {
        Sandbox {
            container_id: format!("n{}-{}", self.number, self.pods[pod].serial).into(),
            ifname: "eth0".into(),
        }
    }

    pub(crate) fn running(&self) -> u32 {
        let running = self.pods.iter().filter(|pod| pod.running).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }
}

/// The node's own clock, at a moment of the fleet.
pub(crate) fn time(now: u64) -> Time {
    Time(now + UPTIME)
}

/// The fleet's time, at a moment of a node.
pub(crate) fn fleet_time(time: Time) -> u64 {
    time.0.saturating_sub(UPTIME)
}
