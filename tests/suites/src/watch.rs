//! What the kernel tells of changes: `ip monitor` and `nft monitor`, between two marks.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use vpc_lab::Netns;
use vpc_lab::netns::Running;

use crate::harness::eventually;
use crate::node::text_of;

/// Listens to all that changes in a namespace: links, addresses, routes, rules and neighbours of both families, and
/// nftables.
#[derive(Debug)]
pub struct Watch<'a> {
    netns: &'a Netns,
    logs: [PathBuf; 2],
    _programs: [Running; 2],
}

/// A rule and a table that nobody else makes: they mark the begin and the end of the watch.
const MARKS: [&str; 2] = ["mark_begin", "mark_end"];

impl<'a> Watch<'a> {
    /// Begins. It is known to listen when this returns. Waits first for what the kernel still does by itself to links that
    /// came up of late: their link-local addresses are tentative for a while.
    ///
    /// # Errors
    /// When `ip` or `nft` are not there, or tell nothing of a change.
    pub async fn begin(netns: &'a Netns) -> anyhow::Result<Self> {
        eventually("no address is tentative", async || {
            let tentative = text_of(netns, "ip", &["-6", "addr", "show", "tentative"])?;
            Ok(tentative.is_empty().then_some(()))
        })
        .await?;
        let log = |name: &str| {
            std::env::temp_dir().join(format!(
                "weir-watch-{}-{}-{name}",
                std::process::id(),
                netns.name()
            ))
        };
        let logs = [log("ip"), log("nft")];
        let start = |program: &str, arguments: &[&str], log: &PathBuf| {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(File::create(log)?)
                .stderr(Stdio::null());
            netns.spawn(command)
        };
        let _programs = [
            start("ip", &["monitor", "all"], &logs[0])?,
            start("nft", &["monitor"], &logs[1])?,
        ];
        let watch = Self {
            netns,
            logs,
            _programs,
        };
        watch.mark(MARKS[0]).await?;
        Ok(watch)
    }

    /// Ends, and answers what was told meanwhile, a change to a line. What the kernel learns of its neighbours by itself
    /// is left out: those that were set by somebody are `PERMANENT`.
    ///
    /// # Errors
    /// When `ip` or `nft` tell nothing any more.
    pub async fn end(self) -> anyhow::Result<Vec<String>> {
        self.mark(MARKS[1]).await?;
        let mut told = Vec::new();
        for log in &self.logs {
            let text = fs::read_to_string(log)?;
            let after = text.lines().skip_while(|line| !is_mark(line, 0));
            let between = after.take_while(|line| !is_mark(line, 1));
            let ours = between.filter(|line| !is_mark(line, 0) && !learnt(line));
            told.extend(ours.map(str::to_owned));
        }
        Ok(told)
    }

    /// Makes the mark until both tell of it: they may only be starting.
    async fn mark(&self, mark: &str) -> anyhow::Result<()> {
        let place = MARKS.iter().position(|name| *name == mark).unwrap_or(0);
        let table = TABLES[place];
        eventually("the mark is told of", async || {
            for change in ["add", "del"] {
                let rule = ["rule", change, "pref", "31999", "lookup", table];
                text_of(self.netns, "ip", &rule)?;
            }
            text_of(self.netns, "nft", &["add", "table", "ip", mark])?;
            text_of(self.netns, "nft", &["delete", "table", "ip", mark])?;
            let told = |log: &PathBuf| -> anyhow::Result<bool> {
                let text = fs::read_to_string(log)?;
                Ok(text.lines().any(|line| is_mark(line, place)))
            };
            Ok((told(&self.logs[0])? && told(&self.logs[1])?).then_some(()))
        })
        .await
        .with_context(|| format!("in {}", self.netns.name()))
    }
}

const TABLES: [&str; 2] = ["31997", "31998"];

fn is_mark(line: &str, place: usize) -> bool {
    line.contains(MARKS[place]) || line.contains(&format!("lookup {}", TABLES[place]))
}

/// A neighbour that the kernel found or lost by asking; and the generation's number that ends each change of nftables.
fn learnt(line: &str) -> bool {
    let states = [
        "REACHABLE",
        "STALE",
        "DELAY",
        "PROBE",
        "INCOMPLETE",
        "FAILED",
    ];
    let neighbour = line.contains("lladdr") || line.contains("dev ");
    (neighbour && states.iter().any(|state| line.trim_end().ends_with(state)))
        || line.starts_with("# new generation")
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        for log in &self.logs {
            drop(fs::remove_file(log));
        }
    }
}
