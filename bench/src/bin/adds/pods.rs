//! Pods that stand on a node, and those that come and go on it while it is measured.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use suites::node::{Node, Sandbox};
use vpc_lab::{Lab, Mounted, Netns};

use crate::floor::Floor;

/// Pods that come at once.
pub(crate) const BURST: usize = 30;

/// A node with its pods.
pub(crate) struct Standing<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) node: Node<'a>,
    floor: Floor<'a>,
    _there: Vec<Mounted>,
    /// Namespaces of pods that have gone. The kernel takes a namespace down in its own time, with the lock that all wiring
    /// needs: that must not meet what is measured next.
    gone: Mutex<Vec<Mounted>>,
}

/// What was measured on a node.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) add: Vec<Duration>,
    pub(crate) del: Vec<Duration>,
    /// An empty program's start and end.
    pub(crate) start: Vec<Duration>,
    /// The kernel's part of an ADD, and of a DEL.
    pub(crate) wire: Vec<Duration>,
    pub(crate) unwire: Vec<Duration>,
    pub(crate) burst_add: Vec<Duration>,
    pub(crate) burst_del: Vec<Duration>,
    /// Start and wiring, thirty at once.
    pub(crate) burst_floor: Vec<Duration>,
}

/// Starts ipamd and waits until it has addresses for all.
pub(crate) async fn warm(node: &mut Node<'_>, pods: usize) -> anyhow::Result<()> {
    node.start_ipamd().await?;
    let enough = pods + 2 * BURST;
    let patience = Duration::from_secs(120);
    node.wait_for_pool_within(patience, "addresses for all", |pool| {
        let free = pool.totals.map_or(0, |totals| totals.free as usize);
        free >= enough && pool.pending_calls.is_empty()
    })
    .await?;
    Ok(())
}

impl<'a> Standing<'a> {
    pub(crate) fn new(lab: &'a Lab, node: Node<'a>, pods: usize) -> anyhow::Result<Self> {
        let mut there = Vec::new();
        for n in 0..pods {
            let (netns, sandbox) = pod(lab, &node, &format!("stands-{n}"))?;
            sandbox.add()?.address()?;
            there.push(netns.set_aside());
        }
        let floor = Floor::new(node.lab().netns())?;
        Ok(Self {
            lab,
            node,
            floor,
            _there: there,
            gone: Mutex::default(),
        })
    }

    /// One pod comes and goes, by the plugin and by the floor; each is the first in every other turn.
    pub(crate) fn one(&self, turn: usize, samples: &mut Samples) -> anyhow::Result<()> {
        let (netns, sandbox) = pod(self.lab, &self.node, &format!("one-{turn}"))?;
        let bare = self.bare(&format!("bare-{turn}"))?;
        for floor in [turn.is_multiple_of(2), !turn.is_multiple_of(2)] {
            if floor {
                samples.start.push(self.floor.start()?);
                samples.wire.push(self.floor.wire(&bare, 0)?);
                samples.unwire.push(self.floor.unwire(0)?);
            } else {
                samples.add.push(took(&sandbox, "ADD")?);
                samples.del.push(took(&sandbox, "DEL")?);
            }
        }
        self.keep([netns, bare]);
        Ok(())
    }

    fn keep(&self, gone: impl IntoIterator<Item = Netns>) {
        let mut all = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(gone.into_iter().map(Netns::set_aside));
    }

    /// Thirty come at once, and go at once.
    pub(crate) fn burst(&self, turn: usize, samples: &mut Samples) -> anyhow::Result<()> {
        let made = |n: usize| pod(self.lab, &self.node, &format!("burst-{turn}-{n}"));
        let pods: Vec<_> = (0..BURST).map(made).collect::<Result<_, _>>()?;
        samples
            .burst_add
            .extend(at_once(&pods, |_, (_, sandbox)| took(sandbox, "ADD"))?);
        samples
            .burst_del
            .extend(at_once(&pods, |_, (_, sandbox)| took(sandbox, "DEL"))?);
        let bare: Vec<_> = (0..BURST)
            .map(|n| self.bare(&format!("bare-{turn}-{n}")))
            .collect::<Result<_, _>>()?;
        samples.burst_floor.extend(at_once(&bare, |n, netns| {
            Ok(self.floor.start()? + self.floor.wire(netns, n)?)
        })?);
        for n in 0..BURST {
            self.floor.unwire(n)?;
        }
        self.keep(pods.into_iter().map(|(netns, _)| netns).chain(bare));
        Ok(())
    }

    fn bare(&self, name: &str) -> anyhow::Result<Netns> {
        self.lab.pod_netns(&format!("{}-{name}", self.node.name()))
    }
}

/// A namespace, and what the runtime would call for it.
pub(crate) fn pod<'a>(
    lab: &Lab,
    node: &Node<'a>,
    name: &str,
) -> anyhow::Result<(Netns, Sandbox<'a>)> {
    let name = format!("{}-{name}", node.name());
    let netns = lab.pod_netns(&name)?;
    let sandbox = node.sandbox(&name, &name, netns.path());
    Ok((netns, sandbox))
}

fn took(sandbox: &Sandbox<'_>, verb: &str) -> anyhow::Result<Duration> {
    let outcome = sandbox.call(verb)?;
    ensure!(outcome.code == Some(0), "{verb}: {outcome:?}");
    Ok(outcome.took)
}

/// Does it for each on a thread of its own, all from the same moment on.
fn at_once<T: Sync>(
    all: &[T],
    work: impl Fn(usize, &T) -> anyhow::Result<Duration> + Sync,
) -> anyhow::Result<Vec<Duration>> {
    let moment = Instant::now() + Duration::from_millis(20);
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(n, one)| {
                scope.spawn(move || {
                    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
                    work(n, one)
                })
            })
            .collect();
        let threads = threads.into_iter();
        threads
            .map(|thread| thread.join().ok().context("a thread panicked")?)
            .collect()
    })
}
