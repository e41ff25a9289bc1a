//! What makes two worlds the same: all that can change what happens from now on, and nothing else.

#![expect(clippy::string_slice, reason = "the text is cut at ASCII alone")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

use super::World;
use crate::{State, Time};

/// Older than everything that the pool compares an age with.
const LONG_AGO: u64 = 130_000;

impl World {
    /// The same for two worlds that go on alike. Moments count from now, and those of long ago by their order alone;
    /// so do versions of the books and the numbers of calls and requests, of which the pool knows no more.
    pub(in crate::state::tests) fn fingerprint(&self) -> u64 {
        let Self {
            now,
            state,
            node: _,
            settings: _,
            disk,
            enis,
            loose,
            made,
            subnet_left,
            next_address,
            // They do not change.
            zone: _,
            exhausted: _,
            fragmented,
            routed,
            set_up,
            prepared,
            books_lost,
            imds,
            links,
            todo,
            replies,
            wake,
            told: _,
            watch: _,
            asked: _,
            next_request: _,
            waiting,
            answers: _,
            owned,
            cooling,
        } = self;
        let waiting = waiting
            .iter()
            .map(|(request, (whose, until))| (request, whose, Time(*until)));
        let owned = owned
            .iter()
            .map(|(whose, (addresses, since))| (whose, addresses, Time(*since)));
        // What has cooled is anybody's.
        let cooling = cooling
            .iter()
            .filter(|(_, (until, _))| until > now)
            .map(|(ip, (until, last))| (ip, Time(*until), last));
        let mut text = String::with_capacity(16_384);
        write!(
            text,
            "{disk:?}{enis:?}{loose:?}{made}{subnet_left}{next_address}{fragmented}{routed:?}{set_up:?}{prepared}{books_lost}\
             {imds}{links:?}{todo:?}{replies:?}{:?}{:?}{:?}{:?}",
            wake.map(Time),
            waiting.collect::<Vec<_>>(),
            owned.collect::<Vec<_>>(),
            cooling.collect::<Vec<_>>(),
        )
        .unwrap();
        write_state(&mut text, state);
        hash(&text, *now)
    }
}

fn write_state(text: &mut String, state: &State) {
    let State {
        node,
        settings: _,
        boot_id: _,
        // It spreads retries: which of the moments it picks does not matter.
        jitter: _,
        // Holds nothing back in these worlds.
        governor: _,
        // No tags in these worlds.
        survey: _,
        now: _,
        phase,
        going,
        bound,
        draining,
        set_mode,
        troubles,
        pool,
        adds,
        turned_away,
        farewells,
        intents,
        tombstones,
        deleted,
        shrink_at,
        supply_before,
        lost_before,
        warm_at,
        calls,
        next_call,
        setbacks,
        at_once,
        last_error,
        describe_setback,
        describe_at,
        version,
        requested,
        written,
        disk_setback,
        preparation,
        sweeps,
        // Only of the last step.
        freed: _,
        wake_at,
        effects: _,
    } = state;
    write!(
        text,
        "{phase:?}{going}{bound}{draining}{set_mode:?}{troubles:?}{adds:?}{turned_away:?}{farewells:?}{intents:?}{tombstones:?}{deleted:?}\
         {shrink_at:?}{supply_before:?}{lost_before}{warm_at:?}{calls:?}{next_call:?}{setbacks:?}{at_once:?}{last_error:?}{describe_setback:?}{describe_at:?}\
         {version:?}{requested:?}{written:?}{disk_setback:?}{preparation:?}{sweeps:?}{wake_at:?}"
    )
    .unwrap();
    // The rest of it does not change.
    write!(text, "{:?}", node.security_groups).unwrap();
    for (id, eni) in pool.enis() {
        write!(
            text,
            "{id}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}",
            eni.place,
            eni.link,
            eni.life,
            eni.since,
            eni.groups,
            eni.changed,
            eni.unsettled,
            eni.trouble
        )
        .unwrap();
        for (net, slot) in eni.slots() {
            write!(
                text,
                "{net}{:?}{:?}{}{:?}",
                slot.holding, slot.routing, slot.leaving, slot.since
            )
            .unwrap();
        }
    }
    for claim in pool.claims() {
        write!(text, "{claim:?}").unwrap();
    }
    for owner in pool.owners() {
        write!(text, "{owner:?}").unwrap();
    }
}

/// Numbers that mean something by their order alone.
const RANKED: [&str; 3] = ["BooksVersion(", "CallId(", "RequestId("];
const TOKEN: &str = "ClientToken(\"";

/// Of the text, with numbers and tokens replaced by what they mean.
fn hash(text: &str, now: u64) -> u64 {
    let mut ranked: [BTreeSet<u64>; 3] = Default::default();
    let mut long_ago = BTreeSet::new();
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, name, inner, after)) = next(rest) {
        match RANKED.iter().position(|it| *it == name) {
            Some(at) => drop(ranked[at].insert(inner.parse().unwrap())),
            None if name == "Time(" => {
                let at: u64 = inner.parse().unwrap();
                if now.saturating_sub(at) > LONG_AGO {
                    long_ago.insert(at);
                }
            }
            None => {}
        }
        parts.push((before, name, inner));
        rest = after;
    }
    let rank = |all: &BTreeSet<u64>, it: u64| all.range(..it).count() as i64;
    let mut tokens = BTreeMap::new();
    let mut hasher = DefaultHasher::new();
    for (before, name, inner) in parts {
        hasher.write(before.as_bytes());
        hasher.write(name.as_bytes());
        let meaning = match RANKED.iter().position(|it| *it == name) {
            Some(at) => rank(&ranked[at], inner.parse().unwrap()),
            None if name == TOKEN => {
                let fresh = tokens.len() as i64;
                *tokens.entry(inner).or_insert(fresh)
            }
            None => {
                let at: u64 = inner.parse().unwrap();
                if long_ago.contains(&at) {
                    i64::MIN + rank(&long_ago, at)
                } else {
                    at.wrapping_sub(now) as i64
                }
            }
        };
        hasher.write_i64(meaning);
    }
    hasher.write(rest.as_bytes());
    hasher.finish()
}

/// The next number or token: the text before it, its name, itself, the text after it.
fn next(text: &str) -> Option<(&str, &'static str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text.get(from..)?.find('(')?;
        let head = text.get(..=open)?;
        let name = RANKED
            .into_iter()
            .chain(["Time("])
            .find(|name| head.ends_with(name));
        if let Some(name) = name {
            let after = text.get(open + 1..)?;
            let close = after.find(')')?;
            return Some((&head[..=open], name, &after[..close], &after[close..]));
        }
        if head.ends_with("ClientToken(") {
            let after = text.get(open + 2..)?;
            let close = after.find('"')?;
            return Some((head, TOKEN, &after[..close], &after[close..]));
        }
        from = open + 1;
    }
}
