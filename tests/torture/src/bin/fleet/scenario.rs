//! What is played, and what it should come to.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::bound::{Bound, bound};
use crate::fleet::{Fleet, Plan};
use crate::tally::{Calls, Second};

/// What is kept ready beside the pods of a node, in addresses.
const WARM: usize = 9;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// All ipamds of a fleet whose pods run restart at once
    Restart,
    /// New nodes join, all at once, and get their pods
    Join,
    /// The same, launched with prefixes
    JoinPrefixed,
    /// Nodes join in a subnet that has room for two in three; after 20 minutes every other node goes
    Dry,
    /// An hour in which nothing happens but that a pod of each node is replaced now and then
    Steady,
}

/// What a user may choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) nodes: usize,
    pub(crate) pods: usize,
    /// All nodes start within this, milliseconds.
    pub(crate) boot: u64,
    /// How often one pod of each node is replaced in the steady state, milliseconds.
    pub(crate) churn: Option<u64>,
    /// What nodes are told of their number; 0 for nothing.
    pub(crate) cluster_size: Option<u32>,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) scenario: &'static str,
    pub(crate) what: &'static str,
    pub(crate) nodes: usize,
    pub(crate) pods: usize,
    /// Within which all nodes started.
    pub(crate) boot_seconds: f64,
    /// As nodes were told; with 0 they hold no call back.
    pub(crate) cluster_size: u32,
    /// Virtual time that was counted.
    pub(crate) seconds: f64,
    pub(crate) calls: BTreeMap<&'static str, Calls>,
    pub(crate) throttled_share: f64,
    pub(crate) calls_per_second: f64,
    /// None when not all got their address.
    pub(crate) last_pod_seconds: Option<f64>,
    pub(crate) pods_at_the_end: u32,
    pub(crate) refused: BTreeMap<String, u64>,
    /// By the calls that the work needs at the least.
    pub(crate) bound: Bound,
    /// By the calls that were made.
    pub(crate) bound_of_made: Bound,
    pub(crate) aims: Vec<Aim>,
    /// Of this machine, with the launch.
    pub(crate) wall_seconds: f64,
    pub(crate) steps: u64,
    #[serde(skip)]
    pub(crate) course: Vec<Second>,
}

/// A figure, and what it should be at the most.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Aim {
    pub(crate) what: &'static str,
    /// None when it never came to that.
    pub(crate) figure: Option<f64>,
    pub(crate) at_most: f64,
}

impl Aim {
    pub(crate) fn met(&self) -> bool {
        self.figure.is_some_and(|figure| figure <= self.at_most)
    }
}

impl Scenario {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Restart,
        Self::Join,
        Self::JoinPrefixed,
        Self::Dry,
        Self::Steady,
    ];

    /// In nodes.
    pub(crate) fn sizes(self) -> &'static [usize] {
        match self {
            Self::Join | Self::JoinPrefixed => &[1_000, 5_000],
            Self::Restart | Self::Dry => &[1_000],
            Self::Steady => &[100_000],
        }
    }

    /// Of each node.
    pub(crate) fn pods(self) -> usize {
        match self {
            // So that 100,000 nodes are played within minutes.
            Self::Steady => 10,
            _ => 30,
        }
    }

    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Restart => ("restart", "all restart at once"),
            Self::Join => ("join", "new nodes join"),
            Self::JoinPrefixed => ("join-prefixed", "new nodes join, launched with prefixes"),
            Self::Dry => ("dry", "the subnet runs dry while nodes join"),
            Self::Steady => ("steady", "an hour of steady state"),
        }
    }

    pub(crate) fn play(self, wanted: Wanted) -> Figures {
        let began = Instant::now();
        let Wanted {
            nodes, pods, boot, ..
        } = wanted;
        let (scenario, what) = self.name();
        eprintln!("{scenario}: launching {nodes} nodes");
        let plan = self.plan(wanted);
        let mut fleet = Fleet::new(plan);
        let all = u32::try_from(nodes * pods).unwrap_or(u32::MAX);
        let mut aims = Vec::new();
        match self {
            Self::Restart => {
                settle(&mut fleet, scenario, boot, all);
                fleet.limit();
                fleet.restart_all();
                let until = fleet.now + 10 * MINUTE;
                fleet.run(scenario, until, |_| false);
            }
            Self::Join | Self::JoinPrefixed => {
                fleet.limit();
                fleet.boot(boot);
                fleet.run(scenario, HOUR, |fleet| fleet.tally.running == all);
            }
            Self::Dry => {
                fleet.limit();
                fleet.boot(boot);
                aims.extend(dry(&mut fleet, nodes, pods));
            }
            Self::Steady => {
                settle(&mut fleet, scenario, boot, all);
                fleet.limit();
                let until = fleet.now + HOUR;
                fleet.run(scenario, until, |_| false);
            }
        }
        let mut figures = figures(&fleet, (scenario, what), (pods, boot), all);
        figures.bound = bound(self.needs(nodes));
        aims.extend(self.aims(&figures));
        figures.aims = aims;
        figures.cluster_size = plan.cluster_size;
        figures.wall_seconds = began.elapsed().as_secs_f64();
        figures
    }

    fn plan(self, wanted: Wanted) -> Plan {
        let all = u32::try_from(wanted.nodes).unwrap_or(u32::MAX);
        Plan {
            nodes: wanted.nodes,
            pods: wanted.pods,
            prefixes: match self {
                Self::Join | Self::Dry => 0,
                Self::Restart | Self::JoinPrefixed | Self::Steady => {
                    u32::try_from((wanted.pods + WARM).div_ceil(16)).unwrap_or(u32::MAX)
                }
            },
            subnet: (self == Self::Dry).then(|| two_thirds(wanted.nodes)),
            churn: wanted.churn.filter(|_| self == Self::Steady),
            keeps_books: self == Self::Restart,
            cluster_size: wanted.cluster_size.unwrap_or(all),
            seed: wanted.seed,
        }
    }

    /// The calls that the work needs at the least.
    fn needs(self, nodes: usize) -> Vec<(&'static str, u64)> {
        let each = u64::try_from(nodes).unwrap_or(u64::MAX);
        let describe = ("DescribeNetworkInterfaces", each);
        match self {
            Self::Restart | Self::Steady => Vec::new(),
            Self::JoinPrefixed => vec![describe],
            Self::Join | Self::Dry => vec![describe, ("AssignPrivateIpAddresses", each)],
        }
    }

    fn aims(self, figures: &Figures) -> Vec<Aim> {
        let throttled = |at_most| Aim {
            what: "throttled, % of calls",
            figure: Some(figures.throttled_share * 100.0),
            at_most,
        };
        let per_second = Aim {
            what: "calls per second",
            figure: Some(figures.calls_per_second),
            at_most: 0.01,
        };
        match self {
            Self::Restart => vec![throttled(0.0), per_second],
            Self::Join | Self::JoinPrefixed => {
                // Nobody is ready before it starts, whatever the buckets hold.
                let soonest = figures.bound.seconds.max(figures.boot_seconds);
                let last = figures.last_pod_seconds;
                let over_bound = Aim {
                    what: "time to the last pod, of the bound",
                    figure: last.map(|last| last / soonest),
                    at_most: 1.25,
                };
                vec![over_bound, throttled(1.0)]
            }
            Self::Dry => vec![throttled(1.0)],
            Self::Steady => vec![throttled(0.0), per_second],
        }
    }
}

