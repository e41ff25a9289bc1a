//! The figures, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::traffic::Figures;
use crate::world::World;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    turns: usize,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    layout: &'static str,
    pods: usize,
    rules: usize,
    /// Between two pods of the node.
    pods_of_the_node: Medians,
    /// From a pod to a host of the VPC, and back.
    pod_and_vpc: Medians,
}

/// Medians over the turns. A ratio is that to our layout with the fewest pods in the same turn.
#[derive(Debug, Serialize)]
struct Medians {
    packets_per_second: f64,
    nanos_per_packet: f64,
    nanos_ratio: f64,
    round_trip_micros: f64,
    round_trip_ratio: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

impl Report {
    pub(crate) fn new(worlds: &[World], turns: &[Vec<[Figures; 2]>]) -> Self {
        let medians = |node: usize, way: usize| {
            let of = |value: fn(&Figures) -> f64| {
                median(turns.iter().map(|turn| value(&turn[node][way])).collect())
            };
            let ratio = |value: fn(&Figures) -> f64| {
                let ratios = turns.iter();
                median(
                    ratios
                        .map(|turn| value(&turn[node][way]) / value(&turn[0][way]))
                        .collect(),
                )
            };
            Medians {
                packets_per_second: of(|it| it.packets).round(),
                nanos_per_packet: of(|it| it.nanos).round(),
                nanos_ratio: rounded(ratio(|it| it.nanos), 3),
                round_trip_micros: rounded(of(|it| it.trip), 2),
                round_trip_ratio: rounded(ratio(|it| it.trip), 3),
            }
        };
        let nodes = worlds.iter().enumerate().map(|(at, world)| Node {
            layout: world.layout.name(),
            pods: world.pods,
            rules: world.rules,
            pods_of_the_node: medians(at, 0),
            pod_and_vpc: medians(at, 1),
        });
        Self {
            turns: turns.len(),
            nodes: nodes.collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18} {:>5} {:>6} | {:<52} | {:<52}",
            "", "", "", "pod to pod on the node", "pod to the VPC"
        )?;
        let columns = "packets/s  ns/packet  ratio  round trip µs  ratio";
        writeln!(
            f,
            "{:<18} {:>5} {:>6} | {columns:<52} | {columns:<52}",
            "layout", "pods", "rules"
        )?;
        for node in &self.nodes {
            write!(f, "{:<18} {:>5} {:>6} ", node.layout, node.pods, node.rules)?;
            for way in [&node.pods_of_the_node, &node.pod_and_vpc] {
                let text = format!(
                    "{:>9}  {:>9}  {:>5.3}  {:>13.2}  {:>5.3}",
                    way.packets_per_second,
                    way.nanos_per_packet,
                    way.nanos_ratio,
                    way.round_trip_micros,
                    way.round_trip_ratio
                );
                write!(f, "| {text:<52} ")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "medians of {} turns", self.turns)
    }
}
