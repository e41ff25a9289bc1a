//! The story of a world: what was asked, by whom, what it got, and what happened from outside.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::call::Delivery;
use crate::ids::InstanceId;
use crate::time::SimTime;

/// One request to EC2.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CallRecord {
    /// When it came.
    pub at: SimTime,
    /// The action; empty when the request named none.
    pub action: String,
    /// The account that it belongs to.
    pub account: String,
    /// The instance that it came from, by its credentials or else by the address it came from.
    pub instance: Option<InstanceId>,
    /// The access key that it was signed with.
    pub access_key: Option<String>,
    /// The address that it came from.
    pub address: Option<IpAddr>,
    /// The parameters, but for `Action` and `Version`.
    pub params: BTreeMap<String, String>,
    /// `None`: success. Else EC2's error code, or what a fault did to the reply: `(hung)`, `(reset)` or
    /// `(truncated)`.
    pub error: Option<String>,
    /// How its reply travels.
    pub delivery: Delivery,
    /// Tokens that it took: 1, or 0 when it was refused before it could take one, when a fault answered in EC2's
    /// place, when the action does not exist, or when throttling is off.
    pub cost: u32,
    /// What was left in its token bucket after it. `None` when it never came to a bucket.
    pub tokens_left: Option<f64>,
    /// The id in the reply.
    pub request_id: String,
}

impl CallRecord {
    /// `ok`, or the error.
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.error.as_deref().unwrap_or("ok")
    }
}

/// One request for metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImdsRecord {
    /// When it came.
    pub at: SimTime,
    /// Whose metadata was asked for.
    pub instance: InstanceId,
    /// Such as `GET`.
    pub method: String,
    /// As it was asked for.
    pub path: String,
    /// HTTP status of the reply.
    pub status: u16,
    /// How the reply travels.
    pub delivery: Delivery,
}

/// One thing that happened from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EventRecord {
    /// When.
    pub at: SimTime,
    /// In words.
    pub what: String,
    /// Why it could not happen after all.
    pub error: Option<String>,
}

/// A line of the story.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A request to EC2.
    Call(CallRecord),
    /// A request for metadata; only with [`log_imds`](crate::WorldConfig::log_imds).
    Imds(ImdsRecord),
    /// Something from outside.
    Event(EventRecord),
}

impl fmt::Display for Entry {
    /// One line: when, who, what, and what came of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Call(call) => {
                let who = call.instance.as_ref().map_or("-", InstanceId::as_str);
                write!(f, "{} {who} {} {}", call.at, call.action, call.outcome())?;
                if let Delivery::After(latency) = call.delivery {
                    write!(f, " +{}", humantime::format_duration(latency))?;
                }
                if let Some(left) = call.tokens_left {
                    write!(f, " tokens={left:.1}")?;
                }
                call.params
                    .iter()
                    .try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Entry::Imds(asked) => {
                let (at, who, method) = (asked.at, &asked.instance, &asked.method);
                write!(f, "{at} {who} {method} {} ", asked.path)?;
                match asked.delivery {
                    Delivery::Never => write!(f, "(hung)"),
                    Delivery::Reset => write!(f, "(reset)"),
                    Delivery::Now | Delivery::After(_) => write!(f, "{}", asked.status),
                }
            }
            Entry::Event(event) => {
                write!(f, "{} ** {}", event.at, event.what)?;
                match &event.error {
                    Some(why) => write!(f, ": could not happen: {why}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// The latest requests and events, and how many requests there were of each action and outcome.
#[derive(Clone, Debug)]
pub struct CallLog {
    entries: VecDeque<Entry>,
    counts: BTreeMap<String, u64>,
    outcomes: BTreeMap<String, BTreeMap<String, u64>>,
    imds: BTreeMap<u16, u64>,
    tokens: u64,
    /// How many entries there were, with those that the log has dropped.
    pushed: usize,
    capacity: usize,
}

/// How many different actions, and outcomes of each, are counted: callers can invent names without end.
const MOST_NAMES: usize = 1000;

impl CallLog {
    /// Keeps the latest `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize) -> CallLog {
        CallLog {
            entries: VecDeque::new(),
            counts: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            imds: BTreeMap::new(),
            tokens: 0,
            pushed: 0,
            capacity,
        }
    }

    /// The requests to EC2, the oldest first, as far as the log reaches.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &CallRecord> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Call(call) => Some(call),
            Entry::Imds(_) | Entry::Event(_) => None,
        })
    }

    /// Everything, the oldest first, as far as the log reaches.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many requests and events there were since the beginning.
    #[must_use]
    pub fn pushed(&self) -> usize {
        self.pushed
    }

    /// Everything after the first `seen` entries of all time, the oldest first, as far as the log reaches.
    pub fn since(&self, seen: usize) -> impl Iterator<Item = &Entry> {
        let dropped = self.pushed - self.entries.len();
        self.entries.iter().skip(seen.saturating_sub(dropped))
    }

    /// How many requests there were of each action since the beginning, failed ones too.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// How many requests of each action had each outcome since the beginning: `ok`, an error code, or what a fault
    /// did to the reply.
    #[must_use]
    pub fn outcomes(&self) -> &BTreeMap<String, BTreeMap<String, u64>> {
        &self.outcomes
    }

    /// How many requests for metadata got each HTTP status since the beginning; 0 is those that were never answered.
    #[must_use]
    pub fn imds_counts(&self) -> &BTreeMap<u16, u64> {
        &self.imds
    }

    /// Tokens that all requests together took since the beginning.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Everything as text, a line for each entry.
    #[must_use]
    pub fn story(&self) -> String {
        self.entries
            .iter()
            .map(|entry| format!("{entry}\n"))
            .collect()
    }

    pub(crate) fn add(&mut self, record: CallRecord) {
        self.tokens += u64::from(record.cost);
        count(&mut self.counts, &record.action);
        if let Some(outcomes) = self.outcomes.get_mut(&record.action) {
            count(outcomes, record.outcome());
        } else if self.outcomes.len() < MOST_NAMES {
            let first = BTreeMap::from([(record.outcome().to_owned(), 1)]);
            self.outcomes.insert(record.action.clone(), first);
        }
        self.push(Entry::Call(record));
    }

    pub(crate) fn add_event(&mut self, record: EventRecord) {
        self.push(Entry::Event(record));
    }

    /// Counts a request for metadata, and keeps it if there is a record of it.
    pub(crate) fn add_imds(&mut self, status: u16, record: Option<ImdsRecord>) {
        *self.imds.entry(status).or_default() += 1;
        if let Some(record) = record {
            self.push(Entry::Imds(record));
        }
    }

    fn push(&mut self, entry: Entry) {
        self.pushed += 1;
        self.entries.push_back(entry);
        while self.entries.len() > self.capacity {
            self.entries.pop_front();
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
    } else if counts.len() < MOST_NAMES {
        counts.insert(name.to_owned(), 1);
    }
}
