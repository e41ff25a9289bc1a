//! CHECK: the runtime's result, ipamd's books and the kernel must agree. Nothing is changed.

use std::time::{Duration, Instant};

use cni_spec::{CheckRequest, Code, Error, SeenLink};
use datapath::NetNs;
use datapath::layout::{self, Mac};
use datapath::pod::{self, Expected, egress};
use ipnet::IpNet;

use crate::add::{bad_netns, kernel};
use crate::codes;
use crate::ipamd::Ipamd;
use crate::journal::Journal;
use crate::settings::Settings;

/// ipamd answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the pod's interface is as ADD left it.
pub(crate) async fn check(request: &CheckRequest) -> Result<(), Error> {
    let settings = Settings::of(&request.config)?;
    let mut journal = Journal::open(&settings, "CHECK", &request.attachment);
    let checked = look(request, &settings).await;
    match &checked {
        Ok(()) => journal.debug("as it was made"),
        Err(error) => journal.error(error),
    }
    checked
}

async fn look(request: &CheckRequest, settings: &Settings) -> Result<(), Error> {
    let key = &request.attachment;
    let netns = NetNs::open(&request.netns).map_err(|error| bad_netns(&error))?;
    let link = told(request)?;
    let deadline = Instant::now() + PATIENCE;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut ipamd = Ipamd::connect(&settings.ipamd_socket, left()).await?;
    let held = ipamd.held(key, left()).await?;

    let mut faults = Vec::new();
    if held.is_empty() {
        faults.push("ipamd has no address for this container".to_owned());
    }
    for address in &held {
        let told = IpNet::from(*address);
        if !request.result.addresses.contains(&told) {
            faults.push(format!(
                "ipamd has {address} for it, and its result has not"
            ));
        }
    }
    let (_, made) = layout::link_macs(key.container_id(), key.ifname());
    let expected = Expected {
        container_id: key.container_id().to_owned(),
        ifname: key.ifname().to_owned(),
        pod_mac: mac(link)?.unwrap_or(made),
        addresses: held,
    };
    let found = pod::check(&netns, &expected).await;
    let found = found.map_err(|error| kernel(&error))?;
    faults.extend(found.iter().map(ToString::to_string));
    if let Some(egress) = settings.egress_for(&expected.addresses)
        && !expected.addresses.is_empty()
    {
        let found = egress::check(&netns, &expected, egress).await;
        let found = found.map_err(|error| kernel(&error))?;
        faults.extend(found.iter().map(ToString::to_string));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        codes::NOT_AS_ADDED,
        format!(
            "{} in {} is not as ADD left it: {}",
            key.ifname(),
            request.netns,
            faults.join("; ")
        ),
        codes::details(
            "NOT_AS_ADDED",
            "nothing was changed; ipamd repairs the host's own rules and routes by itself",
            "delete the pod, so that it is made anew; find out what else configures this node's network",
        ),
    ))
}

/// The pod's link, as the result has it.
fn told(request: &CheckRequest) -> Result<&SeenLink, Error> {
    let ifname = request.attachment.ifname();
    let mut links = request.result.links.iter();
    links
        .find(|link| link.name == ifname && link.sandbox == request.netns)
        .ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                format!("the prevResult has no interface {ifname} in {}", request.netns),
                "the runtime gives the result of the ADD that it wants checked, and the same CNI_NETNS",
            )
        })
}

fn mac(link: &SeenLink) -> Result<Option<Mac>, Error> {
    let mac = link.mac.as_deref().map(str::parse).transpose();
    mac.map_err(|error: layout::MacError| {
        Error::new(
            Code::Decode,
            "prevResult is not a CNI result",
            error.to_string(),
        )
    })
}
