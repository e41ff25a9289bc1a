//! How often this node may ask EC2: its share of what the whole account may ask.
//!
//! EC2 counts per account, Region and action: a bucket of tokens for each, from which all nodes of a fleet take ("Request
//! throttling for the Amazon EC2 API" in EC2's developer guide). Nodes do not know of each other. So each has buckets
//! of its own that together, for as many nodes as the cluster is said to have, stay below the account's: less than
//! all of its tokens at once, and less than all that come back.
//!
//! Where a node's share is less than one token, its first token comes at a moment of its own, by its seed: nodes that
//! start at once ask one after the other, as fast as EC2 allows and not faster. Where the next token is far, a call that can
//! take more gathers for a moment first. What nobody waits for happens at a moment of its own too, and leaves a token for
//! a pod. A throttled call halves the pace, and time mends it.
//!
//! There is no clock here and nothing waits: who asks too early is told when to ask again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Time;
use crate::retry::Jitter;

/// Of the tokens that an account may hold, so many are for the fleet's nodes together. The others are for who else calls
/// EC2 there, and for chance: moments that are drawn at random cluster now and then.
const OF_BURST: f64 = 0.7;
/// The same, where a fleet is so large that its nodes ask in turn. What they read they read as soon as they start.
const READS_IN_TURN: f64 = 0.8;
/// Changes follow when pods have come. Until then EC2's bucket is full, and what would come back is lost.
const CHANGES_IN_TURN: f64 = 0.5;
/// Of the tokens that come back.
const OF_RATE: f64 = 0.95;
/// So many tokens a node may save up, however large the cluster: one that has long been quiet may grow at once.
const DEPTH: f64 = 5.0;
/// The slowest that throttled calls make a node.
const SLOWEST: f64 = 1.0 / 64.0;
/// How long it takes from stillness to the full pace.
const RECOVERY: f64 = 600.0;
/// A throttled call is repeated within so many seconds at the full pace: somewhere in them, not at their end.
const AGAIN_WITHIN: f64 = 4.0;
/// What nobody waits for and was held back for so many turns of the whole fleet goes before who waits.
const PATIENCE: f64 = 4.0;
/// A call that can take more gathers for this part of the time that the next one would have to wait.
const GATHER: f64 = 1.0 / 16.0;
/// Seconds that it gathers at the most.
const GATHER_AT_MOST: f64 = 5.0;
/// Whoever does not ask again for so long after it was told to does not want it any more.
const INTEREST: Duration = Duration::from_mins(1);

/// Who waits for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// A pod, or an ENI that is half made or half gone.
    Waiting,
    /// A pod, and the call takes all that come meanwhile.
    Gathering,
    /// Nobody: it is for later, or tidies up.
    Later,
}

/// A call that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// EC2's action.
    pub action: &'static str,
    /// When it may be asked again.
    pub until: Time,
    /// Why.
    pub cause: HeldBy,
}

/// Why a call is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// The node has used up its share.
    Share {
        /// The size of the cluster that the share is of.
        nodes: u32,
        /// How often the share allows the action, in the long run.
        every: Duration,
    },
    /// One call is to take all pods that come together, as the next is far.
    Gathering,
    /// Nobody waits for it, so it has a moment of its own among those of the other nodes.
    Turn,
    /// EC2 has throttled it.
    Throttled,
}

/// For people, as what comes after "waits for".
impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, cause, .. } = self;
        match cause {
            HeldBy::Share { nodes, every } => write!(
                f,
                "its turn to ask EC2 for {action}: as one of {nodes} nodes (WEIR_CLUSTER_SIZE) it may every {} s",
                every.as_millis().div_ceil(1000)
            ),
            HeldBy::Gathering => write!(
                f,
                "who comes meanwhile, to ask EC2 for {action} once for all: the next turn is far"
            ),
            HeldBy::Turn => write!(
                f,
                "its turn to ask EC2 for {action}, as nobody waits for it"
            ),
            HeldBy::Throttled => write!(f, "another try at {action}, which EC2 has throttled"),
        }
    }
}

/// The buckets of one node.
#[derive(Clone, Debug)]
pub struct Governor {
    /// 0: nothing is held back.
    cluster_size: u32,
    /// Where in the fleet this node stands, from 0 to 1.
    place: f64,
    jitter: Jitter,
    begun: Time,
    buckets: BTreeMap<&'static str, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    /// From [`SLOWEST`] to 1.
    pace: f64,
    /// When the two were so.
    at: Time,
    /// After a throttled call.
    not_before: Time,
    /// Until when a call gathers, and when it was told to ask again.
    gathers: Option<(Time, Time)>,
    turn: Option<Turn>,
    held: Option<HeldBack>,
}

