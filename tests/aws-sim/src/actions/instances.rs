//! RunInstances, DescribeInstances, and what happens to instances between them and TerminateInstances.

mod attributes;
mod credits;
mod describe;
mod options;
mod render;
mod run;
mod state;
mod status;

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("DescribeInstanceAttribute", attributes::describe),
    ("DescribeInstanceCreditSpecifications", credits::describe),
    ("DescribeInstanceStatus", status::describe),
    ("DescribeInstances", describe::describe),
    ("ModifyInstanceAttribute", attributes::modify),
    (
        "ModifyInstanceMetadataOptions",
        attributes::modify_metadata_options,
    ),
    ("RebootInstances", state::reboot),
    ("RunInstances", run::run),
    ("StartInstances", state::start),
    ("StopInstances", state::stop),
    ("TerminateInstances", state::terminate),
];
