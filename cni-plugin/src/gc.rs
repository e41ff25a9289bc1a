//! GC: what no valid attachment of this network holds goes back to the pool, and its link goes.

use std::time::Duration;

use cni_spec::{Error, GcRequest};
use datapath::pod;

use crate::codes;
use crate::ipamd::Ipamd;
use crate::journal::Journal;
use crate::settings::Settings;

/// One write of ipamd's books, whatever the number.
const PATIENCE: Duration = Duration::from_secs(15);

/// Takes back what the runtime does not name as valid. ipamd spares what is younger than a minute: its ADD may not be in
/// the runtime's list yet.
pub(crate) async fn gc(request: &GcRequest) -> Result<(), Error> {
    let settings = Settings::of(&request.config)?;
    let mut journal = Journal::open(&settings, "GC", request.config.name());
    let Some(valid) = &request.valid else {
        journal.info(format_args!(
            "the runtime does not say which attachments are valid: nothing is collected"
        ));
        return Ok(());
    };
    let mut ipamd = Ipamd::connect(&settings.ipamd_socket, PATIENCE).await?;
    let released = ipamd.gc(request.config.name(), valid, PATIENCE).await?;
    let mut left = Vec::new();
    for sandbox in &released {
        journal.info(format_args!(
            "collected {}/{}: the runtime does not know it any more",
            sandbox.container_id, sandbox.ifname
        ));
        let gone = pod::disconnect(
            &settings.veth_prefix,
            &sandbox.container_id,
            &sandbox.ifname,
        )
        .await;
        if let Err(error) = gone {
            left.push(format!("{}: {error}", sandbox.container_id));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        codes::KERNEL,
        format!(
            "links of collected containers are left: {}",
            left.join("; ")
        ),
        codes::details(
            "KERNEL",
            "",
            "read the message: it has the kernel's own reason; `ip link delete` does the same",
        ),
    ))
}
