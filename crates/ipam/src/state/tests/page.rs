//! `docs/life-of-an-address.md` says what the code does: the changes in its tables are just those that are seen.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::histories::{act, play, warm};
use super::look::full;
use super::world::{COOLDOWN, Watch, World, fresh, settings};
use crate::{AddressState, EniState, Event, Families};

const PAGE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/life-of-an-address.md"
));
const HISTORIES: u32 = 800;

/// From, to, at what event.
type Change = (String, String, String);

#[test]
fn the_page_on_the_life_of_an_address_says_what_the_code_does() {
    let (mut addresses, mut enis) = (BTreeSet::new(), BTreeSet::new());
    for watch in watched() {
        for (from, to, event) in watch.addresses {
            addresses.insert((address(from), address(to), event.to_owned()));
        }
        for (from, to, event) in watch.enis {
            enis.insert((eni(from), eni(to), event.to_owned()));
        }
    }
    let mut wrong = String::new();
    for (heading, seen) in [
        ("## Changes of an address", addresses),
        ("## Changes of an ENI", enis),
    ] {
        let said = table(heading);
        let any = |(from, to, _): &Change| (from.clone(), to.clone(), "any".to_owned());
        let unsaid = seen
            .iter()
            .filter(|change| !said.contains(change) && !said.contains(&any(change)));
        for (from, to, event) in unsaid {
            wrong += &format!("{heading}: {from} → {to} at {event} is not on the page\n");
        }
        // At which events it may come is more than random histories can say.
        let pairs = |all: &BTreeSet<Change>| -> BTreeSet<(String, String)> {
            let pairs = all.iter().map(|(from, to, _)| (from.clone(), to.clone()));
            pairs.collect()
        };
        for (from, to) in pairs(&said).difference(&pairs(&seen)) {
            wrong += &format!("{heading}: {from} → {to} is on the page, and was never seen\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn address(state: Option<AddressState>) -> String {
    let Some(state) = state else {
        return "–".to_owned();
    };
    format!("{state:?}").to_lowercase()
}

fn eni(state: Option<EniState>) -> String {
    match state {
        None => "–".to_owned(),
        Some(EniState::SettingUp) => "setting up".to_owned(),
        Some(state) => format!("{state:?}").to_lowercase(),
    }
}

/// The rows under a heading: `| from | to | events | why |`.
fn table(heading: &str) -> BTreeSet<Change> {
    let (_, section) = PAGE.split_once(heading).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let mut changes = BTreeSet::new();
    for row in rows.skip(1) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [from, to, events, _why] = cells.as_slice() else {
            panic!("{row}");
        };
        for event in events.split(", ") {
            let event = event.trim_matches('`').to_owned();
            changes.insert(((*from).to_owned(), (*to).to_owned(), event));
        }
    }
    changes
}

/// Random histories, always the same, and what others do to a node.
fn watched() -> Vec<Watch> {
    let mut runner = TestRunner::deterministic();
    let families = prop::sample::select(vec![Families::V4, Families::V4, Families::Dual]);
    let acts = prop::collection::vec(act(), 60..120);
    let history = (families, any::<bool>(), warm(), acts);
    let mut watched = Vec::new();
    for _ in 0..HISTORIES {
        let tree = history.new_tree(&mut runner).unwrap();
        let (families, delegation, warm, acts) = tree.current();
        let mut world = World::new(settings(families, delegation, warm)).watched();
        world.step(fresh());
        for act in acts {
            play(&mut world, act);
        }
        minutes(&mut world, 5);
        watched.push(world.watch.unwrap());
    }
    let others: [fn(&mut World); 4] = [taken_away, detached, not_to_be_managed, without_books];
    for other in others {
        let mut world = full().watched();
        other(&mut world);
        minutes(&mut world, 2);
        for n in 0..9 {
            world.del(n);
        }
        minutes(&mut world, 5);
        watched.push(world.watch.unwrap());
    }
    watched
}

fn minutes(world: &mut World, minutes: u32) {
    for _ in 0..minutes * 6 {
        world.calm();
        world.advance(10_000);
    }
}

fn look(world: &mut World) {
    world.advance(2 * COOLDOWN);
    world.step(Event::Doubt);
    world.calm();
}

fn taken_away(world: &mut World) {
    let ip = world.owned.values().next().unwrap().0[0];
    world.take_away(ip);
    look(world);
    world.imds = true;
    world.crash(false);
}

fn detached(world: &mut World) {
    let attachment = world.eni("eni-1").attachment.take();
    look(world);
    world.eni("eni-1").attachment = attachment;
    look(world);
}

fn not_to_be_managed(world: &mut World) {
    for n in 0..3 {
        world.del(n);
    }
    world.calm();
    for managed in [false, true] {
        for eni in ["eni-1", "eni-2"] {
            world.eni(eni).managed = managed;
        }
        look(world);
    }
}

fn without_books(world: &mut World) {
    world.crash_without_books();
    world.calm();
}
