//! ADD: check, ask once and make the link meanwhile, wire once.
//!
//! Everything that can be wrong is looked at before anything changes. Whatever fails afterwards is undone:
//! the address goes back to ipamd, and nothing is left in the kernel.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cni_spec::{AddRequest, AddResult, Code, Error, Interface, IpConfig, Route};
use datapath::layout::{POD_GATEWAY, POD_GATEWAY_V6};
use datapath::pod::{self, Ends, NewLink, PodError, PodLink, PodWiring, Sides, egress};
use datapath::{NetNs, NetNsError};
use futures_util::future::join;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::codes;
use crate::del::release;
use crate::ipamd::{CallError, Grant, Ipamd};
use crate::journal::Journal;
use crate::settings::Settings;
use crate::spool::Spool;

/// Gives the pod its interface.
pub(crate) async fn add(request: &AddRequest) -> Result<AddResult, Error> {
    let settings = Settings::of(&request.config)?;
    let mut journal = Journal::open(&settings, "ADD", &request.attachment);
    let outcome = make(request, &settings, &mut journal).await;
    match &outcome {
        Ok(result) => {
            let ips: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
            journal.info(format_args!("{}: {}", pod_name(request), ips.join(", ")));
        }
        Err(error) => journal.error(format_args!("{}: {error}", pod_name(request))),
    }
    outcome
}

async fn make(
    request: &AddRequest,
    settings: &Settings,
    journal: &mut Journal,
) -> Result<AddResult, Error> {
    let key = &request.attachment;
    // CNI_NETNS_OVERRIDE, by which the reference lets a plugin work on its own namespace, is not looked at:
    // a pod's link has one end on the host, so the two must differ.
    let netns = NetNs::open(&request.netns).map_err(|error| bad_netns(&error))?;
    let sides = Sides::open(&netns).map_err(|error| kernel(&error))?;
    if sides
        .has(key.ifname())
        .await
        .map_err(|error| kernel(&error))?
    {
        return again(request, settings, &netns, journal).await;
    }

    let (grant, ends) = ask_and_make(request, settings, &sides, journal).await?;
    journal.debug(format_args!(
        "granted {:?}, MTU {}",
        grant.addresses, grant.mtu
    ));
    let link = pod_link(request, settings, grant);
    match wire(&sides, ends, &link, settings, journal).await {
        Ok(wiring) => Ok(result(request, &link, &wiring)),
        Err(error) => Err(failed(&error, request, settings, journal).await),
    }
}

/// Asks ipamd for addresses and makes the link meanwhile, which needs none: each takes as long as the other. On failure
/// there is neither.
async fn ask_and_make(
    request: &AddRequest,
    settings: &Settings,
    sides: &Sides<'_>,
    journal: &mut Journal,
) -> Result<(Grant, Ends), Error> {
    let key = &request.attachment;
    let deadline = Instant::now() + settings.add_timeout();
    let pod = pod_name(request);
    let new = NewLink {
        container_id: key.container_id(),
        ifname: key.ifname(),
        veth_prefix: &settings.veth_prefix,
        alias: &pod,
        mtu: settings.mtu.unwrap_or(USUAL_MTU),
    };
    let making = sides.make(&new);
    let asking = ask(request, settings, deadline, journal);
    match join(asking, after_the_question(making)).await {
        (Ok(grant), Ok(ends)) => Ok((grant, ends)),
        (Ok(_), Err(error)) => Err(failed(&error, request, settings, journal).await),
        (Err((error, may_have_given)), made) => {
            let mut error = Error::from(error);
            match made {
                Ok(ends) => error = unmade(error, sides, ends).await,
                Err(not_made) => journal.error(whole(&not_made)),
            }
            Err(if may_have_given {
                give_back(error, request, settings, journal).await
            } else {
                error
            })
        }
    }
}

/// The kernel makes a link while the thread that asks it waits. So what it takes for the question to leave, some turns of
/// the event loop, comes first, and ipamd works on it meanwhile.
async fn after_the_question<T>(made: impl Future<Output = T>) -> T {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    made.await
}

/// What ipamd says unless it is told otherwise (`AWS_VPC_ENI_MTU`). Where it says something else, the link gets that in the end.
const USUAL_MTU: u32 = 9001;

