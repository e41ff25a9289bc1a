//! The socket that ipamd listens on, and the certainty that no other ipamd does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::net::UnixListener;

/// Held while ipamd runs: of all that use this socket path, one at a time. The kernel lets go of it however
/// ipamd ends.
#[derive(Debug)]
pub(crate) struct Claim {
    socket: PathBuf,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error(
        "another ipamd runs for the socket {0}: stop it first, or give this one a socket and books of its own \
         (WEIR_SOCKET, WEIR_BOOKS)"
    )]
    Taken(PathBuf),
    #[error(
        "{0} is there and is no socket, so it is left alone: remove it, or choose another path (WEIR_SOCKET)"
    )]
    NotASocket(PathBuf),
    #[error(
        "{path} can't be {step}: look at the folder's owner, mode and mount, or set WEIR_SOCKET"
    )]
    Io {
        path: PathBuf,
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Claim {
    /// Makes the socket's folder if need be, and takes the lock beside the socket.
    pub(crate) fn take(socket: &Path) -> Result<Self, SocketError> {
        let folder = socket.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(failed(folder, "made"))?;
        let mut name = socket.file_name().unwrap_or_default().to_os_string();
        name.push(".lock");
        let path = socket.with_file_name(name);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "opened"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                socket: socket.to_owned(),
                _lock: lock,
            }),
            Err(Errno::WOULDBLOCK) => Err(SocketError::Taken(socket.to_owned())),
            Err(error) => Err(failed(&path, "locked")(error.into())),
        }
    }

    /// Listens, in place of a socket that nobody listens on any more.
    pub(crate) fn listen(&self) -> Result<UnixListener, SocketError> {
        let path = &self.socket;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(path, "looked at")(error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.clone()));
            }
            Ok(_) => {
                // The lock says that no ipamd is there, but another program could be.
                if UnixStream::connect(path).is_ok() {
                    return Err(SocketError::Taken(path.clone()));
                }
                fs::remove_file(path).map_err(failed(path, "replaced"))?;
            }
        }
        let listener = UnixListener::bind(path).map_err(failed(path, "listened on"))?;
        // Until here the umask decided; whoever got in meanwhile is refused by its credentials.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(failed(path, "made root's alone"))?;
        Ok(listener)
    }

    /// Takes the socket away: who connects now learns at once that nobody is there.
    pub(crate) fn withdraw(&self) {
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::warn!(socket = %self.socket.display(), "the socket can't be removed: {error}");
        }
    }
}

fn failed(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { path, step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/ipamd.sock");
        let claim = Claim::take(&path).unwrap();
        drop(claim.listen().unwrap());
        assert!(path.exists(), "a dropped listener leaves its socket");
        let listener = claim.listen().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(claim.listen(), Err(SocketError::Taken(_))));
        drop(listener);
        claim.withdraw();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_path_is_one_ipamds_at_a_time_and_never_a_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipamd.sock");
        let first = Claim::take(&path).unwrap();
        assert!(matches!(Claim::take(&path), Err(SocketError::Taken(_))));
        drop(first);
        let second = Claim::take(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(second.listen(), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
