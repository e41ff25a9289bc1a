//! `cargo xtask image`: the container image, from scratch and without a container engine.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::{dist, workspace};
use oci::{Image, Layer};

mod oci;

/// The certificates by which ipamd knows EC2, as Debian's ca-certificates installs them.
pub(crate) const CA_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Write the container image as an OCI archive, without a container engine.
///
/// The image starts from nothing: ipamd, the plugin for `ipamd install` to put on the node, and CA
/// certificates. There is no shell in it. The same inputs give the same archive, byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask image\n  \
    cargo xtask image --skip-build --output weir.tar   # from the binaries in target/dist\n  \
    skopeo copy oci-archive:weir.tar docker://REGISTRY/weir:0.1.0")]
pub(crate) struct Args {
    /// Take the binaries that are in target/dist instead of building them
    #[arg(long)]
    skip_build: bool,
    /// Where to write it; target/dist/weir-VERSION-ARCHITECTURE.tar if not said
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The CA certificates that go into the image
    #[arg(long, value_name = "FILE", default_value = CA_CERTIFICATES)]
    ca_bundle: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.skip_build {
        dist::build()?;
    }
    let read = |path: PathBuf| {
        fs::read(&path).with_context(|| {
            format!(
                "reading {}: leave out --skip-build, or run `cargo xtask dist`",
                path.display()
            )
        })
    };
    let certificates = fs::read(&args.ca_bundle)
        .with_context(|| format!("reading the CA certificates {}", args.ca_bundle.display()))?;
    let version = version()?;
    let image = Image {
        architecture: architecture()?,
        version: &version,
        entrypoint: "/usr/bin/ipamd",
        // What changes least comes first, so that nodes that have it need not fetch it again.
        layers: vec![
            Layer::file(CA_CERTIFICATES, 0o644, certificates),
            Layer::file("/opt/weir/weir-cni", 0o755, read(dist::path("weir-cni")?)?),
            Layer::file("/usr/bin/ipamd", 0o755, read(dist::path("ipamd")?)?),
        ],
    };
    let archive = image.archive()?;
    let output = match &args.output {
        Some(path) => path.clone(),
        None => dist::path(&format!("weir-{version}-{}.tar", image.architecture))?,
    };
    fs::write(&output, &archive).with_context(|| format!("writing {}", output.display()))?;
    inspect(&output)?;
    println!("{}  {} bytes", output.display(), archive.len());
    Ok(ExitCode::SUCCESS)
}

fn version() -> anyhow::Result<String> {
    let metadata = workspace::metadata()?;
    let ipamd = metadata
        .packages
        .iter()
        .find(|package| package.name == "ipamd");
    Ok(ipamd
        .context("there is no package ipamd")?
        .version
        .to_string())
}

/// The processor, as OCI names it.
fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("{other}: EC2 has x86_64 and aarch64 only"),
    }
}

/// Where skopeo is installed, lets it read the archive, as a second opinion.
fn inspect(archive: &std::path::Path) -> anyhow::Result<()> {
    let mut skopeo = Command::new("skopeo");
    skopeo
        .arg("inspect")
        .arg(format!("oci-archive:{}", archive.display()));
    match skopeo.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => eprintln!("image: skopeo can read it"),
        Ok(output) => bail!(
            "skopeo refuses it: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => eprintln!("image: there is no skopeo here to read it; its own test did"),
    }
    Ok(())
}
