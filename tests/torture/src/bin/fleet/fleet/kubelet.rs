//! Kubelets and plugins: what they ask, and what they are told.

use ipam::{AddRequest, Answer, Event, RequestId};

use super::{Fleet, Job, NOBODY};
use crate::node;

/// How long a plugin waits for an address.
const PATIENCE: u64 = 55_000;
/// A pod whose sandbox failed is tried again after this, and up to half of it more: kubelet's back-off.
const AGAIN: u64 = 10_000;
/// The pods of a new node come within this, after this.
const PODS_COME: u64 = 2_000;
const PULLED: u64 = 1_000;

impl Fleet {
    pub(super) fn pods_come(&mut self, n: usize) {
        for pod in 0..self.nodes[n].pods.len() {
            let after = PULLED + self.below(PODS_COME);
            self.push(after, Job::Ask(n, pod));
        }
    }

    pub(super) fn ask(&mut self, n: usize, pod: usize) {
        let deadline = self.now + PATIENCE;
        let node = &mut self.nodes[n];
        if node.pods.is_empty() {
            // Its instance is gone.
            return;
        }
        if node.state.is_none() {
            self.push(AGAIN, Job::Ask(n, pod));
            return;
        }
        let request = node.request();
        let sandbox = node.new_sandbox(pod);
        node.waiting.insert(request, pod);
        let event = Event::Add(AddRequest {
            request,
            sandbox,
            pod: ipam::Pod::default(),
            network: "aws-cni".to_owned(),
            netns: String::new(),
            deadline: node::time(deadline),
        });
        self.step(n, event);
    }

    pub(super) fn answered(&mut self, n: usize, request: RequestId, answer: &Answer) {
        let Some(pod) = self.nodes[n].waiting.remove(&request) else {
            return;
        };
        match answer {
            Answer::Granted(_) => {
                self.nodes[n].pods[pod].running = true;
                self.tally.runs(self.now);
            }
            Answer::Refused(refusal) => {
                let reason = format!("{:?}", refusal.reason);
                *self.tally.refused.entry(reason).or_default() += 1;
                let after = AGAIN + self.below(AGAIN / 2);
                self.push(after, Job::Ask(n, pod));
            }
            Answer::Released(_) | Answer::Collected(_) => {}
        }
    }

    /// One pod goes, and one comes a moment later.
    pub(super) fn replace(&mut self, n: usize) {
        let Some(every) = self.churn else {
            return;
        };
        self.push(every, Job::Replace(n));
        let pods = self.nodes[n].pods.len();
        let pod = self.dice.below(pods.max(1));
        if !self.nodes[n].pods.get(pod).is_some_and(|pod| pod.running) {
            return;
        }
        self.nodes[n].pods[pod].running = false;
        self.tally.gone(self.now, 1);
        let sandbox = self.nodes[n].sandbox(pod);
        let request = NOBODY;
        self.step(n, Event::Del { request, sandbox });
        self.push(PULLED, Job::Ask(n, pod));
    }
}
