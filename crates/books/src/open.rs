//! Reading the books at the start, and setting aside what cannot be trusted.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::grants::GrantLines;
use crate::{Books, Distrust, Identity, Loaded, beside, folder, format};

/// The books could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Their folder is not there and cannot be made.
    #[error("folder {path} of the books cannot be made: {cause}; make it, or name another path")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// They are there and cannot be read.
    #[error("books {path} cannot be read: {cause}; make it a file that root can read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// They can't be trusted, and can't be renamed either.
    #[error("books {path} cannot be trusted ({reason}), nor moved aside: {cause}; move it by hand")]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Why it is not trusted.
        reason: Distrust,
        /// What the system said.
        cause: io::Error,
    },
}

impl Books {
    /// Opens the books at `path`, makes their folder if need be, and reads what is there.
    ///
    /// # Errors
    ///
    /// When the folder or the file can't be made, read or renamed.
    pub fn open(path: impl Into<PathBuf>, identity: Identity) -> Result<(Self, Loaded), OpenError> {
        let path = path.into();
        let parent = folder(&path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|cause| OpenError::Folder {
                path: parent.to_owned(),
                cause,
            })?;
        let loaded = match fs::read(&path) {
            Ok(bytes) => match format::decode(&identity, &bytes) {
                Ok(ledger) => Loaded::Found(ledger),
                Err(reason) => set_aside(&path, reason)?,
            },
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Loaded::Fresh,
            Err(cause) => return Err(OpenError::Read { path, cause }),
        };
        let books = Self {
            path,
            identity,
            bytes: Vec::new(),
            lines: GrantLines::default(),
            settled: false,
        };
        Ok((books, loaded))
    }
}

impl Books {
    /// Whether books of this instance were set aside beside these: by an ipamd that may have ended before it wrote its own.
    #[must_use]
    pub fn were_set_aside(&self) -> bool {
        let name = beside(&self.path, ".");
        let Some(name) = name.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        let entries = fs::read_dir(folder(&self.path)).into_iter().flatten();
        entries.flatten().any(|entry| {
            let found = entry.file_name();
            let word = found.to_str().and_then(|found| found.strip_prefix(name));
            word.is_some_and(|word| {
                Distrust::OF_THIS_INSTANCE
                    .iter()
                    .any(|it| word.starts_with(it))
            })
        })
    }
}

fn set_aside(path: &Path, reason: Distrust) -> Result<Loaded, OpenError> {
    let name = format!(".{}-{}", reason.word(), utc(SystemTime::now()));
    // Two in one second must not replace each other.
    let moved_to = (1..)
        .map(|n| match n {
            1 => beside(path, &name),
            n => beside(path, &format!("{name}.{n}")),
        })
        .find(|candidate| fs::symlink_metadata(candidate).is_err())
        .unwrap_or_else(|| beside(path, &name));
    match fs::rename(path, &moved_to) {
        Ok(()) => Ok(Loaded::SetAside { reason, moved_to }),
        Err(cause) => Err(OpenError::SetAside {
            path: path.to_owned(),
            reason,
            cause,
        }),
    }
}

/// `20261121T045600Z`: ISO 8601's basic form, since colons in file names are a nuisance.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let extended = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    extended.replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_name_of_a_file_set_aside_tells_the_time_in_utc() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_868_799, "20000229T235959Z"),
            (1_795_235_919, "20261121T043839Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
