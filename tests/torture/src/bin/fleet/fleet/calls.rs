//! Calls to EC2.

use aws_sim::SimTime;
use ipam::{Call, CallErrorKind, CallId};
use torture::ec2::Attempt;
use torture::sdk::{self, Next};

use super::{Fleet, Job, LOOK};
use crate::node::Flight;
use crate::tally::Came;

/// Milliseconds of a request's way to EC2, and of its reply's.
const WAY: u64 = 40;

impl Fleet {
    pub(super) fn begin_call(&mut self, n: usize, id: CallId, call: Call) {
        let began = self.now;
        let way = 1 + self.below(WAY);
        let node = &mut self.nodes[n];
        let life = node.life;
        let flight = Flight {
            call,
            began,
            attempt: 1,
        };
        node.calls.insert(id, flight);
        self.push(way, Job::Arrive(n, life, id));
    }

    /// A request reaches EC2.
    pub(super) fn arrive(&mut self, n: usize, id: CallId) {
        let now = SimTime::from_millis(self.now);
        let wall = self.aws.unix_millis(now) / 1000;
        let Some(flight) = self.nodes[n].calls.get(&id) else {
            return;
        };
        let (call, began, attempt) = (flight.call.clone(), flight.began, flight.attempt);
        let sent = self.nodes[n].client.send(&mut self.aws, now, wall, &call);
        let came = match &sent.attempt {
            Attempt::Answered(Ok(_)) => Came::Done,
            Attempt::Answered(Err(error)) if error.kind == CallErrorKind::Throttled => {
                Came::Throttled
            }
            Attempt::Throttled(_) => Came::Throttled,
            Attempt::Answered(Err(_)) | Attempt::Unclear(_) => Came::Failed,
        };
        self.tally.call(self.now, call.action(), came);
        self.watch(n, LOOK);
        // The SDK's standard retry: any part of an exponential delay.
        let backoff = 1 + self.below(200 << attempt.saturating_sub(1));
        let tried = sdk::Tried {
            now: self.now,
            began,
            attempt,
            backoff,
        };
        let life = self.nodes[n].life;
        match sdk::next(&call, sent, tried) {
            Next::Again(at, _) => {
                if let Some(flight) = self.nodes[n].calls.get_mut(&id) {
                    flight.attempt += 1;
                }
                self.queue.push(at, Job::Arrive(n, life, id));
            }
            Next::Done(at, outcome) => {
                let at = at + 1 + self.below(WAY);
                self.queue
                    .push(at, Job::Reply(n, life, id, Box::new(outcome)));
            }
        }
    }
}
