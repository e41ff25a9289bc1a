//! Where the other simulators differ: the list that is checked in, and the table in the README that is made from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::check::Check;
use crate::peers::Peer;

/// What a target does, by row.
pub(crate) type Differences = BTreeMap<String, String>;

/// The line above the list: row, and what each of the others does; a cell is empty when it agrees with EC2.
const HEAD: &str = "row\tmoto\tlocalstack";
/// Between these two lines of the README everything is made from the list.
const BEGIN: &str = "<!-- differences: made by the suite `conformance` -->";
const END: &str = "<!-- end of differences -->";

fn list_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/differences.tsv")
}

fn readme_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../aws-sim/README.md")
}

/// What the list says about one of the others.
pub(crate) fn listed(peer: Peer) -> anyhow::Result<Differences> {
    let text = fs::read_to_string(list_path()).context("reading differences.tsv")?;
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        bail!("differences.tsv does not begin with {HEAD:?}");
    }
    let mut found = Differences::new();
    for line in lines {
        let cells: Vec<_> = line.split('\t').collect();
        let [row, moto, localstack] = cells.as_slice() else {
            bail!("differences.tsv: {line:?} has not three cells");
        };
        let what = match peer {
            Peer::Moto => moto,
            Peer::LocalStack => localstack,
        };
        if !what.is_empty()
            && found
                .insert((*row).to_owned(), (*what).to_owned())
                .is_some()
        {
            bail!("differences.tsv: {row} is there twice");
        }
    }
    Ok(found)
}

/// Fails when another set of rows differs than the list says.
pub(crate) fn compare(peer: Peer, found: &Differences) -> anyhow::Result<()> {
    let listed = listed(peer)?;
    let rows = |of: &Differences| of.keys().cloned().collect::<BTreeSet<_>>();
    let mut wrong = Vec::new();
    for row in rows(found).difference(&rows(&listed)) {
        wrong.push(format!("{row}: differs, and is not listed: {}", found[row]));
    }
    for row in rows(&listed).difference(&rows(found)) {
        wrong.push(format!(
            "{row}: is listed ({}), and does not differ",
            listed[row]
        ));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "{} and differences.tsv disagree (CONFORMANCE_WRITE=1 writes the list and the README anew):\n{}",
        peer.name(),
        wrong.join("\n")
    )
}

/// Writes list and README from what was found.
pub(crate) fn write(
    checks: &[Check],
    moto: &Differences,
    localstack: &Differences,
) -> anyhow::Result<()> {
    let mut list = format!("{HEAD}\n");
    for check in checks {
        let cell = |of: &Differences| {
            of.get(check.row)
                .map(|what| short(what))
                .unwrap_or_default()
        };
        let (moto, localstack) = (cell(moto), cell(localstack));
        if !moto.is_empty() || !localstack.is_empty() {
            list.push_str(&format!("{}\t{moto}\t{localstack}\n", check.row));
        }
    }
    fs::write(list_path(), list)?;
    let readme = fs::read_to_string(readme_path())?;
    let (before, _, after) = parts(&readme)?;
    fs::write(
        readme_path(),
        format!("{before}{BEGIN}\n{}{END}{after}", table(checks)?),
    )?;
    Ok(())
}

/// Fails when the README's table is not that of the list.
pub(crate) fn compare_readme(checks: &[Check]) -> anyhow::Result<()> {
    let readme = fs::read_to_string(readme_path()).context("reading aws-sim's README")?;
    let (_, found, _) = parts(&readme)?;
    let wanted = table(checks)?;
    if found == wanted {
        return Ok(());
    }
    let line = found
        .lines()
        .zip(wanted.lines())
        .find(|(found, wanted)| found != wanted);
    bail!(
        "the table in aws-sim's README is not that of differences.tsv (CONFORMANCE_WRITE=1 writes both anew); \
         first: {line:#?}"
    )
}

fn parts(readme: &str) -> anyhow::Result<(&str, &str, &str)> {
    let (before, rest) = readme
        .split_once(&format!("{BEGIN}\n"))
        .context("aws-sim's README has no table")?;
    let (table, after) = rest
        .split_once(END)
        .context("the table in aws-sim's README does not end")?;
    Ok((before, table, after))
}

fn table(checks: &[Check]) -> anyhow::Result<String> {
    let [moto, localstack] = Peer::ALL;
    let mut text = format!(
        "| check | EC2, and so `aws-sim` | by which source | {} | {} |\n|---|---|---|---|---|\n",
        moto.name(),
        localstack.name()
    );
    let (moto, localstack) = (listed(moto)?, listed(localstack)?);
    let cell =
        |of: &Differences, row: &str| of.get(row).map_or("as EC2".to_owned(), |what| escape(what));
    for check in checks
        .iter()
        .filter(|check| moto.contains_key(check.row) || localstack.contains_key(check.row))
    {
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            escape(check.row),
            escape(check.says),
            escape(check.source),
            cell(&moto, check.row),
            cell(&localstack, check.row)
        ));
    }
    Ok(text)
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// What a target does, without what EC2 does, in a cell's length.
fn short(what: &str) -> String {
    const MOST: usize = 110;
    let what = what.split(", on EC2 ").next().unwrap_or_default();
    let what = what.split(", where EC2 says ").next().unwrap_or_default();
    let what = without_some(&what.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut text: String = what.chars().take(MOST).collect();
    if text.len() < what.len() {
        text.push_str("...");
    }
    text
}

/// `Some("x")` as `"x"`.
fn without_some(text: &str) -> String {
    let Some((before, rest)) = text.split_once("Some(") else {
        return text.to_owned();
    };
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    let (inner, after) = end
        .and_then(|end| rest.split_at_checked(end))
        .unwrap_or((rest, ")"));
    let after = after.strip_prefix(')').unwrap_or(after);
    format!("{before}{}{}", without_some(inner), without_some(after))
}