/// The moment of what nobody waits for.
#[derive(Clone, Copy, Debug)]
struct Turn {
    asked: Time,
    comes: Time,
    /// When it was told to ask again: who does not is not interested any more.
    again: Time,
}

/// What a node has of an action's bucket.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Tokens at the start.
    burst: f64,
    /// Tokens at the most.
    depth: f64,
    /// Tokens per second.
    rate: f64,
    /// Seconds in which each node of the fleet has its turn; 0 where all may ask at once.
    turns: f64,
}

impl Governor {
    /// Of a node in a cluster of so many nodes, itself included; with 0, nothing is held back. The seed tells it from
    /// other nodes.
    #[must_use]
    pub fn new(cluster_size: u32, seed: &str) -> Self {
        let mut jitter = Jitter::new(seed);
        Self {
            cluster_size,
            place: jitter.fraction(),
            jitter,
            begun: Time::default(),
            buckets: BTreeMap::new(),
        }
    }

    /// Tokens come from now on. A node that starts may be one of many that do.
    pub fn begin(&mut self, now: Time) {
        self.begun = now;
        self.buckets.clear();
    }

    /// Whether an action may be asked for now; if not, when to ask here again. Takes nothing, but for the turn of what
    /// nobody waits for.
    ///
    /// # Errors
    /// When it is held back.
    pub fn ready(&mut self, action: &'static str, haste: Haste, now: Time) -> Result<(), HeldBack> {
        if self.cluster_size == 0 {
            return Ok(());
        }
        let share = self.share(action);
        let mut bucket = self.bucket(action, share, now);
        let verdict = bucket.verdict(share, haste, now, &mut self.jitter);
        let verdict = verdict.map_err(|(until, cause)| HeldBack {
            action,
            until,
            cause: cause.unwrap_or(HeldBy::Share {
                nodes: self.cluster_size,
                every: seconds(1.0 / share.rate),
            }),
        });
        bucket.held = verdict.err();
        self.buckets.insert(action, bucket);
        verdict
    }

    /// An action is asked for: it was [`ready`](Self::ready).
    pub fn take(&mut self, action: &'static str, now: Time) {
        if self.cluster_size == 0 {
            return;
        }
        let share = self.share(action);
        let mut bucket = self.bucket(action, share, now);
        bucket.tokens -= 1.0;
        bucket.gathers = None;
        bucket.held = None;
        self.buckets.insert(action, bucket);
    }

    /// EC2 has throttled an action: it has done nothing, and is asked more slowly from now on.
    pub fn throttled(&mut self, action: &'static str, now: Time) {
        if self.cluster_size == 0 {
            return;
        }
        let share = self.share(action);
        let mut bucket = self.bucket(action, share, now);
        bucket.pace = (bucket.pace / 2.0).max(SLOWEST);
        // EC2 has taken no token. There is no more than the one: EC2 has none to spare.
        bucket.tokens = (bucket.tokens + 1.0).min(1.0);
        let within = AGAIN_WITHIN / bucket.pace;
        bucket.not_before = now.after(seconds(within * self.jitter.fraction()));
        self.buckets.insert(action, bucket);
    }

    /// What is held back, and until when.
    pub fn held(&self, now: Time) -> impl Iterator<Item = HeldBack> + '_ {
        let held = self.buckets.values().filter_map(|bucket| bucket.held);
        held.filter(move |held| held.until > now)
    }

    /// Whether somebody waits for an action that gathers.
    pub(crate) fn gathers(&self, action: &str) -> bool {
        let bucket = self.buckets.get(action);
        bucket.is_some_and(|bucket| bucket.gathers.is_some())
    }

    fn share(&self, action: &str) -> Share {
        let (capacity, refill) = account(action);
        let nodes = f64::from(self.cluster_size);
        let of_burst = match action.starts_with("Describe") {
            _ if nodes <= capacity * OF_BURST => OF_BURST,
            true => READS_IN_TURN,
            false => CHANGES_IN_TURN,
        };
        let (together, rate) = (capacity * of_burst, refill * OF_RATE);
        let burst = together / nodes;
        Share {
            burst,
            depth: DEPTH.max(burst + 1.0),
            rate: rate / nodes,
            turns: (nodes - together).max(0.0) / rate,
        }
    }

    fn bucket(&self, action: &str, share: Share, now: Time) -> Bucket {
        let new = || Bucket {
            // On the average of all nodes, as many whole tokens as there are to share.
            tokens: (share.burst + 1.0 - self.place).min(share.depth),
            pace: 1.0,
            at: self.begun,
            not_before: self.begun,
            gathers: None,
            turn: None,
            held: None,
        };
        let mut bucket = self.buckets.get(action).copied().unwrap_or_else(new);
        bucket.refill(share, now);
        bucket
    }
}

