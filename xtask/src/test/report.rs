//! What the runners said, added up.
//!
//! Read are libtest's lines, which libtest-mimic prints too: `test <name> ... ok`, `... FAILED`,
//! `... ignored`, and `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; and our own,
//! `SKIPPED <suite>::<name>: <why>`, by which a suite says that it can't run something here.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What one program's tests came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) passed: usize,
    failed: usize,
    ignored: usize,
    /// How many `test result:` lines were read.
    results: usize,
    failures: Vec<String>,
    /// Why each was skipped, by name without its suite.
    skipped: BTreeMap<String, String>,
    /// Tests that said `ok`.
    ok: Vec<String>,
}

impl Outcome {
    /// Reads one line of a runner's output.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.results += 1;
            self.passed += count(result, " passed");
            self.failed += count(result, " failed");
            self.ignored += count(result, " ignored");
            return;
        }
        // A runner of one thread has not ended the line `test <name> ... ` yet when the test prints.
        let skip = line.find("SKIPPED ").filter(|at| {
            let before = line.get(..*at).unwrap_or_default();
            before.is_empty() || before.ends_with("... ")
        });
        if let Some((name, why)) = skip
            .and_then(|at| line.get(at..))
            .and_then(|text| text.strip_prefix("SKIPPED "))
            .and_then(|text| text.split_once(": "))
        {
            self.skipped.insert(bare(name), why.to_owned());
            return;
        }
        let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|text| text.rsplit_once(" ... "))
        else {
            return;
        };
        let name = name.trim().to_owned();
        if verdict == "ok" {
            self.ok.push(bare(&name));
        } else if verdict.starts_with("FAILED") {
            self.failures.push(name);
        } else if let Some(why) = verdict.strip_prefix("ignored") {
            let why = why.trim_start_matches([',', ' ']);
            let why = if why.is_empty() {
                "marked as ignored"
            } else {
                why
            };
            self.skipped
                .entry(bare(&name))
                .or_insert_with(|| why.to_owned());
        }
    }

    /// Counts one failure that no test reported.
    pub(super) fn fail(&mut self, why: String) {
        self.failed += 1;
        self.failures.push(why);
    }

    /// To be called when the program has ended: silence and a bad exit are failures too, and a test that said
    /// it skipped itself has not passed.
    pub(super) fn settle(&mut self, success: bool, status: &str) {
        let said_ok_but_skipped = self
            .ok
            .iter()
            .filter(|name| self.skipped.contains_key(*name))
            .count();
        self.passed = self.passed.saturating_sub(said_ok_but_skipped);
        if !success && self.failed == 0 {
            self.fail(format!(
                "the program ended with {status}, but no test failed"
            ));
        } else if success && self.results == 0 {
            self.fail("the program ended well, but said nothing of tests".to_owned());
        }
    }

    fn skipped(&self) -> usize {
        self.skipped.len().max(self.ignored)
    }
}

/// The number before ` passed` in `ok. 3 passed; 0 failed`.
fn count(result: &str, what: &str) -> usize {
    result
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(what))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// A test's name without the suite before it.
fn bare(name: &str) -> String {
    name.rsplit_once("::")
        .map_or(name, |(_, bare)| bare)
        .to_owned()
}

/// All programs' outcomes, by suite in the order in which they ran.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
    skips: Vec<String>,
}

#[derive(Debug)]
struct Row {
    suite: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    took: Duration,
}

impl Row {
    fn new(suite: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            passed: 0,
            failed: 0,
            skipped: 0,
            took: Duration::ZERO,
        }
    }
}

