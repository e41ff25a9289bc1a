//! RunInstances, DescribeInstances, and what happens to instances between them and TerminateInstances.

mod describe;
mod render;
mod run;
mod state;

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("DescribeInstances", describe::describe),
    ("RebootInstances", state::reboot),
    ("RunInstances", run::run),
    ("StartInstances", state::start),
    ("StopInstances", state::stop),
    ("TerminateInstances", state::terminate),
];
