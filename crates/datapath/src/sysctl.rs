//! Settings under `/proc/sys`, of the network namespace of the calling thread.

use std::fs;
use std::io::{self, Write as _};
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

/// The same without a look at what it has: for a link that was just made. The kernel finds a name under `/proc/sys/net`
/// among those of all namespaces (`proc_sys_compare`), so a look at `eth0` costs the more the more pods there are.
pub(crate) fn put(key: &str, value: &'static str, absent: IfAbsent) -> Result<(), SysctlError> {
    let path = PathBuf::from(format!("/proc/sys/net/{key}"));
    let written = fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound && absent == IfAbsent::Skip => Ok(()),
        written => written.map_err(|source| SysctlError {
            path,
            value,
            source,
        }),
    }
}
