//! What became of addresses and ENIs, as [`PoolView`] shows it before and after each event.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{AddressState, EniId, EniState, Event, Place, PoolView};

/// From, to, at what event. `None`: the pool does not have it.
type Changes<S> = BTreeSet<(Option<S>, Option<S>, &'static str)>;

#[derive(Clone, Debug, Default)]
pub(in crate::state::tests) struct Watch {
    pub(in crate::state::tests) addresses: Changes<AddressState>,
    pub(in crate::state::tests) enis: Changes<EniState>,
}

impl Watch {
    pub(super) fn note(&mut self, before: &PoolView, event: &'static str, after: &PoolView) {
        let ips = |view: &PoolView| -> Vec<IpAddr> {
            let addresses = view.enis.iter().flat_map(|eni| &eni.addresses);
            addresses.map(|it| it.address).collect()
        };
        for ip in ips(before).into_iter().chain(ips(after)) {
            let (from, to) = (address(before, ip), address(after, ip));
            if from != to {
                self.addresses.insert((from, to, event));
            }
        }
        let (mut from, to) = (enis(before), enis(after));
        for (key, to) in &to {
            let made = Key::Made(to.place);
            let from = match from.remove(key) {
                // It got its id just now.
                None => from.remove(&made),
                from => from,
            };
            let from = from.map(|it| it.state);
            if from != Some(to.state) {
                self.enis.insert((from, Some(to.state), event));
            }
        }
        for gone in from.into_values() {
            self.enis.insert((Some(gone.state), None, event));
        }
    }
}

/// An address of a prefix that nobody has or had of late is what its prefix is.
fn address(view: &PoolView, ip: IpAddr) -> Option<AddressState> {
    let mut addresses = view.enis.iter().flat_map(|eni| &eni.addresses);
    let slots = || view.enis.iter().flat_map(|eni| &eni.slots);
    let known = addresses.find(|it| it.address == ip).map(|it| it.state);
    known.or_else(|| Some(slots().find(|it| it.slot.contains(&ip))?.state))
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Being made: it has no id yet.
    Made(Place),
    Known(EniId),
}

struct Seen {
    state: EniState,
    place: Place,
}

fn enis(view: &PoolView) -> BTreeMap<Key, Seen> {
    let enis = view.enis.iter().map(|eni| {
        let key = eni.id.clone().map_or(Key::Made(eni.place), Key::Known);
        let (state, place) = (eni.state, eni.place);
        (key, Seen { state, place })
    });
    enis.collect()
}

/// The name of its kind.
pub(super) fn kind(event: &Event) -> &'static str {
    match event {
        Event::Start { .. } => "Start",
        Event::Add(_) => "Add",
        Event::Cancel(_) => "Cancel",
        Event::Del { .. } => "Del",
        Event::Gc { .. } => "Gc",
        Event::BooksWritten(_) => "BooksWritten",
        Event::BooksFailed(_) => "BooksFailed",
        Event::CallDone { .. } => "CallDone",
        Event::NodePrepared(_) => "NodePrepared",
        Event::EniSetUp { .. } => "EniSetUp",
        Event::EniTornDown { .. } => "EniTornDown",
        Event::Routed { .. } => "Routed",
        Event::Unrouted { .. } => "Unrouted",
        Event::Doubt => "Doubt",
        Event::SecurityGroups(_) => "SecurityGroups",
        Event::PodsBound(_) => "PodsBound",
        Event::Draining(_) => "Draining",
        Event::SetMode(_) => "SetMode",
        Event::Wake => "Wake",
        Event::ShutDown => "ShutDown",
    }
}
