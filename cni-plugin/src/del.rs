//! DEL: the kernel first, then ipamd, or the spool when that can't be told.
//!
//! The container id says what to undo, and nothing else does. An address in prevResult may be another pod's
//! by now: runtimes send a DEL again long after the first. The namespace is not entered: it may be gone, or
//! its path be another's. The pod's end of the link goes with the host's.

use std::time::Duration;

use cni_spec::{Attachment, Code, DelRequest, Error};
use datapath::pod;

use crate::add::kernel;
use crate::codes;
use crate::ipamd::Ipamd;
use crate::journal::Journal;
use crate::settings::Settings;
use crate::spool::{Spool, SpoolError};

/// ipamd answers a Del in milliseconds or is not well. A runtime deletes many sandboxes one after another
/// when a node drains, so each must not wait long; the spool keeps what was not told.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes the pod's interface away.
///
/// An address is given back only when the link that uses it is gone for certain. If the kernel does not let
/// it go, the DEL fails and the runtime repeats it.
pub(crate) async fn del(request: &DelRequest) -> Result<(), Error> {
    let settings = Settings::of_or_default(&request.config);
    let key = &request.attachment;
    let mut journal = Journal::open(&settings, "DEL", key);
    let had_link =
        match pod::disconnect(&settings.veth_prefix, key.container_id(), key.ifname()).await {
            Ok(had_link) => had_link,
            Err(error) => {
                let error = kernel(&error);
                journal.error(&error);
                return Err(Error {
                    code: Code::TryAgainLater,
                    ..error
                });
            }
        };
    match release(key, &settings, &mut journal).await {
        Ok(()) => {
            journal.info(if had_link {
                "link removed"
            } else {
                "there was no link"
            });
            Ok(())
        }
        Err(stuck) => {
            journal.error(&stuck);
            let remedy = "start ipamd, or make room and write access in its folder";
            Err(Error::new(
                Code::TryAgainLater,
                format!("neither ipamd nor its spool takes the release: {stuck}"),
                codes::details("RELEASE_STUCK", "the runtime sends the DEL again", remedy),
            ))
        }
    }
}

/// Gives back what the attachment holds: tells ipamd, or leaves it in the spool.
pub(crate) async fn release(
    key: &Attachment,
    settings: &Settings,
    journal: &mut Journal,
) -> Result<(), SpoolError> {
    let spool = Spool::at(settings.spool());
    let told = async {
        Ipamd::connect(&settings.ipamd_socket, PATIENCE)
            .await?
            .del(key, PATIENCE)
            .await
    };
    match told.await {
        Ok(()) => {
            spool.withdraw(key);
            Ok(())
        }
        Err(error) => {
            journal.error(format_args!("{error}; the release goes to the spool"));
            spool.leave(key)
        }
    }
}
