//! Somebody else on the node, who deletes what is not theirs.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use datapath::layout;
use serde_json::Value;
use suites::node::{json_of, text_of};

use crate::random::Random;
use crate::world::World;

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Damage {
    /// What one pod has: its link, and what is on it. CHECK tells of it and DEL must do without it
    Pod,
    /// And what all pods share: rules, the routes of ENIs and of addresses without a pod, nftables. ipamd repairs it
    /// when it starts
    Node,
    /// The same, and ipamd repairs what all pods share while it runs, within seconds
    Repaired,
}

impl Damage {
    /// Whether an ipamd that runs repairs what all pods share.
    pub(crate) fn is_repaired(self) -> bool {
        self == Self::Repaired
    }
}

const PAUSE: Duration = Duration::from_millis(500);

pub(crate) fn run(world: &World<'_>, mut random: Random, over: Instant) {
    while Instant::now() < over && !world.is_broken() {
        std::thread::sleep(random.up_to(PAUSE));
        let all = world.damage != Damage::Pod && random.percent(30);
        let done = if all {
            of_all(world, &mut random)
        } else {
            of_a_pod(world, &mut random)
        };
        if let Err(error) = done {
            // It came too late: what it wanted to delete is gone.
            world.tell(format_args!("stranger: {error:#}"));
        }
    }
}

/// Deletes the link of a pod, or what leads to it.
fn of_a_pod(world: &World<'_>, random: &mut Random) -> anyhow::Result<()> {
    let links = json_of(world.host, "ip", &["-j", "link"])?;
    let names = links.as_array().into_iter().flatten();
    let names: Vec<&str> = names
        .filter_map(|link| link["ifname"].as_str())
        .filter(|name| name.starts_with("weir"))
        .collect();
    let Some(link) = random.one_of(&names).copied() else {
        return Ok(());
    };
    let table = layout::PODS_TABLE.to_string();
    let (what, arguments): (_, Vec<Vec<&str>>) = match random.below(4) {
        0 => ("link of a pod", vec![vec!["link", "del", link]]),
        1 => (
            "route to a pod",
            vec![vec!["route", "flush", "table", &table, "dev", link]],
        ),
        2 => (
            "neighbour of a pod",
            vec![vec!["neigh", "flush", "dev", link, "nud", "permanent"]],
        ),
        _ => (
            "link of a pod, down and up",
            vec![
                vec!["link", "set", link, "down"],
                vec!["link", "set", link, "up"],
            ],
        ),
    };
    world.hurt(link);
    world.tell(format_args!("stranger: {what}: {link}"));
    for arguments in arguments {
        text_of(world.host, "ip", &arguments)?;
    }
    world.met(&format!("stranger: {what}"));
    Ok(())
}

/// Deletes something that all pods share.
fn of_all(world: &World<'_>, random: &mut Random) -> anyhow::Result<()> {
    let table = layout::PODS_TABLE.to_string();
    let ours = layout::ROUTE_PROTOCOL.to_string();
    let (what, program, arguments): (_, _, Vec<String>) = match random.below(6) {
        0 => {
            let rules = json_of(world.host, "ip", &["-j", "rule"])?;
            let mine = |rule: &&Value| rule["protocol"].to_string().contains(&ours);
            let rules = rules.as_array().into_iter().flatten().filter(mine);
            let priorities: Vec<String> = rules.map(|rule| rule["priority"].to_string()).collect();
            let Some(priority) = random.one_of(&priorities) else {
                return Ok(());
            };
            let delete = ["rule", "del", "pref", priority];
            ("rule", "ip", delete.map(str::to_owned).to_vec())
        }
        1 => {
            let arguments = ["route", "flush", "table", &table, "type", "unreachable"];
            (
                "routes of addresses",
                "ip",
                arguments.map(str::to_owned).to_vec(),
            )
        }
        2 => {
            let eni = layout::Place::first_card(1).table().to_string();
            let arguments = ["route", "flush", "table", &eni];
            (
                "routes of an ENI",
                "ip",
                arguments.map(str::to_owned).to_vec(),
            )
        }
        3 => {
            let arguments = ["flush", "map", "ip", "weir", "eni"];
            ("marks", "nft", arguments.map(str::to_owned).to_vec())
        }
        4 => {
            let arguments = ["delete", "table", "ip", "weir"];
            ("nftables", "nft", arguments.map(str::to_owned).to_vec())
        }
        _ => {
            let links = json_of(world.host, "ip", &["-j", "link"])?;
            let names = links.as_array().into_iter().flatten();
            let names: Vec<String> = names
                .filter_map(|link| link["ifname"].as_str())
                .filter(|name| name.starts_with("ens") && *name != "ens5")
                .map(str::to_owned)
                .collect();
            let Some(name) = random.one_of(&names) else {
                return Ok(());
            };
            let arguments = ["link", "set", name, "down"];
            (
                "link of an ENI",
                "ip",
                arguments.map(str::to_owned).to_vec(),
            )
        }
    };
    world.hurt_all();
    world.tell(format_args!(
        "stranger: {what}: {program} {}",
        arguments.join(" ")
    ));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    text_of(world.host, program, &arguments)?;
    world.met(&format!("stranger: {what}"));
    Ok(())
}
