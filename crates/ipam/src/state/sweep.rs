//! ENIs that nobody will delete: left by instances that are gone, by crashes, by books that were lost.
//!
//! An ENI on its way to its instance or off it is attached to nothing for a while, and looks the same. So one is deleted
//! only when it is older than [`OLD`] and was seen by this node twice, [`APART`] from each other. Should it be attached at
//! the last moment, EC2 refuses to delete it.
//!
//! The nodes of a cluster do not talk about who looks. Each draws a lot for each hour, so that about [`SWEEPERS`] of them
//! look in it, each at a moment of its own. One who sees nothing suspect has asked EC2 once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::merge::LAG;
use super::{Phase, State};
use crate::pool::Life;
use crate::retry::{self, Jitter, Setback};
use crate::{
    Attachment, Call, CallError, CallErrorKind, CallReply, EniFacts, EniId, Haste, InstanceId,
    Ledger, LooseEni, Mode, Place, Sweep, Time, Whose,
};

/// A younger one is not deleted.
const OLD: Duration = Duration::from_mins(10);
/// What is between two sightings, at the least; and how soon EC2 is asked again after it failed.
const APART: Duration = Duration::from_mins(5);
/// How long after something was lost it is looked for: the calls of an ipamd that has died have arrived by then, and EC2
/// sees what they did.
const SOON: Duration = Duration::from_mins(1);

/// A start without books so long after the boot is not the first.
const LATE: Duration = Duration::from_mins(15);

/// So many of a cluster's nodes look in an hour, on the average...
const SWEEPERS: f64 = 2.0;
/// ...but none more often than this: in most hours a node that has nothing to do asks EC2 nothing.
const MOST_OFTEN: f64 = 0.25;
/// How large a cluster is when nobody has said it.
const NODES: u32 = 20;
const HOUR: Duration = Duration::from_hours(1);
/// An hour that a node looks in is found within so many, whatever the size of its cluster.
const HOURS: u64 = 1_000_000;

/// How often EC2 is asked for the cluster's in one turn: twice for what is old, three times for what is not or has no age.
/// Then another node has its turn. For what was made for its own instance a node asks on, but more and more seldom.
const LOOKS: u32 = 4;
/// The most seldom.
const SELDOM: Duration = Duration::from_mins(30);
/// How often a deletion is tried.
const TRIES: u32 = 3;

/// aws-node's description of an ENI, and ours, begins so.
const DESCRIPTION: &str = "aws-K8S-";
/// aws-node's value of `eks:eni:owner`, and ours.
const OWNER: &str = "amazon-vpc-cni";

/// What is looked for, and what was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweeps {
    searches: BTreeMap<Whose, Search>,
    /// To be deleted.
    condemned: BTreeMap<EniId, Option<Setback<CallError>>>,
    /// There were no books at the start: what has happened before is not known.
    without_books: bool,
}

#[derive(Clone, Debug)]
struct Search {
    /// When to ask (again).
    at: Time,
    /// Something was lost then: what EC2 shows much later than that tells.
    since: Time,
    /// How often EC2 was asked.
    looks: u32,
    /// What was seen once, and when first.
    suspects: BTreeMap<EniId, Time>,
}

impl Search {
    fn new(at: Time, since: Time) -> Self {
        Self {
            at,
            since,
            looks: 0,
            suspects: BTreeMap::new(),
        }
    }
}

impl Sweeps {
    /// Whether the node still looks for what was made for its own instance.
    pub(super) fn seeks_own(&self) -> bool {
        self.searches.contains_key(&Whose::Instance)
    }

    pub(super) fn next_due(&self) -> impl Iterator<Item = Time> + '_ {
        let looks = self.searches.values().map(|search| search.at);
        let deletions = self.condemned.values().flatten();
        looks.chain(deletions.map(|setback| setback.until))
    }
}

