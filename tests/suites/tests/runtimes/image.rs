//! The one image of the tests, made here: there is no registry to be asked.

use std::fs;
use std::io::Write;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::programs::program;

/// Its name; nothing would answer for it.
pub(crate) const NAME: &str = "weir.invalid/pod:1";

/// The only file in it, `pod.go`.
pub(crate) const PROGRAM: &str = "/pod";

/// Writes it as `docker save` would: one layer with one program, which waits.
pub(crate) fn write(out: &mut impl Write) -> anyhow::Result<()> {
    let layer = archive(&[("pod", 0o755, &fs::read(program("pod"))?)])?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let digest: String = Sha256::digest(&layer)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [PROGRAM]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    out.write_all(&archive(&[
        ("manifest.json", 0o644, manifest.to_string().as_bytes()),
        ("config.json", 0o644, config.to_string().as_bytes()),
        ("layer.tar", 0o644, &layer),
    ])?)?;
    Ok(())
}

fn archive(files: &[(&str, u32, &[u8])]) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(u64::try_from(content.len())?);
        tar.append_data(&mut header, path, *content)?;
    }
    Ok(tar.into_inner()?)
}