/// Half of them would do as tonic is now; each takes a microsecond.
const TURNS: u32 = 12;

/// The kernel did not do its part, though an address was given.
async fn failed(
    error: &PodError,
    request: &AddRequest,
    settings: &Settings,
    journal: &mut Journal,
) -> Error {
    match error {
        // A link is there, so its address must stay this attachment's: until the DEL that follows a failed
        // ADD, or because another ADD of it came in between.
        PodError::RollBack { .. } | PodError::InterfaceExists(_) => kernel(error),
        _ => give_back(kernel(error), request, settings, journal).await,
    }
}

/// Takes the link away that no address came for.
async fn unmade(error: Error, sides: &Sides<'_>, ends: Ends) -> Error {
    match sides.unmake(ends).await {
        Ok(()) => error,
        Err(stuck) => {
            let stuck = whole(&stuck);
            let details = format!(
                "{}; and its link is left behind until the sandbox is deleted: {stuck}",
                error.details
            );
            Error { details, ..error }
        }
    }
}

/// Wires the link, with a way out to the family that the pod has no address in where that is wanted.
async fn wire(
    sides: &Sides<'_>,
    ends: Ends,
    link: &PodLink,
    settings: &Settings,
    journal: &mut Journal,
) -> Result<PodWiring, PodError> {
    let wiring = sides.wire(ends, link).await?;
    let Some(egress) = settings.egress_for(&link.addresses) else {
        return Ok(wiring);
    };
    match egress::connect(sides, &link.ifname, &wiring, egress).await {
        Ok(address) => {
            journal.debug(format_args!("{egress:?} by the node, as {address}"));
            Ok(wiring)
        }
        Err(failure) => Err(sides.undo(&wiring, failure).await),
    }
}

