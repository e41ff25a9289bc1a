//! Settings under `/proc/sys`, of the network namespace of the calling thread.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

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

/// A setting as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    key: String,
    value: &'static str,
    absent: IfAbsent,
}

impl Setting {
    pub(crate) fn new(key: impl Into<String>, value: &'static str, absent: IfAbsent) -> Self {
        let key = key.into();
        Self { key, value, absent }
    }

    /// Sets it, unless it is so.
    pub(crate) fn apply(&self) -> Result<(), SysctlError> {
        set(&self.key, self.value, self.absent)
    }

    /// Whether it is otherwise. What the kernel does not have, or nobody may read, is not.
    pub(crate) fn is_off(&self) -> bool {
        fs::read_to_string(path(&self.key)).is_ok_and(|current| current.trim() != self.value)
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "net/{} = {}", self.key, self.value)
    }
}

fn path(key: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/{key}"))
}

/// Sets `/proc/sys/net/<key>` to `value`, unless it has it: writing some settings resets others.
pub(crate) fn set(key: &str, value: &'static str, absent: IfAbsent) -> Result<(), SysctlError> {
    let path = path(key);
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

/// The same for several settings of one folder, which is looked up once: the kernel finds `ipv6` under `/proc/sys/net` among
/// those of all namespaces that were looked into (`proc_sys_compare`), so that a way from the root costs the more the
/// more pods there are.
pub(crate) fn set_all(
    folder: &str,
    names: &[&str],
    value: &'static str,
    absent: IfAbsent,
) -> Result<(), SysctlError> {
    let folder = path(folder);
    let error = |path, source: io::Error| SysctlError {
        path,
        value,
        source,
    };
    let opened = match fs::File::open(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && absent == IfAbsent::Skip => {
            return Ok(());
        }
        opened => opened.map_err(|source| error(folder.clone(), source))?,
    };
    for name in names {
        set_in(&opened, name, value).map_err(|source| error(folder.join(name), source))?;
    }
    Ok(())
}

fn set_in(folder: &fs::File, name: &str, value: &str) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let mut current = String::new();
    file.read_to_string(&mut current)?;
    if current.trim() != value {
        // The kernel takes a setting only whole, at the beginning.
        file.write_all_at(value.as_bytes(), 0)?;
    }
    Ok(())
}
