//! The figures, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use suites::programs;

use crate::pods::Samples;

/// All of them. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether ipamd was built for speed.
    optimised: bool,
    plugin_bytes: u64,
    plugin_peak_memory_bytes: u64,
    nodes: Vec<Figures>,
}

#[derive(Debug, Serialize)]
struct Figures {
    pods: usize,
    add: Percentiles,
    del: Percentiles,
    /// An empty program, and the wiring by netlink: the two parts of the floor.
    start: Percentiles,
    wire: Percentiles,
    unwire: Percentiles,
    burst_add: Percentiles,
    burst_del: Percentiles,
    burst_floor: Percentiles,
    /// The median ADD over the median floor.
    add_over_floor: f64,
    del_over_floor: f64,
    /// The median ADD over that of the first node.
    add_over_first: f64,
    samples: usize,
    burst_samples: usize,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Percentiles {
    /// By nearest rank.
    fn of(samples: &[Duration]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            let sample = sorted.get(rank - 1).copied().unwrap_or_default();
            (sample.as_secs_f64() * 1e6).round() / 1e3
        };
        Self {
            p50: at(50),
            p90: at(90),
            p99: at(99),
        }
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    (a / b * 100.0).round() / 100.0
}

impl Report {
    pub(crate) fn new(
        pods: &[usize],
        samples: Vec<Samples>,
        plugin_peak_memory_bytes: u64,
        plugin_bytes: u64,
    ) -> Self {
        let mut nodes: Vec<Figures> = Vec::new();
        for (pods, samples) in pods.iter().zip(samples) {
            let sum = |a: &[Duration], b: &[Duration]| -> Vec<Duration> {
                a.iter().zip(b).map(|(a, b)| *a + *b).collect()
            };
            let add = Percentiles::of(&samples.add);
            let del = Percentiles::of(&samples.del);
            let floor = Percentiles::of(&sum(&samples.start, &samples.wire));
            let del_floor = Percentiles::of(&sum(&samples.start, &samples.unwire));
            let first = nodes.first().map_or(add.p50, |first| first.add.p50);
            nodes.push(Figures {
                pods: *pods,
                add,
                del,
                start: Percentiles::of(&samples.start),
                wire: Percentiles::of(&samples.wire),
                unwire: Percentiles::of(&samples.unwire),
                burst_add: Percentiles::of(&samples.burst_add),
                burst_del: Percentiles::of(&samples.burst_del),
                burst_floor: Percentiles::of(&samples.burst_floor),
                add_over_floor: ratio(add.p50, floor.p50),
                del_over_floor: ratio(del.p50, del_floor.p50),
                add_over_first: ratio(add.p50, first),
                samples: samples.add.len(),
                burst_samples: samples.burst_add.len(),
            });
        }
        Self {
            optimised: programs::optimised(),
            plugin_bytes,
            plugin_peak_memory_bytes,
            nodes,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "milliseconds: p50 p90 p99")?;
        write!(f, "{:>5} ", "pods")?;
        for what in [
            "ADD",
            "DEL",
            "empty program",
            "wiring",
            "unwiring",
            "30 ADDs at once",
            "30 DELs at once",
            "30 floors at once",
        ] {
            write!(f, "| {what:<21} ")?;
        }
        writeln!(f, "| ADD/floor | DEL/floor | ADD/first")?;
        for node in &self.nodes {
            write!(f, "{:>5} ", node.pods)?;
            for it in [
                node.add,
                node.del,
                node.start,
                node.wire,
                node.unwire,
                node.burst_add,
                node.burst_del,
                node.burst_floor,
            ] {
                write!(f, "| {:>6.2} {:>6.2} {:>7.2} ", it.p50, it.p90, it.p99)?;
            }
            writeln!(
                f,
                "| {:>9.2} | {:>9.2} | {:>9.2}",
                node.add_over_floor, node.del_over_floor, node.add_over_first
            )?;
        }
        if let Some(node) = self.nodes.first() {
            writeln!(
                f,
                "{} ADDs one after another and {} in bursts on each node",
                node.samples, node.burst_samples
            )?;
        }
        let mib = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(0)) / 1024.0;
        writeln!(
            f,
            "the plugin: {:.2} MiB on disk, {:.2} MiB of memory at the most{}",
            mib(self.plugin_bytes),
            mib(self.plugin_peak_memory_bytes),
            if self.optimised {
                ""
            } else {
                "\nBuilt for debugging: these figures mean nothing"
            }
        )
    }
}
