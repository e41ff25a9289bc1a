//! The pool's state and its one transition function.

use crate::{
    Effect, Event, Grant, Ledger, Node, PoolView, Refusal, Sandbox, Targets, Time, Totals,
};

/// The pool of one node.
#[derive(Clone, Debug)]
pub struct State {
    node: Node,
    targets: Targets,
}

impl State {
    /// A pool that knows nothing yet; it wants [`Event::Start`] first.
    ///
    /// `boot_id` (`/proc/sys/kernel/random/boot_id`) makes the tokens of this boot's calls differ from all
    /// others, and seeds the jitter of retries.
    #[must_use]
    pub fn new(node: Node, targets: Targets, boot_id: &str) -> Self {
        let _ = boot_id;
        Self { node, targets }
    }

    /// Takes one event and says what has to be done. `now` must not go back.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let _ = (now, event);
        Vec::new()
    }

    /// What the books must say now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::default()
    }

    /// What the sandbox holds: its grant is on disk or on its way there.
    #[must_use]
    pub fn grant_of(&self, sandbox: &Sandbox) -> Option<Grant> {
        let _ = sandbox;
        None
    }

    /// Whether an ADD could be served now, or would only have to wait for growth that can happen.
    ///
    /// # Errors
    ///
    /// The refusal that an ADD would get.
    pub fn readiness(&self, now: Time) -> Result<(), Refusal> {
        let _ = now;
        Ok(())
    }

    /// The whole pool, as data.
    #[must_use]
    pub fn view(&self) -> PoolView {
        PoolView {
            node: self.node.clone(),
            targets: self.targets,
            totals: Totals::default(),
            enis: Vec::new(),
            waiters: Vec::new(),
            pending_calls: Vec::new(),
        }
    }
}