impl Report {
    pub(super) fn add(&mut self, suite: &str, program: &str, outcome: &Outcome, took: Duration) {
        let skipped = outcome.skipped();
        let place = if program == suite {
            suite.to_owned()
        } else {
            format!("{suite} ({program})")
        };
        for failure in &outcome.failures {
            self.failures.push(format!("{place}::{failure}"));
        }
        for (name, why) in &outcome.skipped {
            self.skips.push(format!("{place}::{name}: {why}"));
        }
        let unnamed = skipped - outcome.skipped.len();
        if unnamed > 0 {
            self.skips
                .push(format!("{place}: {unnamed} more, marked as ignored"));
        }
        if self.rows.last().is_none_or(|last| last.suite != suite) {
            self.rows.push(Row::new(suite));
        }
        let Some(row) = self.rows.last_mut() else {
            return;
        };
        row.passed += outcome.passed;
        row.failed += outcome.failed;
        row.skipped += skipped;
        row.took += took;
    }

    pub(super) fn failed(&self) -> usize {
        self.rows.iter().map(|row| row.failed).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "suite        passed  failed  skipped     time")?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<12} {:>6}  {:>6}  {:>7}  {:>5.1} s",
                row.suite,
                row.passed,
                row.failed,
                row.skipped,
                row.took.as_secs_f64()
            )?;
        }
        for (title, lines) in [("failed:", &self.failures), ("skipped:", &self.skips)] {
            if !lines.is_empty() {
                writeln!(f, "\n{title}")?;
            }
            for line in lines {
                writeln!(f, "  {line}")?;
            }
        }
        let sum = |of: fn(&Row) -> usize| self.rows.iter().map(of).sum::<usize>();
        writeln!(
            f,
            "\n{} passed, {} failed, {} skipped",
            sum(|row| row.passed),
            sum(|row| row.failed),
            sum(|row| row.skipped)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &str, success: bool) -> Outcome {
        let mut outcome = Outcome::default();
        for line in lines.lines() {
            outcome.read(line);
        }
        outcome.settle(success, "exit status: 101");
        outcome
    }

    fn last_line(outcomes: &[Outcome]) -> String {
        let mut report = Report::default();
        for outcome in outcomes {
            report.add("unit", "a", outcome, Duration::from_secs(1));
        }
        report.to_string().lines().last().unwrap().to_owned()
    }

    #[test]
    fn the_closing_line_adds_up_all_programs() {
        let first = outcome(
            "test a ... ok\ntest b ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            false,
        );
        let second = outcome(
            "test c ... ok\ntest d ... ignored, needs a cluster\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            true,
        );
        assert_eq!(last_line(&[first, second]), "2 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_skip_told_and_marked_as_ignored_counts_once() {
        let outcome = outcome(
            "SKIPPED pods::jumbo: no namespaces here\ntest jumbo ... ignored\n\
             test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
            true,
        );
        assert_eq!(last_line(&[outcome]), "0 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skips_itself_within_its_line_has_not_passed() {
        let outcome = outcome(
            "test grows ... SKIPPED localstack::grows: no Python\ntest grows ... ok\ntest serves ... ok\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            true,
        );
        assert_eq!(last_line(&[outcome]), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn what_is_skipped_and_what_failed_is_named_with_why() {
        let mut report = Report::default();
        let lines = "SKIPPED localstack::all: python3 venv not available: exit 1\ntest slow ... FAILED\n\
                     test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        report.add(
            "localstack",
            "localstack",
            &outcome(lines, false),
            Duration::ZERO,
        );
        let text = report.to_string();
        assert!(
            text.contains("localstack::all: python3 venv not available: exit 1"),
            "{text}"
        );
        assert!(text.contains("localstack::slow"), "{text}");
    }

    #[test]
    fn a_program_that_dies_or_says_nothing_failed() {
        assert_eq!(
            last_line(&[outcome("", true)]),
            "0 passed, 1 failed, 0 skipped"
        );
        assert_eq!(
            last_line(&[outcome("", false)]),
            "0 passed, 1 failed, 0 skipped"
        );
        let crashed = outcome("test result: ok. 3 passed; 0 failed; 0 ignored", false);
        assert_eq!(last_line(&[crashed]), "3 passed, 1 failed, 0 skipped");
    }
}
