//! LocalStack's packages, at the versions in `constraints.txt`, in cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use suites::venv::Venv;

/// The newest LocalStack that runs on Debian 12's Python 3.11, with EC2 alone, and what it forgets to ask for.
const PACKAGES: &[&str] = &[
    "localstack-core[base-runtime]==4.13.1",
    "moto-ext[ec2]==5.1.54",
    "cbor2==5.8.0",
    "pyopenssl==25.3.0",
    "cryptography==46.0.7",
    "service-identity==24.2.0",
];

fn venv() -> Venv {
    Venv {
        what: "LocalStack (245 MB)",
        packages: PACKAGES,
        // Unpinned installs of LocalStack 4.13.1 no longer start.
        constraints: include_str!("constraints.txt"),
        folder: folder(),
    }
}

/// Where everything of this suite lies.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("localstack")
}

/// The Python that has LocalStack.
pub(crate) fn python() -> PathBuf {
    venv().python()
}

/// Installs the packages unless they are there.
///
/// # Errors
/// When there is no Python with venv, or its package index can't be reached: with the reason, for the skip.
pub(crate) fn install() -> anyhow::Result<()> {
    let venv = venv();
    venv.install()?;
    mend_mac_addresses(&venv)
}

/// moto, which is LocalStack's EC2, gives ENIs MACs such as `02:00:00:4602x:14802x:2402x`: the colon of a format is
/// missing. No link can have such an address, so the colon is put in.
fn mend_mac_addresses(venv: &Venv) -> anyhow::Result<()> {
    const WRONG: &str = "{random.randint(0, 255)}02x";
    const RIGHT: &str = "{random.randint(0, 255):02x}";
    let path = venv.site_packages()?.join("moto/ec2/utils.py");
    let source =
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    if source.contains(WRONG) {
        fs::write(&path, source.replace(WRONG, RIGHT))?;
    }
    Ok(())
}
