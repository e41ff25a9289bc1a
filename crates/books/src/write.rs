//! Replacing the books on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipam::Ledger;

use crate::{Books, beside, folder, format};

/// The books could not be written. The books that were on disk are still there, whole (the file before them may be gone); if the
/// very last step failed, the new content is there but may not survive a crash of the node.
#[derive(Debug, thiserror::Error)]
#[error("books {path} could not be written ({step}: {cause}); {remedy}")]
pub struct WriteError {
    /// The books.
    pub path: PathBuf,
    /// What failed.
    pub step: &'static str,
    /// What the system said.
    pub cause: io::Error,
    remedy: &'static str,
}

impl Books {
    /// Replaces the books on disk by this ledger. When it returns, they survive a crash.
    ///
    /// # Errors
    ///
    /// When any step fails; the message names the path, the step and the remedy.
    pub fn write(&mut self, ledger: &Ledger) -> Result<(), WriteError> {
        let path = &self.path;
        let fail = |step, cause| WriteError {
            path: path.clone(),
            step,
            remedy: remedy(&cause),
            cause,
        };
        let (bytes, lines) = (&mut self.bytes, &mut self.lines);
        format::encode_into(bytes, lines, &self.identity, ledger)
            .map_err(|error| fail("putting them into JSON", error.into()))?;
        let temporary = beside(&self.path, ".tmp");
        // A crash may have left one; it was never whole, or never needed.
        remove(&temporary).map_err(|cause| fail("removing an old temporary file", cause))?;
        let previous = beside(&self.path, ".previous");
        // What the names on disk are is not known after a write that failed, or one of another process: after a crash of the node
        // the file may turn out to be the books themselves.
        if std::mem::take(&mut self.settled) && is_ours_alone(&previous) {
            // It is written over: to give its room back and take as much anew is most of the work.
            fs::rename(&previous, &temporary)
                .map_err(|cause| fail("renaming the file before the last", cause))?;
        } else {
            remove(&previous).map_err(|cause| fail("removing the file before the last", cause))?;
        }
        let written = write_over(&temporary, &self.bytes);
        if let Err((step, cause)) = written {
            // It takes room that a full disk needs; if it can't be removed, the next write says so.
            fs::remove_file(&temporary).ok();
            return Err(fail(step, cause));
        }
        // A link, not a rename: the books are there at every moment. It is for people alone, so a file system
        // without links (and a first write without books) does without.
        fs::hard_link(&self.path, &previous).ok();
        fs::rename(&temporary, &self.path)
            .map_err(|cause| fail("renaming the temporary file", cause))?;
        File::open(folder(&self.path))
            .and_then(|folder| folder.sync_all())
            .map_err(|cause| fail("fsync of the folder", cause))?;
        self.settled = true;
        Ok(())
    }
}

/// Whether the file is as [`write_over`] made it, and nobody has given it another name.
fn is_ours_alone(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|file| file.is_file() && file.nlink() == 1 && file.mode() & 0o7777 == MODE)
}

const MODE: u32 = 0o600;

/// Makes this the content of the file, in the room that it has; a new file if there is none.
fn write_over(path: &Path, bytes: &[u8]) -> Result<(), (&'static str, io::Error)> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .map_err(|cause| ("making a temporary file", cause))?;
    file.write_all(bytes)
        .and_then(|()| file.set_len(bytes.len() as u64))
        .map_err(|cause| ("writing the temporary file", cause))?;
    file.sync_all()
        .map_err(|cause| ("fsync of the temporary file", cause))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on that file system (df -h, df -i)"
        }
        io::ErrorKind::ReadOnlyFilesystem => "mount that file system writable",
        io::ErrorKind::NotFound => "make its folder again",
        io::ErrorKind::PermissionDenied => "let ipamd write there: it must run as root",
        _ => "check that file system (dmesg, df -h)",
    }
}
