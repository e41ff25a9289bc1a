//! What happens to a fleet, as data: drawn from the seed alone, so that any part of a list can be played again.

use aws_sim::ids::Dice;
use ipam::Mode;

/// A thing that happens, and its number among all that do. Its luck follows from its number, so that it has the same luck
/// where others are left out.
pub(crate) type Numbered = (u32, Act);

/// One thing that happens. Pods, nodes and ENIs are named by number, modulo how many there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// Time goes on, milliseconds.
    Pass(u64),
    /// So many pods come to a node, and wait so many milliseconds.
    Add(usize, usize, u64),
    /// A runtime asks again for a sandbox.
    Again(usize, usize),
    /// A runtime kills the plugin that waits.
    GiveUp(usize, usize),
    /// So many pods go, from this one on.
    Del(usize, usize, usize),
    /// A DEL is repeated.
    DelTwice(usize, usize),
    /// A DEL for what was never added.
    DelUnknown(usize),
    /// A sandbox vanishes without a DEL.
    Forget(usize, usize),
    Gc(usize),
    /// ipamd dies after so many more effects, and comes back after so many milliseconds.
    Crash(usize, u32, Fate, u64),
    /// ipamd ends in order, and comes back.
    Restart(usize, u64),
    Bound(usize, u32),
    Draining(usize, bool),
    SetMode(usize, Option<Mode>),
    Doubt(usize),
    /// For so many milliseconds the disk is...
    Disk(usize, Disk, u64),
    /// For so many milliseconds the kernel refuses.
    Kernel(usize, u64),
    /// For so many milliseconds IMDS does not answer.
    Imds(usize, u64),
    /// Calls of an action go wrong, so many in a thousand, for so many milliseconds.
    Fault(usize, Wrong, u16, u64),
    /// For so many milliseconds EC2 does nothing at all.
    Outage(u64),
    Outside(Outside, usize, usize),
    /// Nothing goes wrong any more; time passes; all must be well.
    Quiet,
}

impl Act {
    /// The node that it happens to, if to one alone.
    pub(crate) fn node(&self) -> Option<usize> {
        match self {
            Self::Add(node, ..)
            | Self::Again(node, _)
            | Self::GiveUp(node, _)
            | Self::Del(node, ..)
            | Self::DelTwice(node, _)
            | Self::DelUnknown(node)
            | Self::Forget(node, _)
            | Self::Gc(node)
            | Self::Crash(node, ..)
            | Self::Restart(node, _)
            | Self::Bound(node, _)
            | Self::Draining(node, _)
            | Self::SetMode(node, _)
            | Self::Doubt(node)
            | Self::Disk(node, ..)
            | Self::Kernel(node, _)
            | Self::Imds(node, _)
            | Self::Outside(_, node, _) => Some(*node),
            Self::Pass(_) | Self::Fault(..) | Self::Outage(_) | Self::Quiet => None,
        }
    }
}

/// What becomes of the books in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    Lost,
    Empty,
    Torn(u16),
    Flipped(u16),
    Newer,
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Full,
    /// It says that it failed, and it did not.
    Unsure,
    Slow,
}

/// What goes wrong with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    ServerError,
    Throttled,
    Credentials,
    Latency,
    HangBefore,
    HangAfter,
    ResetBefore,
    ResetAfter,
    Truncated,
    Twice,
}

/// What others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    Steal,
    Unassign,
    UnassignAll,
    Detach,
    Delete,
    Strip,
    NoManage,
    Fill,
    Fragment,
    Empty,
    Orphan,
    Attach,
    Stick,
    Unstick,
    /// The primary ENI gets other security groups.
    Regroup,
    Clock,
    Stop,
    Reboot,
    Replace,
}

/// The actions that faults strike.
pub(crate) const ACTIONS: [&str; 10] = [
    "*",
    "Describe*",
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "Assign*",
    "Unassign*",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
    "*NetworkInterface",
];

/// How wild a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Pods come and go, ipamd crashes.
    Fair,
    /// EC2 fails too.
    Rough,
    /// All of it.
    Storm,
}

/// What happens next. Nothing but the dice decides.
pub(crate) fn next(dice: &mut Dice, weather: Weather) -> Act {
    let node = dice.below(64);
    let pod = dice.below(4096);
    let kind = dice.below(1000);
    let trouble = match weather {
        Weather::Fair => 985,
        Weather::Rough => 965,
        Weather::Storm => 940,
    };
    match kind {
        0..330 => Act::Add(node, few(dice), patience(dice)),
        330..640 => Act::Del(node, pod, few(dice)),
        640..880 => Act::Pass(pause(dice)),
        880..895 => Act::Again(node, pod),
        895..903 => Act::GiveUp(node, pod),
        903..911 => Act::DelTwice(node, pod),
        911..914 => Act::DelUnknown(node),
        914..918 => Act::Forget(node, pod),
        918..923 => Act::Gc(node),
        923..929 => Act::Bound(node, u32::try_from(dice.below(12)).unwrap_or(0)),
        929..931 => Act::Draining(node, dice.below(3) == 0),
        931..933 => Act::SetMode(node, mode(dice)),
        933..936 => Act::Doubt(node),
        936..940 => crash(dice, node, weather),
        _ if kind >= trouble => trouble_of(dice, node, pod, weather),
        _ => Act::Pass(1 + long(dice, 400)),
    }
}

