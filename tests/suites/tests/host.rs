//! A minute of the torture of the host, as a person runs it (`cargo xtask host-torture`).

use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use suites::{harness, programs};

fn main() -> ExitCode {
    let name = "a_node_on_which_everything_happens_at_once_for_a_minute_has_nothing_left_over";
    harness::run("host", vec![harness::test(name, torture)])
}

fn torture() -> anyhow::Result<()> {
    let output = Command::new(programs::path("host-torture")?)
        .args(["--seconds", "60", "--seed", "7"])
        .output()
        .context("running host-torture")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}