/// Asks ipamd, and where it is being replaced, the next one: asked again for the same sandbox, it answers the same. An
/// error comes with whether any of them may have given an address.
async fn ask(
    request: &AddRequest,
    settings: &Settings,
    deadline: Instant,
    journal: &mut Journal,
) -> Result<Grant, (CallError, bool)> {
    let spool = Spool::at(settings.spool());
    let mut may_have_given = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = async {
            let mut ipamd = Ipamd::connect(&settings.ipamd_socket, left(deadline)).await?;
            // A release of this same attachment that waits to be replayed would take back what it now gets.
            spool.withdraw(&request.attachment);
            ipamd.add(request, left(deadline)).await
        };
        let error = match answer.await {
            Ok(grant) => return Ok(grant),
            Err(error) => error,
        };
        may_have_given |= error.may_have_given();
        if !error.is_of_a_restart() || left(deadline) <= pause {
            return Err((error, may_have_given));
        }
        journal.debug(format_args!("{error}: waiting for ipamd"));
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between two tries at an ipamd that is away. It starts within a second; a new image takes longer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// From half of it to the whole: all pods of a node may wait for the same ipamd.
fn jittered(pause: Duration) -> Duration {
    // Keyed anew in each process.
    let random = RandomState::new().hash_one(pause);
    let part = u32::try_from(random % 1024).unwrap_or(0);
    pause / 2 + pause * part / 2048
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The interface is there already. If it is exactly what an earlier ADD of this attachment made, this one
/// answers as that one did. Otherwise it is an error (SPEC.md, ADD), and nothing changes: not even an address
/// is asked for unless the attachment holds one.
async fn again(
    request: &AddRequest,
    settings: &Settings,
    netns: &NetNs,
    journal: &mut Journal,
) -> Result<AddResult, Error> {
    let key = &request.attachment;
    let deadline = Instant::now() + settings.add_timeout();
    let mut ipamd = Ipamd::connect(&settings.ipamd_socket, left(deadline)).await?;
    if ipamd.held(key, left(deadline)).await?.is_empty() {
        return Err(interface_exists(request));
    }
    // It holds addresses, so this gives none: it answers what they are, and with which MTU.
    let grant = ipamd.add(request, left(deadline)).await?;
    let link = pod_link(request, settings, grant);
    let found = pod::find(netns, &link).await;
    let mut found = found.map_err(|error| kernel(&error))?;
    if let Some(egress) = settings.egress_for(&link.addresses) {
        let address = egress::find(netns, &link.ifname, egress).await;
        let address = address.map_err(|error| kernel(&error))?;
        found = found.filter(|_| address.is_some());
    }
    match found {
        Some(wiring) => {
            journal.debug("made by an earlier ADD");
            Ok(result(request, &link, &wiring))
        }
        None => Err(interface_exists(request)),
    }
}

async fn give_back(
    error: Error,
    request: &AddRequest,
    settings: &Settings,
    journal: &mut Journal,
) -> Error {
    match release(&request.attachment, settings, journal).await {
        Ok(()) => error,
        Err(stuck) => {
            let details = format!(
                "{}; and its address could not be given back: {stuck}",
                error.details
            );
            Error { details, ..error }
        }
    }
}

fn pod_link(request: &AddRequest, settings: &Settings, grant: Grant) -> PodLink {
    PodLink {
        container_id: request.attachment.container_id().to_owned(),
        ifname: request.attachment.ifname().to_owned(),
        veth_prefix: settings.veth_prefix.clone(),
        alias: pod_name(request),
        addresses: grant.addresses,
        mtu: settings.mtu.unwrap_or(grant.mtu),
    }
}

/// `namespace/name`; the container id where the runtime does not say.
fn pod_name(request: &AddRequest) -> String {
    match (&request.args.pod_namespace, &request.args.pod_name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => request.attachment.container_id().to_owned(),
    }
}

fn result(request: &AddRequest, link: &PodLink, wiring: &PodWiring) -> AddResult {
    let host = Interface {
        name: wiring.host_veth.clone(),
        mac: wiring.host_mac.to_string(),
        mtu: link.mtu,
        sandbox: None,
    };
    let pod = Interface {
        name: link.ifname.clone(),
        mac: wiring.pod_mac.to_string(),
        mtu: link.mtu,
        sandbox: Some(request.netns.clone()),
    };
    let ips = link.addresses.iter().map(|address| IpConfig {
        address: IpNet::from(*address),
        interface: 1,
    });
    let ways_out = [
        Route {
            dst: Ipv4Net::default().into(),
            gw: POD_GATEWAY.into(),
        },
        Route {
            dst: Ipv6Net::default().into(),
            gw: POD_GATEWAY_V6.into(),
        },
    ];
    let has = |gateway: IpAddr| {
        let mut addresses = link.addresses.iter();
        addresses.any(|address| address.is_ipv4() == gateway.is_ipv4())
    };
    AddResult {
        interfaces: vec![host, pod],
        ips: ips.collect(),
        routes: ways_out.into_iter().filter(|route| has(route.gw)).collect(),
    }
}

pub(crate) fn bad_netns(error: &NetNsError) -> Error {
    let remedy = match error {
        NetNsError::Absent(_) => {
            "the runtime makes the namespace before it calls ADD: have it make the sandbox anew"
        }
        NetNsError::Own(_) => {
            "a pod with hostNetwork needs no CNI plugin; for any other the runtime makes a namespace"
        }
        _ => {
            "CNI_NETNS must be a path that a network namespace is mounted at, such as /var/run/netns/NAME"
        }
    };
    Error::new(
        Code::InvalidNetNs,
        whole(error),
        codes::details("INVALID_NETNS", "", remedy),
    )
}

fn interface_exists(request: &AddRequest) -> Error {
    let ifname = request.attachment.ifname();
    Error::new(
        codes::INTERFACE_EXISTS,
        format!(
            "{ifname} exists already in {} and is not what an ADD of this container made",
            request.netns
        ),
        codes::details(
            "INTERFACE_EXISTS",
            "nothing was changed",
            "DEL the container first; if another plugin made the interface, it must not stand before weir-cni in the conflist",
        ),
    )
}

/// A failure of wiring or unwiring, in the kernel's words.
pub(crate) fn kernel(error: &PodError) -> Error {
    match error {
        PodError::InterfaceExists(_) => Error::new(
            codes::INTERFACE_EXISTS,
            whole(error),
            codes::details("INTERFACE_EXISTS", "", "DEL the container first"),
        ),
        _ => Error::new(
            codes::KERNEL,
            whole(error),
            codes::details(
                "KERNEL",
                "the kubelet tries again",
                "read the message: it has the kernel's own reason",
            ),
        ),
    }
}

/// An error with all its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(&format!(": {current}"));
        cause = current.source();
    }
    text
}
