//! From a long list of what happened to a short one that breaks the same promise.

use std::mem;
use std::time::{Duration, Instant};

use super::{Failure, play};
use crate::Args;
use crate::act::{Act, Numbered};
use crate::fleet::Broken;

/// A short story is worth some time, not all of it.
const PATIENCE: Duration = Duration::from_secs(40);
/// No fleet has more nodes.
const NODES: usize = 16;

pub(super) fn shrink(args: &Args, world: u64, broken: Broken, acts: Vec<Numbered>) -> Failure {
    eprintln!(
        "torture: world {world} breaks rule {}: {}; looking for a short story",
        broken.rule, broken.what
    );
    let many = acts.len();
    let mut story = Shrink {
        args,
        world,
        rule: broken.rule,
        nodes: play(args, world, false, Some(&[]))
            .fleet
            .map_or(NODES, |it| it.nodes()),
        began: Instant::now(),
        acts,
    };
    // What was long before first, then whole nodes and kinds, then what is left in ever smaller parts.
    while story.without_first_half() {}
    for node in 0..story.nodes {
        let nodes = story.nodes;
        story.keep(|act| act.node().is_none_or(|it| it % nodes != node));
    }
    let kinds: Vec<_> = story
        .acts
        .iter()
        .map(|(_, act)| mem::discriminant(act))
        .collect();
    for (at, kind) in kinds.iter().enumerate() {
        if !kinds[..at].contains(kind) {
            story.keep(|act| mem::discriminant(act) != *kind);
        }
    }
    let mut before = usize::MAX;
    while story.acts.len() < before {
        before = story.acts.len();
        story.without_parts();
    }
    let short = story.acts;
    let played = play(args, world, true, Some(&short));
    let mut story = Vec::new();
    if let Some(fleet) = &played.fleet {
        story.extend(fleet.describe_nodes());
        story.extend(fleet.trace.lines().iter().cloned());
    }
    Failure {
        world,
        broken: played.broken.unwrap_or(broken),
        acts: many,
        short,
        story,
    }
}

struct Shrink<'a> {
    args: &'a Args,
    world: u64,
    rule: u8,
    nodes: usize,
    began: Instant,
    acts: Vec<Numbered>,
}

impl Shrink<'_> {
    /// Takes the shorter list if it breaks the same promise.
    fn attempt(&mut self, shorter: &[Numbered]) -> bool {
        if self.is_over() || shorter.len() == self.acts.len() {
            return false;
        }
        let played = play(self.args, self.world, false, Some(shorter));
        let same = played.broken.is_some_and(|it| it.rule == self.rule);
        if same {
            // What would have come after it did not happen.
            self.acts = played.acts;
        }
        same
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() > PATIENCE
    }

    fn without_first_half(&mut self) -> bool {
        let half = self.acts.len() / 2;
        let later: Vec<Numbered> = self.acts.iter().skip(half).copied().collect();
        half > 0 && self.attempt(&later)
    }

    fn keep(&mut self, what: impl Fn(&Act) -> bool) {
        let kept = self.acts.iter().filter(|(_, act)| what(act));
        let kept: Vec<Numbered> = kept.copied().collect();
        self.attempt(&kept);
    }

    fn without_parts(&mut self) {
        let mut size = self.acts.len().div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut at = 0;
            while at < self.acts.len() && !self.is_over() {
                let end = (at + size).min(self.acts.len());
                if !self.attempt(&[&self.acts[..at], &self.acts[end..]].concat()) {
                    at = end;
                }
            }
            size /= 2;
        }
    }
}
