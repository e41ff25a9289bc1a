//! Running what installs programs of others: within a deadline, and with its last words when it fails.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// LocalStack's 245 MB took 25 s; a slow index is given more, then the suite is skipped.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a command that logs to `install.log` in `folder`.
///
/// # Errors
/// When it can't be started, fails, or is not done after 300 s.
pub(crate) fn run(folder: &Path, command: &mut Command) -> anyhow::Result<()> {
    let log = folder.join("install.log");
    let output = File::create(&log)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("not done after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    bail!(
        "{status}: {}",
        said.trim().lines().last().unwrap_or("it said nothing")
    )
}
