//! `aws-sim` itself, as a process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use suites::programs;
use tempfile::TempDir;

/// From its start to the last line of what it tells clients; it takes well under a second.
const START: Duration = Duration::from_secs(20);

/// What boto3 and the checks do not work without, in whatever order it is told.
const NEEDED: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SIM_CONTROL",
];

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Simulator {
    process: Child,
    environment: Vec<(String, String)>,
    folder: TempDir,
}

impl Simulator {
    /// Starts it on any free port of loopback, with two instances, and reads what it tells clients.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut process = Command::new(programs::path("aws-sim")?)
            .args(["--listen", "127.0.0.1:0", "--instances", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()
            .context("starting aws-sim")?;
        let stdout = process.stdout.take();
        // From here on it is killed whatever fails.
        let mut simulator = Self {
            process,
            environment: Vec::new(),
            folder,
        };
        let (sender, lines) = mpsc::channel();
        let mut stdout = BufReader::new(stdout.context("aws-sim's stdout")?).lines();
        std::thread::spawn(move || {
            // To the end, so that it never writes to a closed pipe.
            while let Some(Ok(line)) = stdout.next() {
                drop(sender.send(line));
            }
        });
        let deadline = Instant::now() + START;
        while !simulator.is_known() {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => simulator.environment.extend(variable(&line)),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = simulator.process.wait()?;
                    bail!("aws-sim ended with {status}: {}", simulator.log());
                }
                Err(RecvTimeoutError::Timeout) => bail!(
                    "aws-sim has told {:?} after {} s, but {NEEDED:?} are needed: {}",
                    simulator.environment,
                    START.as_secs(),
                    simulator.log()
                ),
            }
        }
        Ok(simulator)
    }

    /// The variables by which clients find it.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether all that clients need is told.
    fn is_known(&self) -> bool {
        NEEDED
            .iter()
            .all(|wanted| self.environment.iter().any(|(name, _)| name == wanted))
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The variable that a line sets: `export NAME=value`, or the same as a comment.
fn variable(line: &str) -> Option<(String, String)> {
    let word = line
        .trim_start_matches(['#', ' '])
        .trim_start_matches("export ");
    let (name, value) = word.split_once('=')?;
    let is_name = name.starts_with("AWS_")
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_name.then(|| (name.to_owned(), value.trim().to_owned()))
}
