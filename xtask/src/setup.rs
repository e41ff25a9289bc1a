//! `cargo xtask setup`: what a fresh Debian machine lacks.
//!
//! The other commands call [`ensure`] too, so that nobody has to know of this one.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

/// Install what this machine lacks for the other commands.
///
/// Looks for each program first, says what is missing, and installs only that: Debian packages by apt-get
/// (with sudo when you are not root), Rust components by rustup. Run again, it does nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask setup\n  cargo xtask setup --check   # only say what is missing"
)]
pub(crate) struct Args {
    /// Install nothing; exit with 1 if something is missing
    #[arg(long)]
    check: bool,
}

/// Something that the commands need, and how to get it.
struct Need {
    what: &'static str,
    present: fn() -> bool,
    source: Source,
    /// Whether everything but one suite, or one figure, is the same without it.
    optional: bool,
}

enum Source {
    Debian(&'static str),
    Rustup(&'static str),
    /// Rust's standard library for another target.
    RustTarget(&'static str),
}

const NEEDS: &[Need] = &[
    Need {
        what: "ip, for the lab's namespaces and links",
        present: || on_path("ip"),
        source: Source::Debian("iproute2"),
        optional: false,
    },
    Need {
        what: "nft, to read filters back in tests",
        present: || on_path("nft"),
        source: Source::Debian("nftables"),
        optional: false,
    },
    Need {
        what: "a C compiler, for aws-lc-sys and for linking",
        present: || on_path("cc"),
        source: Source::Debian("gcc"),
        optional: false,
    },
    Need {
        what: "the C library's headers and static libraries",
        present: || c_compiles(),
        source: Source::Debian("libc6-dev"),
        optional: false,
    },
    Need {
        what: "CA certificates, for the image",
        present: || Path::new(crate::image::CA_CERTIFICATES).exists(),
        source: Source::Debian("ca-certificates"),
        optional: false,
    },
    Need {
        what: "Python's venv, for the suites localstack, botocore and conformance",
        present: || {
            let python = Path::new("/usr/bin/python3");
            python.exists() && succeeds(Command::new(python).args(["-c", "import ensurepip, venv"]))
        },
        source: Source::Debian("python3-venv"),
        optional: true,
    },
    Need {
        what: "containerd and runc, for the suite runtimes",
        present: || on_path("containerd") && on_path("runc"),
        // It depends on runc.
        source: Source::Debian("containerd"),
        optional: true,
    },
    Need {
        what: "iptables, for kube-proxy's iptables mode and for plugins after ours",
        present: || on_path("iptables"),
        source: Source::Debian("iptables"),
        optional: true,
    },
    Need {
        what: "ipset, for kube-proxy's IPVS mode",
        present: || on_path("ipset"),
        source: Source::Debian("ipset"),
        optional: true,
    },
    Need {
        what: "rustfmt, for lint",
        present: || succeeds(crate::workspace::cargo().args(["fmt", "--version"])),
        source: Source::Rustup("rustfmt"),
        optional: false,
    },
    Need {
        what: "clippy, for lint",
        present: || succeeds(crate::workspace::cargo().args(["clippy", "--version"])),
        source: Source::Rustup("clippy"),
        optional: false,
    },
    Need {
        what: "Rust's standard library for musl, with which the plugin that ships starts sooner",
        present: || crate::dist::has_target(crate::dist::MUSL),
        source: Source::RustTarget(crate::dist::MUSL),
        optional: true,
    },
];

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.check {
        ensure_all()?;
    }
    let missing = missing();
    for need in &missing {
        println!("missing: {} ({})", need.what, need.source.name());
    }
    if missing.is_empty() {
        println!("nothing is missing");
    }
    // What `ensure` goes on without is no failure.
    let failed = args.check && !missing.is_empty();
    Ok(ExitCode::from(u8::from(failed)))
}

/// Installs what is missing, and says so on stderr; silent and quick when nothing is.
///
/// # Errors
/// When something that is not optional can't be installed.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let mut missing = missing();
    missing.retain(|need| !matches!(need.source, Source::RustTarget(_)));
    install(missing)
}

/// As [`ensure`], and also what is for programs that ship.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_all() -> anyhow::Result<()> {
    install(missing())
}

fn install(missing: Vec<&Need>) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("setup: missing: {} ({})", need.what, need.source.name());
    }
    let mut apt_is_fresh = false;
    for need in missing {
        let outcome = match need.source {
            Source::Debian(package) => install_package(package, &mut apt_is_fresh),
            Source::Rustup(component) => rustup("component", component),
            Source::RustTarget(target) => rustup("target", target),
        };
        match outcome {
            Ok(()) => {}
            Err(error) if need.optional => {
                eprintln!("setup: going on without {}: {error:#}", need.what);
            }
            Err(error) => return Err(error.context(format!("installing {}", need.what))),
        }
    }
    Ok(())
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.present)()).collect()
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Debian(package) => format!("Debian package {package}"),
            Self::Rustup(component) => format!("Rust component {component}"),
            Self::RustTarget(target) => format!("Rust target {target}"),
        }
    }
}

fn install_package(package: &str, apt_is_fresh: &mut bool) -> anyhow::Result<()> {
    if !on_path("apt-get") {
        bail!("there is no apt-get here: install the equivalent of Debian's package `{package}`");
    }
    if !*apt_is_fresh {
        say_and_run(as_root("apt-get").args(["update", "-q"]))?;
        *apt_is_fresh = true;
    }
    say_and_run(as_root("apt-get").args([
        "install",
        "-q",
        "--yes",
        "--no-install-recommends",
        package,
    ]))
}

/// Adds a `component` or a `target` to the toolchain.
fn rustup(kind: &str, name: &str) -> anyhow::Result<()> {
    if !on_path("rustup") {
        bail!("there is no rustup here: install the Rust {kind} `{name}` as your toolchain came");
    }
    say_and_run(Command::new("rustup").args([kind, "add", name]))
}

fn as_root(program: &str) -> Command {
    let root = succeeds(Command::new("sh").args(["-c", "test \"$(id -u)\" = 0"]));
    let mut command = if root {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    command
}

fn say_and_run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("setup: {command:?}");
    // Their output is not the caller's: `demo --output json` prints JSON alone.
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn c_compiles() -> bool {
    succeeds(Command::new("sh").args([
        "-c",
        "echo '#include <stdlib.h>' | cc -E - && test -e \"$(cc -print-file-name=libc.a)\"",
    ]))
}

/// Whether a program is there. `/usr/sbin` is looked at too: Debian keeps `nft` there, out of a user's PATH.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_is_found_and_one_that_is_not_is_missed() {
        assert!(on_path("sh"));
        assert!(!on_path("no-program-has-this-name"));
    }
}
