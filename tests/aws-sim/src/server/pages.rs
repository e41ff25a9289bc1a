//! What there is and what was asked, read-only, as text for people and `grep` or as JSON: `/_sim/world`,
//! `/_sim/calls` and `/_sim/counts` on EC2's own port, and the same without `/_sim` on the control port.

use std::time::Duration;

use super::dump::{self, Dump};
use super::{HttpResponse, reply};
use crate::filters::wildcard;
use crate::log::{CallLog, Entry};
use crate::params::Params;
use crate::sim::Sim;
use crate::time::SimTime;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// The page at this path of EC2's port.
pub(super) fn of(sim: &Sim, path: &str) -> Option<HttpResponse> {
    let page = path.strip_prefix("/_sim/")?;
    let asked = Asked::default();
    Some(match page {
        "world" => world(sim, &asked),
        "calls" => calls(sim, &asked),
        "counts" => counts(sim, &asked),
        _ => reply(
            404,
            TEXT,
            "pages: /_sim/world, /_sim/calls, /_sim/counts\n".to_owned(),
        ),
    })
}

/// What a reader wants of a page.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) json: bool,
    /// A pattern for actions.
    pub(super) action: Option<String>,
    pub(super) since: SimTime,
}

impl Asked {
    /// From a query such as `action=Describe*&since=5s&format=json`.
    ///
    /// # Errors
    /// Says what is not known.
    pub(super) fn read(query: &str, accept: Option<&str>) -> Result<Asked, String> {
        let mut asked = Asked {
            json: accept.is_some_and(|accept| accept.contains(JSON)),
            ..Asked::default()
        };
        for (name, value) in Params::decode(query.as_bytes()).all() {
            match (name.as_str(), value.as_str()) {
                ("format", "json") => asked.json = true,
                ("format", "text") => asked.json = false,
                ("action", pattern) => asked.action = Some(pattern.to_owned()),
                ("since", since) => {
                    let since: Duration = humantime::parse_duration(since).map_err(|error| {
                        format!("since={since}: {error}; write the world's time, such as 1m30s")
                    })?;
                    asked.since = SimTime::ZERO.plus(since);
                }
                (name, value) => {
                    return Err(format!(
                        "{name}={value} is not known: there are format=json, format=text, action=PATTERN and \
                         since=TIME"
                    ));
                }
            }
        }
        Ok(asked)
    }
}

pub(super) fn world(sim: &Sim, asked: &Asked) -> HttpResponse {
    sim.look(|world, now| {
        let dump = Dump::of(world, now);
        if asked.json {
            reply(200, JSON, dump::json(&dump) + "\n")
        } else {
            reply(200, TEXT, dump::text(&dump))
        }
    })
}

pub(super) fn calls(sim: &Sim, asked: &Asked) -> HttpResponse {
    sim.look(|world, _| {
        let entries = world.log.entries().filter(|entry| wanted(entry, asked));
        if asked.json {
            reply(200, JSON, dump::json(&entries.collect::<Vec<_>>()) + "\n")
        } else {
            reply(
                200,
                TEXT,
                entries.map(|entry| format!("{entry}\n")).collect(),
            )
        }
    })
}

fn wanted(entry: &Entry, asked: &Asked) -> bool {
    let (at, action) = match entry {
        Entry::Call(call) => (call.at, call.action.as_str()),
        Entry::Imds(imds) => (imds.at, ""),
        Entry::Event(event) => (event.at, ""),
    };
    at >= asked.since
        && asked
            .action
            .as_deref()
            .is_none_or(|pattern| wildcard(pattern, action))
}

pub(super) fn counts(sim: &Sim, asked: &Asked) -> HttpResponse {
    sim.look(|world, _| {
        if asked.json {
            reply(200, JSON, counts_json(&world.log) + "\n")
        } else {
            reply(200, TEXT, counts_text(&world.log))
        }
    })
}

fn counts_json(log: &CallLog) -> String {
    let counts = serde_json::json!({
        "actions": log.counts(),
        "outcomes": log.outcomes(),
        "metadata": log.imds_counts(),
        "tokens": log.tokens(),
    });
    counts.to_string()
}

fn counts_text(log: &CallLog) -> String {
    let mut text = String::new();
    for (action, outcomes) in log.outcomes() {
        let outcomes = outcomes
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"));
        let outcomes: Vec<String> = outcomes.collect();
        text.push_str(&format!("{action}: {}\n", outcomes.join(", ")));
    }
    for (status, count) in log.imds_counts() {
        text.push_str(&format!("metadata {status}: {count}\n"));
    }
    text.push_str(&format!("tokens: {}\n", log.tokens()));
    text
}