impl Bucket {
    fn refill(&mut self, share: Share, now: Time) {
        let passed = now.since(self.at).as_secs_f64();
        let mending = passed.min((1.0 - self.pace) * RECOVERY);
        let at_full_pace =
            mending * self.pace + mending * mending / (2.0 * RECOVERY) + (passed - mending);
        self.tokens = (self.tokens + share.rate * at_full_pace).min(share.depth);
        self.pace = (self.pace + mending / RECOVERY).min(1.0);
        self.at = self.at.max(now);
    }

    /// If it has to wait: until when, and why unless it is for lack of tokens.
    fn verdict(
        &mut self,
        share: Share,
        haste: Haste,
        now: Time,
        jitter: &mut Jitter,
    ) -> Result<(), (Time, Option<HeldBy>)> {
        if self.not_before > now {
            return Err((self.not_before, Some(HeldBy::Throttled)));
        }
        match haste {
            Haste::Waiting => return self.has(1.0, share, now),
            Haste::Gathering => return self.gathered(share, now),
            Haste::Later => {}
        }
        // Who gathers begins anew: those that waited have gone.
        self.gathers = None;
        let turn = self.turn.filter(|turn| now < turn.again.after(INTEREST));
        let mut turn = turn.unwrap_or_else(|| Turn {
            asked: now,
            comes: now.after(seconds(share.turns * jitter.fraction())),
            again: now,
        });
        let patient = now.since(turn.asked).as_secs_f64() < PATIENCE / share.rate;
        let verdict = if turn.comes > now {
            Err((turn.comes, Some(HeldBy::Turn)))
        } else {
            self.has(if patient { 2.0 } else { 1.0 }, share, now)
        };
        if let Err((until, _)) = verdict {
            turn.again = until;
        }
        self.turn = verdict.is_err().then_some(turn);
        verdict
    }

    fn gathered(&mut self, share: Share, now: Time) -> Result<(), (Time, Option<HeldBy>)> {
        let next = (2.0 - self.tokens).max(0.0) / (share.rate * self.pace);
        let (until, _) = self
            .gathers
            .filter(|(_, again)| now < again.after(INTEREST))
            .unwrap_or_else(|| {
                let gathers = seconds((next * GATHER).min(GATHER_AT_MOST));
                (now.after(gathers), now)
            });
        let verdict = self.has(1.0, share, now).and_then(|()| match until > now {
            true => Err((until, Some(HeldBy::Gathering))),
            false => Ok(()),
        });
        if let Err((again, _)) = verdict {
            self.gathers = Some((until, again));
        }
        verdict
    }

    fn has(&self, needed: f64, share: Share, now: Time) -> Result<(), (Time, Option<HeldBy>)> {
        let missing = needed - self.tokens;
        if missing <= 0.0 {
            return Ok(());
        }
        // At the pace of now: it may mend meanwhile, so that this is the latest.
        let wait = seconds(missing / (share.rate * self.pace)) + Duration::from_millis(1);
        Err((now.after(wait), None))
    }
}

/// What a new account may ask for in a Region: tokens at the most, and tokens per second. Describes are all filtered here.
fn account(action: &str) -> (f64, f64) {
    match action {
        "AttachNetworkInterface" | "DetachNetworkInterface" | "UnassignIpv6Addresses" => {
            (50.0, 5.0)
        }
        _ if action.starts_with("Describe") => (100.0, 20.0),
        // AssignPrivateIpAddresses, UnassignPrivateIpAddresses, AssignIpv6Addresses, CreateNetworkInterface,
        // DeleteNetworkInterface, ModifyNetworkInterfaceAttribute.
        _ => (100.0, 5.0),
    }
}

/// Never negative here, and never for ever.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
