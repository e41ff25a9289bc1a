//! Settings under `/proc/sys`, of the network namespace of the calling thread.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("setting {path} to {value} failed: it needs root and a writable /proc/sys")]
pub struct SysctlError {
    path: PathBuf,
    value: &'static str,
    #[source]
    source: io::Error,
}

/// What to do where the kernel does not have the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfAbsent {
    Fail,
    /// As for IPv6's settings on kernels without it.
    Skip,
}

/// Sets `/proc/sys/net/<key>` to `value`, unless it has it: writing some settings resets others.
pub(crate) fn set(key: &str, value: &'static str, absent: IfAbsent) -> Result<(), SysctlError> {
    let path = PathBuf::from(format!("/proc/sys/net/{key}"));
    let result = match fs::read_to_string(&path) {
        Ok(current) if current.trim() == value => return Ok(()),
        Ok(_) => fs::write(&path, value),
        Err(error) if error.kind() == io::ErrorKind::NotFound && absent == IfAbsent::Skip => Ok(()),
        Err(error) => Err(error),
    };
    result.map_err(|source| SysctlError {
        path,
        value,
        source,
    })
}
