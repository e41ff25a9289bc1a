//! Many worlds, one after the other or side by side, and what came of them.

mod report;
mod shrink;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_sim::ids::Dice;

use crate::Args;
use crate::act::{self, Act, Numbered, Weather};
use crate::cover::Cover;
use crate::fleet::{Broken, Fleet};

/// So many steps make a world; the quiet at its end comes on top.
const SLICE: u64 = 25_000;
/// Quiet comes at least this often.
const ROUND: u64 = 12_500;

/// How often it is said how far a run has come.
const PROGRESS: Duration = Duration::from_secs(10);

/// What many worlds came to.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) worlds: u64,
    pub(crate) steps: u64,
    pub(crate) hash: u64,
    pub(crate) most_calls: usize,
    /// What the steps took that were timed.
    pub(crate) pools_took: Duration,
    pub(crate) cover: Cover,
    pub(crate) failure: Option<Failure>,
}

/// A world that broke a promise.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) world: u64,
    pub(crate) broken: Broken,
    pub(crate) acts: usize,
    pub(crate) short: Vec<Numbered>,
    pub(crate) story: Vec<String>,
}

/// One world that was played.
pub(crate) struct Played {
    pub(crate) fleet: Option<Fleet>,
    pub(crate) acts: Vec<Numbered>,
    pub(crate) broken: Option<Broken>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(world) = args.world {
        let totals = alone(args, world);
        return report::tell(args, &totals, 0.0);
    }
    let began = Instant::now();
    let jobs = args.jobs.max(1);
    let (steps, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let parts: Vec<Totals> = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|job| {
                let (steps, stop) = (&steps, &stop);
                scope.spawn(move || many(args, job, jobs, steps, stop))
            })
            .collect();
        let mut next = began + PROGRESS;
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(20));
            if Instant::now() >= next {
                next += PROGRESS;
                let steps = steps.load(Ordering::Relaxed);
                let seconds = began.elapsed().as_secs().max(1);
                let speed = steps / seconds;
                eprintln!("torture: {steps} of {} steps, {speed} a second", args.steps);
            }
        }
        let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.filter_map(Result::ok).collect()
    });
    let mut totals = Totals::new();
    for part in parts {
        totals.add(part);
    }
    report::tell(args, &totals, began.elapsed().as_secs_f64())
}

/// The worlds of one thread: those whose number is `job` modulo `jobs`, so that each is played once.
fn many(args: &Args, job: u64, jobs: u64, steps: &AtomicU64, stop: &AtomicBool) -> Totals {
    let mut totals = Totals::new();
    // Each thread has its share, so that what is played does not depend on which is faster.
    let share = args.steps.div_ceil(jobs);
    let mut number = job;
    while totals.steps < share && !stop.load(Ordering::Relaxed) {
        let world = mix(args.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(number));
        number += jobs;
        let played = play(args, world, args.trace, None);
        if args.trace
            && let Some(fleet) = &played.fleet
        {
            for line in fleet.trace.lines() {
                println!("{line}");
            }
        }
        totals.count(&played);
        if let Some(fleet) = &played.fleet {
            steps.fetch_add(fleet.steps, Ordering::Relaxed);
        }
        if let Some(broken) = played.broken {
            stop.store(true, Ordering::Relaxed);
            totals.failure = Some(shrink::shrink(args, world, broken, played.acts));
        }
    }
    totals
}

fn alone(args: &Args, world: u64) -> Totals {
    let mut totals = Totals::new();
    let played = play(args, world, args.trace, None);
    if let Some(fleet) = played.fleet.as_ref().filter(|_| args.trace) {
        for line in fleet.trace.lines() {
            println!("{line}");
        }
    }
    totals.count(&played);
    if let Some(broken) = played.broken {
        totals.failure = Some(shrink::shrink(args, world, broken, played.acts));
    }
    totals
}

/// Plays a world: as its seed has it, or a given list of what happens.
pub(crate) fn play(args: &Args, world: u64, keep: bool, acts: Option<&[Numbered]>) -> Played {
    let mut dice = Dice::new(mix(world ^ 0x0061_6374));
    let weather = match dice.below(6) {
        0 => Weather::Fair,
        1 | 2 => Weather::Rough,
        _ => Weather::Storm,
    };
    let mut done = Vec::new();
    let mut fleet = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let fleet = fleet.insert(Fleet::new(world, args.nodes, weather, keep));
        match acts {
            Some(acts) => {
                for act in acts {
                    if fleet.broken.is_some() {
                        break;
                    }
                    done.push(*act);
                    fleet.play(*act);
                }
            }
            None => {
                // What happens to nodes that are all down is no step of a pool.
                let far = |fleet: &Fleet, acts: usize| fleet.steps.max(count(acts) / 2);
                let mut round = ROUND;
                while fleet.broken.is_none() && far(fleet, done.len()) < SLICE {
                    let act = if far(fleet, done.len()) >= round {
                        round += ROUND;
                        Act::Quiet
                    } else {
                        act::next(&mut dice, weather)
                    };
                    let act = (u32::try_from(done.len()).unwrap_or(u32::MAX), act);
                    done.push(act);
                    fleet.play(act);
                }
                if fleet.broken.is_none() {
                    done.push((u32::MAX, Act::Quiet));
                    fleet.play((u32::MAX, Act::Quiet));
                }
            }
        }
        fleet.broken.clone()
    }));
    let broken = match played {
        Ok(broken) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            Some(Broken {
                rule: 0,
                what: format!("panic: {}", text.unwrap_or_default()),
            })
        }
    };
    Played {
        fleet,
        acts: done,
        broken,
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A number that follows from another, and looks as if it did not.
fn mix(number: u64) -> u64 {
    Dice::new(number).roll()
}

impl Totals {
    fn new() -> Self {
        Self {
            worlds: 0,
            steps: 0,
            hash: 0,
            most_calls: 0,
            pools_took: Duration::ZERO,
            cover: Cover::new(),
            failure: None,
        }
    }

    fn count(&mut self, played: &Played) {
        self.worlds += 1;
        if let Some(fleet) = &played.fleet {
            self.steps += fleet.steps;
            self.hash ^= mix(fleet.trace.hash());
            self.most_calls = self.most_calls.max(fleet.most_calls);
            self.pools_took += fleet.pools_took;
            self.cover.add(&fleet.cover);
        }
    }

    fn add(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.steps += other.steps;
        self.hash ^= other.hash;
        self.most_calls = self.most_calls.max(other.most_calls);
        self.pools_took += other.pools_took;
        self.cover.add(&other.cover);
        self.failure = self.failure.take().or(other.failure);
    }
}
