//! LocalStack's packages, at the versions in `constraints.txt`, in cargo's target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// All packages, with all that they need in turn: unpinned installs of LocalStack 4.13.1 no longer start.
const CONSTRAINTS: &str = include_str!("constraints.txt");

/// The newest LocalStack that runs on Debian 12's Python 3.11, with EC2 alone, and what it forgets to ask for.
const PACKAGES: &[&str] = &[
    "localstack-core[base-runtime]==4.13.1",
    "moto-ext[ec2]==5.1.54",
    "cbor2==5.8.0",
    "pyopenssl==25.3.0",
    "cryptography==46.0.7",
    "service-identity==24.2.0",
];

/// Downloading and unpacking 245 MB took 25 s; a slow index is given more, then the suite is skipped.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where everything of this suite lies.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("localstack")
}

/// The Python that has LocalStack.
pub(crate) fn python() -> PathBuf {
    folder().join("venv/bin/python")
}

/// Installs the packages unless they are there.
///
/// # Errors
/// When there is no Python with venv, or its package index can't be reached: with the reason, for the skip.
pub(crate) fn install() -> anyhow::Result<()> {
    let folder = folder();
    let installed = folder.join("installed");
    let wanted = format!("{}\n{CONSTRAINTS}", PACKAGES.join("\n"));
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) && python().exists() {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    let constraints = folder.join("constraints.txt");
    fs::write(&constraints, CONSTRAINTS)?;
    // Debian's own, before any that a version manager puts in front.
    let system = Path::new("/usr/bin/python3");
    let python3 = if system.exists() {
        system
    } else {
        Path::new("python3")
    };
    let venv = folder.join("venv");
    run(Command::new(python3)
        .args(["-m", "venv", "--clear"])
        .arg(&venv))
    .context("python3 venv not available (Debian package python3-venv)")?;
    println!("installing LocalStack for the first time (245 MB)");
    run(Command::new(python())
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--retries", "2", "--timeout", "15", "--constraint"])
        .arg(&constraints)
        .args(PACKAGES))
    .context("LocalStack's packages can't be had from the package index")?;
    mend_mac_addresses(&venv)?;
    fs::write(installed, wanted)?;
    Ok(())
}

/// moto, which is LocalStack's EC2, gives ENIs MACs such as `02:00:00:4602x:14802x:2402x`: the colon of a format is
/// missing. No link can have such an address, so the colon is put in.
fn mend_mac_addresses(venv: &Path) -> anyhow::Result<()> {
    const WRONG: &str = "{random.randint(0, 255)}02x";
    const RIGHT: &str = "{random.randint(0, 255):02x}";
    let versions = fs::read_dir(venv.join("lib"))?.collect::<Result<Vec<_>, _>>()?;
    let python = versions
        .first()
        .context("a venv without lib/python3")?
        .path();
    let path = python.join("site-packages/moto/ec2/utils.py");
    let source =
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    fs::write(&path, source.replace(WRONG, RIGHT))?;
    Ok(())
}

/// Runs a command within [`PATIENCE`]; its last words are in the error.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let log = folder().join("install.log");
    let output = File::create(&log)?;
    let mut child = command
        .env("PIP_CACHE_DIR", folder().join("pip-cache"))
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