impl State {
    /// At the start, before the books are read.
    pub(super) fn begin_sweeps(&mut self, books: &Option<Ledger>, lost: bool) {
        if self.phase != Phase::New {
            return;
        }
        self.sweeps.without_books = books.is_none();
        self.seek_orphans_of_cluster();
        let told = books.as_ref().is_some_and(|books| books.orphans);
        if lost || told {
            self.seek_own_orphans();
        } else if self.now >= Time::default().after(LATE) {
            self.seek_orphans_without_books();
        }
    }

    /// An ENI may be left over that was made for this instance.
    pub(super) fn seek_own_orphans(&mut self) {
        if self.settings.sweep == Sweep::Off {
            return;
        }
        let (now, at) = (self.now, self.now.after(SOON));
        let known = self.sweeps.seeks_own();
        let search = self.sweeps.searches.entry(Whose::Instance);
        let search = search.or_insert_with(|| Search::new(at, now));
        (search.since, search.looks) = (now, 0);
        if !known {
            self.changed();
        }
    }

    /// Something shows that this is not the first that ipamd is here.
    pub(super) fn seek_orphans_without_books(&mut self) {
        if std::mem::take(&mut self.sweeps.without_books) {
            self.seek_own_orphans();
        }
    }

    /// The first Describe of a start without books.
    pub(super) fn seek_orphans_if_not_the_first(&mut self, enis: &[EniFacts]) {
        let ours = |eni: &&EniFacts| eni.managed;
        let mut places = enis
            .iter()
            .filter(ours)
            .filter_map(|eni| eni.attachment.as_ref());
        if places.any(|Attachment { place, .. }| *place != Place::PRIMARY) {
            self.seek_orphans_without_books();
        }
    }

    /// Waits for the next hour in which this node has a turn.
    fn seek_orphans_of_cluster(&mut self) {
        if let Sweep::Cluster(_) = self.settings.sweep {
            let at = next_turn(&self.node.instance_id, self.settings.cluster_size, self.now);
            let search = Search::new(at, Time::default());
            self.sweeps.searches.insert(Whose::Cluster, search);
        }
    }

    /// Looks and deletes, as far as it is time.
    pub(super) fn sweep(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        if self.mode() != Mode::Normal {
            // By the time that it goes on, what was seen may be another's.
            self.sweeps.condemned.clear();
            for search in self.sweeps.searches.values_mut() {
                search.suspects.clear();
            }
            return;
        }
        let due = |search: &Search| search.at <= self.now;
        let searches = self.sweeps.searches.iter();
        let due: Vec<(Whose, u32)> = searches
            .filter(|(_, search)| due(search))
            .map(|(whose, search)| (*whose, search.looks))
            .collect();
        for (whose, looks) in due {
            match (whose, looks) {
                // A node that goes leaves it to the others.
                (Whose::Cluster, 0) if self.draining => self.seek_orphans_of_cluster(),
                (Whose::Instance, 0) if self.draining => {}
                _ => self.look_for_orphans(whose),
            }
        }
        self.delete_orphans();
    }

    fn look_for_orphans(&mut self, whose: Whose) {
        let call = Call::DescribeOrphans(whose);
        let under_way = self.calls.values().any(|pending| pending.call == call);
        if !under_way && self.may_ask(&call, Haste::Later) {
            self.call(call);
        }
    }

    /// One at a time: there may be a thousand.
    fn delete_orphans(&mut self) {
        let under_way = |call: &Call| matches!(call, Call::DeleteOrphan { .. });
        if self.calls.values().any(|pending| under_way(&pending.call)) {
            return;
        }
        let ready = |setback: &Option<Setback<CallError>>| {
            setback.as_ref().is_none_or(|it| it.until <= self.now)
        };
        let mut condemned = self.sweeps.condemned.iter();
        let next = condemned.find(|(_, setback)| ready(setback));
        let Some(eni) = next.map(|(eni, _)| eni.clone()) else {
            return;
        };
        if self.is_known(&eni) {
            self.sweeps.condemned.remove(&eni);
            return self.delete_orphans();
        }
        let call = Call::DeleteOrphan { eni };
        if self.may_ask(&call, Haste::Later) {
            self.call(call);
        }
    }

