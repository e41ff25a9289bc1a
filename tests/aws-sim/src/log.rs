//! What was asked, by whom, and what it got.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::ids::InstanceId;
use crate::time::SimTime;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// When it came.
    pub at: SimTime,
    /// The action; empty when the request named none.
    pub action: String,
    /// The instance that it came from, by its credentials or else by the address it came from.
    pub instance: Option<InstanceId>,
    /// The access key that it was signed with.
    pub access_key: Option<String>,
    /// The address that it came from.
    pub address: Option<IpAddr>,
    /// The parameters, but for `Action` and `Version`.
    pub params: BTreeMap<String, String>,
    /// `None`: success. Else EC2's error code, or what a fault did to the reply.
    pub error: Option<String>,
    /// What was left in its token bucket after it. `None`: it took from none, because it was refused before that, a
    /// fault answered in EC2's place, the action does not exist, or throttling is off.
    pub tokens_left: Option<f64>,
    /// The id in the reply.
    pub request_id: String,
}

/// The latest requests, and how many there were of each action.
#[derive(Clone, Debug)]
pub struct CallLog {
    records: VecDeque<CallRecord>,
    counts: BTreeMap<String, u64>,
    capacity: usize,
}

impl CallLog {
    /// Keeps the latest `capacity` requests.
    #[must_use]
    pub fn new(capacity: usize) -> CallLog {
        CallLog {
            records: VecDeque::new(),
            counts: BTreeMap::new(),
            capacity,
        }
    }

    /// The requests, the oldest first, as far as the log reaches.
    pub fn records(&self) -> impl Iterator<Item = &CallRecord> {
        self.records.iter()
    }

    /// How many requests there were of each action since the beginning, failed ones too.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    pub(crate) fn add(&mut self, record: CallRecord) {
        if self.counts.len() < 1000 || self.counts.contains_key(&record.action) {
            *self.counts.entry(record.action.clone()).or_default() += 1;
        }
        self.records.push_back(record);
        while self.records.len() > self.capacity {
            self.records.pop_front();
        }
    }
}