/// All nodes are up, all pods run, and nothing is under way any more.
fn settle(fleet: &mut Fleet, scenario: &str, boot: u64, pods: u32) {
    fleet.boot(boot);
    fleet.run(scenario, 5 * HOUR, |fleet| fleet.tally.running == pods);
    let until = fleet.now + 10 * MINUTE;
    fleet.run(scenario, until, |_| false);
    assert_eq!(fleet.tally.running, pods, "all pods run before it begins");
}

/// The largest subnet with less room than two prefixes and an address for each node: its mask.
fn two_thirds(nodes: usize) -> u8 {
    let least = nodes.saturating_mul(33);
    let fits = (16..=28_u8).find(|size| 1_usize << (32 - size) < least);
    fits.unwrap_or(28)
}

/// Twenty minutes of a subnet that has not enough, then every other node goes. How often is EC2 asked meanwhile?
fn dry(fleet: &mut Fleet, nodes: usize, pods: usize) -> [Aim; 2] {
    fleet.run("dry", 10 * MINUTE, |_| false);
    let before = fleet.tally.asked();
    fleet.run("dry", 20 * MINUTE, |_| false);
    let asked = fleet.tally.asked() - before;
    for n in (1..nodes).step_by(2) {
        fleet.terminate(n);
    }
    let left = u32::try_from(nodes.div_ceil(2) * pods).unwrap_or(u32::MAX);
    fleet.run("dry", 40 * MINUTE, |fleet| fleet.tally.running == left);
    let dry = Aim {
        what: "calls per second while the subnet is dry",
        figure: Some(asked as f64 / 600.0),
        // What one bucket of EC2 refills.
        at_most: 5.0,
    };
    let waiting = Aim {
        what: "pods that wait 20 minutes after there is room",
        figure: Some(f64::from(left - fleet.tally.running)),
        at_most: 0.0,
    };
    [dry, waiting]
}

fn figures(
    fleet: &Fleet,
    (scenario, what): (&'static str, &'static str),
    (pods, boot): (usize, u64),
    all: u32,
) -> Figures {
    let tally = &fleet.tally;
    let (asked, throttled) = (tally.asked(), tally.throttled());
    let seconds = tally.seconds.len() as f64;
    let made = tally.calls.iter().map(|(action, calls)| {
        let count = calls.done + calls.failed;
        (*action, count)
    });
    Figures {
        scenario,
        what,
        nodes: fleet.nodes.len(),
        pods,
        boot_seconds: boot as f64 / 1000.0,
        cluster_size: 0,
        seconds,
        calls: tally.calls.clone(),
        throttled_share: match asked {
            0 => 0.0,
            _ => throttled as f64 / asked as f64,
        },
        calls_per_second: asked as f64 / seconds,
        last_pod_seconds: (tally.running == all).then(|| tally.last_pod()),
        pods_at_the_end: tally.running,
        refused: tally.refused.clone(),
        bound: Bound::default(),
        bound_of_made: bound(made),
        aims: Vec::new(),
        wall_seconds: 0.0,
        steps: fleet.steps,
        course: tally.seconds.clone(),
    }
}