    /// EC2 has answered one of our calls.
    pub(super) fn swept(&mut self, call: Call, asked: Time, outcome: Result<CallReply, CallError>) {
        match (call, outcome) {
            (Call::DescribeOrphans(whose), Ok(CallReply::Orphans(seen))) => {
                self.see_orphans(whose, asked, Some(&seen));
            }
            (Call::DescribeOrphans(whose), _) => self.see_orphans(whose, asked, None),
            (Call::DeleteOrphan { eni }, Err(error)) => self.not_deleted(eni, error),
            (Call::DeleteOrphan { eni }, Ok(_)) => drop(self.sweeps.condemned.remove(&eni)),
            _ => {}
        }
    }

    /// `seen` is none when EC2 did not tell.
    fn see_orphans(&mut self, whose: Whose, asked: Time, seen: Option<&[LooseEni]>) {
        let Some(mut search) = self.sweeps.searches.remove(&whose) else {
            return;
        };
        search.looks += 1;
        // One that is stuck on its way off the instance comes off in the end; one that is to be deleted is gone when EC2
        // shows it no more.
        let mut going = false;
        if let Some(seen) = seen {
            let before = std::mem::take(&mut search.suspects);
            let ours = |eni: &&LooseEni| self.may_sweep(whose, eni);
            let ours: Vec<&LooseEni> = seen.iter().filter(ours).collect();
            for eni in ours {
                if !eni.available {
                    going |= eni.going && whose == Whose::Instance;
                    continue;
                }
                let first = before.get(&eni.id).copied().unwrap_or(self.now);
                if is_left(eni, asked.since(first)) {
                    self.sweeps.condemned.entry(eni.id.clone()).or_default();
                    going |= whose == Whose::Instance;
                } else {
                    search.suspects.insert(eni.id.clone(), first);
                }
            }
        }
        let told = seen.is_some() && asked >= search.since.after(LAG);
        let over = told && !going && search.suspects.is_empty();
        if !over && (whose == Whose::Instance || search.looks < LOOKS) {
            let wait = APART * (1 << search.looks.saturating_sub(LOOKS).min(8));
            search.at = self.now.after(wait.min(SELDOM));
            self.sweeps.searches.insert(whose, search);
        } else if whose == Whose::Cluster {
            self.seek_orphans_of_cluster();
        } else {
            // The books need not tell the next ipamd any more.
            self.changed();
        }
    }

    /// Whether it carries our marks and none of others', and this node does not know what to do with it.
    fn may_sweep(&self, whose: Whose, eni: &LooseEni) -> bool {
        let cluster = match &self.settings.sweep {
            Sweep::Off => return false,
            Sweep::Own => None,
            Sweep::Cluster(name) => Some(name),
        };
        let ours = match whose {
            Whose::Instance => {
                let another =
                    cluster.is_some() && eni.cluster.is_some() && eni.cluster.as_ref() != cluster;
                eni.instance.as_ref() == Some(&self.node.instance_id) && !another
            }
            Whose::Cluster => {
                eni.instance.is_some()
                    && cluster.is_some()
                    && eni.cluster.as_ref() == cluster
                    && eni.owner.as_deref() == Some(OWNER)
            }
        };
        let intended = self
            .intents
            .iter()
            .any(|intent| Some(&intent.token) == eni.token.as_ref());
        ours && !eni.no_manage
            && eni.vpc_id == self.node.vpc_id
            && eni.description.starts_with(DESCRIPTION)
            && !intended
            && !self.is_known(&eni.id)
    }

    /// Whether the pool has it, or an intent names it.
    fn is_known(&self, id: &EniId) -> bool {
        let held = self.pool.eni(id).is_some_and(|it| it.life != Life::Absent);
        held || self.intents.iter().any(|it| it.stage.eni() == Some(id))
    }

    fn not_deleted(&mut self, eni: EniId, error: CallError) {
        let before = self.sweeps.condemned.remove(&eni).flatten();
        // Gone already; or somebody has attached it.
        if matches!(error.kind, CallErrorKind::NotFound | CallErrorKind::InUse) {
            return;
        }
        let setback = retry::after_call(before.as_ref(), error, self.now, &mut self.jitter);
        if setback.failures < TRIES {
            self.sweeps.condemned.insert(eni, Some(setback));
        } else {
            self.tell(format!(
                "ENI {eni} is left over and could not be deleted: {}",
                setback.error
            ));
        }
    }
}

