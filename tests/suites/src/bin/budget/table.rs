//! The figures, aws-node's beside them, and the budget that they must keep.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

/// What something cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) how: How,
    /// Calls to EC2 by action, those that failed too.
    pub(crate) ec2: BTreeMap<String, u64>,
    /// Requests to IMDS.
    pub(crate) imds: u64,
    /// Calls to EC2 that are hoped for at the most.
    pub(crate) aim: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    /// A real ipamd over HTTP.
    Real,
    /// The pool on virtual time; IMDS by what a look costs a real ipamd.
    Virtual,
}

/// aws-node's calls of EC2 and IMDS for the same, and what they are. Counted in the source of amazon-vpc-cni-k8s v1.23.1
/// with its defaults, subnet discovery and IPv4.
const AWS_NODE: &[(&str, &str, &str)] = &[
    (
        "boot",
        "5",
        "DescribeNetworkInterfaces, CreateTags, DescribeSubnets, ModifyNetworkInterfaceAttribute, \
         AssignPrivateIpAddresses; IMDS about 24",
    ),
    (
        "restart-1",
        "3",
        "DescribeNetworkInterfaces; per ENI DescribeSubnets, ModifyNetworkInterfaceAttribute; IMDS about 23",
    ),
    ("restart-5", "11", "the same for 5 ENIs; IMDS about 59"),
    (
        "eni",
        "6",
        "DescribeSubnets twice, CreateNetworkInterface, DescribeInstances, AttachNetworkInterface, \
         ModifyNetworkInterfaceAttribute; IMDS 1 + 9 per ENI and poll",
    ),
    ("pods-addresses", "24", "4 new ENIs; IMDS at least 240"),
    (
        "pods-prefixes",
        "7",
        "an AssignPrivateIpAddresses for each /28, on an m5.large; IMDS 110",
    ),
    (
        "idle-hour",
        "1",
        "the search for leaked ENIs; IMDS about 1,300 with 2 ENIs",
    ),
    (
        "churn-hour",
        "1",
        "the same, inside the band of WARM_ENI_TARGET; IMDS one more per ADD",
    ),
];

impl Row {
    pub(crate) fn calls(&self) -> u64 {
        self.ec2.values().sum()
    }

    fn aws_node(&self) -> Option<(&'static str, &'static str)> {
        let found = AWS_NODE.iter().find(|(id, ..)| *id == self.id);
        found.map(|(_, calls, which)| (*calls, *which))
    }

    fn misses_aim(&self) -> bool {
        self.aim.is_some_and(|aim| self.calls() > aim)
    }
}

/// Calls that may be made for something, by row and action; none but those that are named. IMDS is named `imds`.
#[derive(Clone, Debug)]
pub(crate) struct Budget(BTreeMap<String, BTreeMap<String, u64>>);

impl Budget {
    /// The one in `budget.toml`.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn checked_in() -> anyhow::Result<Self> {
        let file = toml::from_str(include_str!("budget.toml"));
        Ok(Self(file.context("reading budget.toml")?))
    }

    /// What costs more than it may, as sentences.
    pub(crate) fn exceeded(&self, rows: &[Row]) -> Vec<String> {
        let mut over = Vec::new();
        for row in rows {
            let may = |action: &str| {
                let actions = self.0.get(row.id);
                actions.and_then(|it| it.get(action)).copied().unwrap_or(0)
            };
            let imds = ("imds", row.imds);
            let asked = row
                .ec2
                .iter()
                .map(|(action, count)| (action.as_str(), *count));
            for (action, count) in asked.chain([imds]) {
                if count > may(action) {
                    over.push(format!(
                        "{}: {count} of {action}, and budget.toml has {}: make it cheaper, or say there why it costs more",
                        row.id,
                        may(action)
                    ));
                }
            }
        }
        over
    }
}

pub(crate) fn text(rows: &[Row], budget: &Budget) -> Result<String, fmt::Error> {
    let mut text = format!(
        "{:<15} {:>5} {:>5} {:>9} {:>5}  {}\n",
        "", "EC2", "aim", "aws-node", "IMDS", "what"
    );
    for row in rows {
        let aim = row.aim.map_or("-".to_owned(), |aim| aim.to_string());
        let (theirs, which) = row.aws_node().unwrap_or(("-", ""));
        let how = match row.how {
            How::Real => "",
            How::Virtual => " (virtual time)",
        };
        let missed = if row.misses_aim() {
            "  MISSES ITS AIM"
        } else {
            ""
        };
        writeln!(
            text,
            "{:<15} {:>5} {aim:>5} {theirs:>9} {:>5}  {}{how}{missed}",
            row.id,
            row.calls(),
            row.imds,
            row.what
        )?;
        for (action, count) in &row.ec2 {
            writeln!(text, "{:<15} {count:>5}  {action}", "")?;
        }
        if !which.is_empty() {
            writeln!(text, "{:<15}        aws-node: {which}", "")?;
        }
    }
    let over = budget.exceeded(rows);
    match over.len() {
        0 => writeln!(text, "\nNothing is over the budget.")?,
        some => writeln!(text, "\n{some} figures are over the budget.")?,
    }
    Ok(text)
}

pub(crate) fn json(rows: &[Row], budget: &Budget) -> anyhow::Result<String> {
    let rows_with = rows.iter().map(|row| {
        let theirs = row.aws_node();
        json!({
            "id": row.id, "what": row.what, "how": row.how, "ec2": row.ec2, "ec2_calls": row.calls(),
            "imds": row.imds, "aim": row.aim, "misses_aim": row.misses_aim(),
            "aws_node": theirs.map(|(calls, which)| json!({"ec2_calls": calls, "which": which})),
        })
    });
    let all = json!({
        "rows": rows_with.collect::<Vec<Value>>(),
        "over_the_budget": budget.exceeded(rows),
    });
    Ok(serde_json::to_string_pretty(&all)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(assigns: u64) -> Row {
        Row {
            id: "boot",
            what: "",
            how: How::Real,
            ec2: BTreeMap::from([("AssignPrivateIpAddresses".to_owned(), assigns)]),
            imds: 3,
            aim: Some(1),
        }
    }

    fn budget(text: &str) -> Budget {
        Budget(toml::from_str(text).unwrap())
    }

    #[test]
    fn what_grows_is_over_the_budget_and_what_shrinks_is_not() {
        let budget = budget("[boot]\nAssignPrivateIpAddresses = 1\nimds = 3");
        assert!(budget.exceeded(&[row(0), row(1)]).is_empty());
        assert_eq!(budget.exceeded(&[row(2)]).len(), 1);
    }

    #[test]
    fn what_no_budget_names_may_not_be_asked_for() {
        assert_eq!(budget("").exceeded(&[row(1)]).len(), 2);
    }

    #[test]
    fn the_budget_that_is_checked_in_can_be_read_and_names_rows_of_aws_node() {
        let budget = Budget::checked_in().unwrap();
        let known = AWS_NODE
            .iter()
            .filter(|(id, ..)| budget.0.contains_key(*id));
        assert_eq!(known.count(), AWS_NODE.len());
    }
}