fn trouble_of(dice: &mut Dice, node: usize, pod: usize, weather: Weather) -> Act {
    let lasts = 200 + long(dice, 20_000);
    match dice.below(100) {
        0..12 => crash(dice, node, weather),
        12..15 => Act::Restart(node, 50 + long(dice, 3_000)),
        15..21 => {
            let kinds = [Disk::Full, Disk::Unsure, Disk::Slow];
            Act::Disk(node, kinds[dice.below(3)], lasts)
        }
        21..25 => Act::Kernel(node, lasts),
        25..28 => Act::Imds(node, lasts * 4),
        28..68 if weather != Weather::Fair => {
            const WRONG: [Wrong; 10] = [
                Wrong::ServerError,
                Wrong::Throttled,
                Wrong::Credentials,
                Wrong::Latency,
                Wrong::HangBefore,
                Wrong::HangAfter,
                Wrong::ResetBefore,
                Wrong::ResetAfter,
                Wrong::Truncated,
                Wrong::Twice,
            ];
            let most = if dice.below(4) == 0 { 1000 } else { 300 };
            let chance = u16::try_from(20 + dice.below(most)).unwrap_or(1000);
            let lasts = match dice.below(12) {
                // Now and then for so long that the pool changes its mode.
                0 if dice.below(10) == 0 => return Act::Outage(1_200_000),
                0 => 1_200_000,
                1 => 300_000,
                _ => lasts * 3,
            };
            Act::Fault(
                dice.below(ACTIONS.len()),
                WRONG[dice.below(WRONG.len())],
                chance,
                lasts,
            )
        }
        68..94 if weather == Weather::Storm => {
            const OUTSIDE: [Outside; 17] = [
                Outside::Steal,
                Outside::Unassign,
                Outside::UnassignAll,
                Outside::Detach,
                Outside::Delete,
                Outside::Strip,
                Outside::NoManage,
                Outside::Fill,
                Outside::Fragment,
                Outside::Empty,
                Outside::Orphan,
                Outside::Attach,
                Outside::Stick,
                Outside::Unstick,
                Outside::Clock,
                Outside::Fill,
                Outside::Regroup,
            ];
            Act::Outside(OUTSIDE[dice.below(OUTSIDE.len())], node, pod)
        }
        94..97 => {
            let lives = [Outside::Stop, Outside::Reboot, Outside::Replace];
            Act::Outside(lives[dice.below(3)], node, pod)
        }
        _ => Act::Pass(1_000 + long(dice, 90_000)),
    }
}

fn crash(dice: &mut Dice, node: usize, weather: Weather) -> Act {
    let at = |dice: &mut Dice| u16::try_from(dice.below(1000)).unwrap_or(0);
    let fate = match dice.below(100) {
        _ if weather == Weather::Fair => Fate::Kept,
        0..2 => Fate::Lost,
        2 => Fate::Empty,
        3..5 => Fate::Torn(at(dice)),
        5 => Fate::Flipped(at(dice)),
        6 => Fate::Newer,
        7 => Fate::Foreign,
        _ => Fate::Kept,
    };
    let after = match dice.below(3) {
        0 => 0,
        _ => 1 + u32::try_from(dice.below(12)).unwrap_or(0),
    };
    Act::Crash(node, after, fate, 20 + long(dice, 4_000))
}

fn mode(dice: &mut Dice) -> Option<Mode> {
    match dice.below(6) {
        0 => Some(Mode::AllocateOnly),
        1 => Some(Mode::Frozen),
        2 => Some(Mode::Normal),
        _ => None,
    }
}

/// So many pods at once.
fn few(dice: &mut Dice) -> usize {
    let most = if dice.below(8) == 0 { 12 } else { 3 };
    1 + dice.below(most)
}

fn patience(dice: &mut Dice) -> u64 {
    match dice.below(8) {
        0 => 1 + long(dice, 2_000),
        1 | 2 => 5_000 + long(dice, 20_000),
        _ => 55_000,
    }
}

fn pause(dice: &mut Dice) -> u64 {
    match dice.below(16) {
        0 => 1_000 + long(dice, 40_000),
        1..4 => 50 + long(dice, 2_000),
        _ => 1 + long(dice, 40),
    }
}

/// Up to `most`, the small ones more often.
fn long(dice: &mut Dice, most: usize) -> u64 {
    let most = dice.below(most.max(1)) + 1;
    u64::try_from(dice.below(most)).unwrap_or(0)
}