/// Whether nobody will come for an ENI that has been seen for so long.
fn is_left(eni: &LooseEni, seen: Duration) -> bool {
    seen >= APART && eni.age.unwrap_or(seen) >= OLD
}

/// When a node of a cluster looks next.
fn next_turn(instance: &InstanceId, cluster_size: u32, now: Time) -> Time {
    let nodes = match cluster_size {
        0 => NODES,
        nodes => nodes,
    };
    let chance = (SWEEPERS / f64::from(nodes)).min(MOST_OFTEN);
    let millis = u64::try_from(HOUR.as_millis()).unwrap_or(u64::MAX);
    let first = now.0 / millis;
    let turn = |hour: u64| {
        let mut lot = Jitter::new(&format!("{hour} {instance}"));
        let drawn = lot.fraction() < chance;
        let at = Time(hour.saturating_mul(millis)).after(HOUR.mul_f64(lot.fraction()));
        (drawn && at > now).then_some(at)
    };
    let mut hours = first..first.saturating_add(HOURS);
    hours
        .find_map(turn)
        .unwrap_or_else(|| now.after(HOUR * 1000))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Of so many nodes: how many look, in each of so many hours.
    fn turns(nodes: u32, cluster_size: u32, hours: u64) -> Vec<u32> {
        let mut counts = vec![0; usize::try_from(hours).unwrap()];
        for node in 0..nodes {
            let id = InstanceId::new(format!("i-0{:015x}", u64::from(node) * 0x9e37_79b9));
            let mut now = Time(0);
            loop {
                now = next_turn(&id, cluster_size, now);
                let Some(count) = counts.get_mut(usize::try_from(now.0 / 3_600_000).unwrap())
                else {
                    break;
                };
                *count += 1;
            }
        }
        counts
    }

    #[test]
    fn about_two_nodes_of_a_cluster_look_in_an_hour_however_large_it_is() {
        for nodes in [8, 20, 100, 1_000, 5_000] {
            let hours = 200;
            let counts = turns(nodes, nodes, hours);
            let all: u32 = counts.iter().sum();
            let average = f64::from(all) / 200.0;
            assert!((1.6..2.4).contains(&average), "{nodes} nodes: {average}");
            let most = counts.iter().max().unwrap();
            assert!(*most <= 9, "{nodes} nodes: {most} in one hour");
            let none = counts.iter().filter(|count| **count == 0).count();
            assert!(none < 50, "{nodes} nodes: none in {none} hours");
        }
        // Unless told, a node takes its cluster for one of 20.
        assert_eq!(turns(40, 0, 50), turns(40, 20, 50));
    }

    #[test]
    fn a_node_asks_nothing_in_most_hours_also_alone_in_its_cluster() {
        for nodes in [1, 2, 4] {
            let counts = turns(1, nodes, 1_000);
            let idle = counts.iter().filter(|count| **count == 0).count();
            assert!((700..800).contains(&idle), "{nodes} nodes: {idle}");
        }
    }

    #[test]
    fn nodes_look_at_moments_of_their_own() {
        let minutes: BTreeSet<u64> = (0..1_000)
            .map(|node| next_turn(&InstanceId::new(format!("i-{node}")), 1, Time(0)).0)
            .map(|at| at % 3_600_000 / 60_000)
            .collect();
        assert_eq!(minutes.len(), 60);
    }

    #[test]
    fn a_turn_is_found_in_the_largest_cluster() {
        let at = next_turn(&InstanceId::new("i-1"), 100_000, Time(5));
        assert!(at > Time(5) && at.0 < 3_600_000 * 1_000_000, "{at:?}");
        // It draws none within years, and looks after weeks.
        let at = next_turn(&InstanceId::new("i-1"), u32::MAX, Time(5));
        assert!(at.0 >= 3_600_000 * 1_000, "{at:?}");
    }
}
