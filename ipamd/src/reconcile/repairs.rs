//! What was put back, counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datapath::{Fault, Part};
use ipam::Time;
use proto::v1;

use crate::clock::{self, Calendar};

/// Named in one line of the log; a flushed table has hundreds.
const NAMED: usize = 5;

/// Counts since the start. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repairs(Arc<Mutex<BTreeMap<Part, Count>>>);

#[derive(Debug)]
struct Count {
    count: u64,
    last: Time,
    what: String,
}

impl Repairs {
    pub(super) fn count(&self, repaired: BTreeMap<Part, Vec<String>>) {
        let last = clock::now();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, what) in repaired {
            let before = counts.get(&part).map_or(0, |count| count.count);
            let more = u64::try_from(what.len()).unwrap_or(u64::MAX);
            let count = Count {
                count: before.saturating_add(more),
                last,
                what: list(&what),
            };
            counts.insert(part, count);
        }
    }

    pub(crate) fn view(&self, calendar: Calendar) -> Vec<v1::Repair> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.iter().map(|(part, count)| v1::Repair {
            kind: part.name().to_owned(),
            count: count.count,
            last: Some(calendar.timestamp(count.last)),
            what: count.what.clone(),
        });
        counts.collect()
    }
}

pub(super) fn by_part(faults: &[Fault]) -> BTreeMap<Part, Vec<String>> {
    let mut by_part = BTreeMap::<_, Vec<_>>::new();
    for fault in faults {
        by_part
            .entry(fault.part())
            .or_default()
            .push(fault.to_string());
    }
    by_part
}

/// The first of them, and how many more there are.
pub(super) fn list(what: &[String]) -> String {
    let named: Vec<&str> = what.iter().take(NAMED).map(String::as_str).collect();
    let named = named.join("; ");
    match what.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}
