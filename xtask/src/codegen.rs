//! `cargo xtask codegen`: the types of proto/, from its .proto files, without a protobuf compiler.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// What to generate.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask codegen   # after a change to proto/weir/ipam/v1/ipam.proto"
)]
pub(crate) struct Args {
    /// Change nothing; fail if what is checked in is not what would be generated
    #[arg(long)]
    check: bool,
}

const PROTO: &str = "weir/ipam/v1/ipam.proto";
const CHECKED_IN: &str = "proto/src/generated";
const FILES: [&str; 2] = ["weir.ipam.v1.rs", "weir.ipam.v1.bin"];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.check {
        return check();
    }
    let root = crate::workspace::root();
    generate(&root, &root.join(CHECKED_IN))
}

/// Fails when what is checked in is not what would be generated.
pub(crate) fn check() -> anyhow::Result<()> {
    let root = crate::workspace::root();
    let fresh = crate::workspace::target_directory()?.join("codegen-check");
    generate(&root, &fresh)?;
    for file in FILES {
        let read = |dir: &Path| {
            let path = dir.join(file);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        if read(&fresh)? != read(&root.join(CHECKED_IN))? {
            bail!("{CHECKED_IN}/{file} is not what proto/{PROTO} gives: run `cargo xtask codegen`");
        }
    }
    Ok(())
}

fn generate(root: &Path, out: &PathBuf) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    let mut compiler = protox::Compiler::new([root.join("proto")])?;
    // With the comments: `grpcurl describe` shows them.
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_file(PROTO)?;
    fs::write(out.join(FILES[1]), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .out_dir(out)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
