//! The programs under test: the real ones, as cargo built them.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// The path of one of our binaries: where `WEIR_CNI` or `WEIR_IPAMD` says, else where this program lies, or a
/// folder above (a test's own folder is `deps`).
///
/// # Errors
/// When it has not been built.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    let elsewhere = match name {
        "ipamd" => std::env::var_os("WEIR_IPAMD"),
        "weir-cni" => std::env::var_os("WEIR_CNI"),
        _ => None,
    };
    if let Some(path) = elsewhere {
        return Ok(path.into());
    }
    let here = std::env::current_exe().context("finding this program's own path")?;
    let candidates: Vec<_> = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .collect();
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => bail!(
            "{name} is not built: it is not in {}. `cargo xtask test` and `cargo xtask demo` build it first",
            candidates
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(" nor ")
        ),
    }
}

/// Whether the programs were built for speed: figures of a debug build mean nothing.
#[must_use]
pub fn optimised() -> bool {
    !cfg!(debug_assertions)
}
