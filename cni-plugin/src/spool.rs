//! Releases that ipamd could not be told of, left for it to replay.
//!
//! A file per release in `<folder of ipamd's socket>/spool/`, in the format of docs/release-spool.md: the
//! name is 16 hexadecimal digits of a hash and `.json`, the content the attachment's key. The key and never
//! an address: by the time that it is replayed the address may be another pod's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cni_spec::Attachment;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// More than this many releases are never left: a node that nobody looks after must not fill its /run.
pub(crate) const LIMIT: usize = 10_000;

/// The folder of releases.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
}

/// Why a release could not be left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("{0} holds {LIMIT} releases already: start ipamd, which replays and removes them")]
    Full(PathBuf),
    #[error("a release could not be written to {0}")]
    Io(PathBuf, #[source] io::Error),
}

#[derive(Serialize)]
struct Release<'a> {
    container_id: &'a str,
    ifname: &'a str,
    /// Unix seconds, for people.
    at: u64,
}

impl Spool {
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Leaves a release; once this returns it survives a crash. Leaving it again changes nothing.
    pub(crate) fn leave(&self, key: &Attachment) -> Result<(), SpoolError> {
        let io = |error| SpoolError::Io(self.folder.clone(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(io)?;
        let path = self.path(key);
        if !path.exists() && fs::read_dir(&self.folder).map_err(io)?.count() >= LIMIT {
            return Err(SpoolError::Full(self.folder.clone()));
        }
        self.write(&path, key).map_err(io)
    }

    /// Takes a release back. ipamd has been told, or the attachment is being made anew and must keep what it
    /// gets.
    pub(crate) fn withdraw(&self, key: &Attachment) {
        // Absent as a rule. What can't be removed is a release too many, of a container that is gone.
        let _ignored = fs::remove_file(self.path(key));
    }

    fn write(&self, path: &Path, key: &Attachment) -> io::Result<()> {
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let release = Release {
            container_id: key.container_id(),
            ifname: key.ifname(),
            at,
        };
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(&release)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, key: &Attachment) -> PathBuf {
        let hash = Sha256::digest(format!("{}/{}", key.container_id(), key.ifname()));
        let mut name: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        name.push_str(".json");
        self.folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn key(container_id: &str) -> Attachment {
        Attachment::new(container_id.to_owned(), "eth0".to_owned()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_release_is_one_file_by_the_documented_name_and_content() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("made/if/absent");
        let spool = Spool::at(folder.clone());
        spool.leave(&key("c0ffee")).unwrap();
        spool.leave(&key("c0ffee")).unwrap();
        // printf c0ffee/eth0 | sha256sum | cut -c1-16
        assert_eq!(names(&folder), ["6ad2516ced2a6b10.json"]);
        let text = fs::read(folder.join("6ad2516ced2a6b10.json")).unwrap();
        let release: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(release["container_id"], "c0ffee");
        assert_eq!(release["ifname"], "eth0");
        assert!(release["at"].as_u64().unwrap() > 1_700_000_000);
    }

    #[test]
    fn a_withdrawn_release_is_gone_and_withdrawing_nothing_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::at(folder.path().to_owned());
        spool.leave(&key("a")).unwrap();
        spool.leave(&key("b")).unwrap();
        spool.withdraw(&key("a"));
        spool.withdraw(&key("a"));
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_full_spool_takes_no_more_but_what_it_has_stays() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::at(folder.path().to_owned());
        spool.leave(&key("first")).unwrap();
        for n in 1..LIMIT {
            File::create(folder.path().join(format!("{n}.json"))).unwrap();
        }
        assert!(matches!(
            spool.leave(&key("one-more")),
            Err(SpoolError::Full(_))
        ));
        spool.leave(&key("first")).unwrap();
        assert_eq!(names(folder.path()).len(), LIMIT);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Spool::at(file.path().join("spool"))
            .leave(&key("a"))
            .unwrap_err();
        assert!(error.to_string().contains("spool"), "{error}");
    }
}
