//! Hours, on virtual time: the simulation of fleets plays one node.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;
use suites::programs;

use crate::table::{How, Row};

/// How often ipamd looks at IMDS in an hour.
const LOOKS: u64 = 120;

/// The hours; `look` is what a real ipamd asks of IMDS in one look.
pub(crate) fn rows(look: u64) -> anyhow::Result<Vec<Row>> {
    let hour = |id, what, churn: &str| -> anyhow::Result<Row> {
        Ok(Row {
            id,
            what,
            how: How::Virtual,
            ec2: calls(churn)?,
            imds: look * LOOKS,
            aim: Some(0),
        })
    };
    Ok(vec![
        hour(
            "idle-hour",
            "an hour in which nothing happens, 30 pods",
            "0",
        )?,
        hour(
            "churn-hour",
            "an hour in which one of 30 pods is replaced every ten seconds",
            "10",
        )?,
    ])
}

fn calls(churn: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let output = Command::new(programs::path("fleet")?)
        .args([
            "steady", "--nodes", "1", "--output", "json", "--churn", churn,
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    // Its aims are for fleets: what counts here is the budget.
    let known = matches!(output.status.code(), Some(0 | 1));
    ensure!(known, "the simulation ended with {}", output.status);
    let figures: Value = serde_json::from_slice(&output.stdout).context("the simulation's JSON")?;
    let by_action = figures
        .get(0)
        .and_then(|it| it.get("calls")?.as_object())
        .context("the simulation's JSON has no calls")?;
    let sum = |calls: &Value| {
        let outcomes = calls.as_object().into_iter().flatten();
        outcomes.filter_map(|(_, count)| count.as_u64()).sum()
    };
    Ok(by_action
        .iter()
        .map(|(action, calls)| (action.clone(), sum(calls)))
        .collect())
}
