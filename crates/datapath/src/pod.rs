//! One pod's link: made in one go, gone with one link.

use std::net::Ipv4Addr;

use crate::layout::Mac;
use crate::netns::NetNs;

/// The link to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// The sandbox's id (`CNI_CONTAINERID`).
    pub container_id: String,
    /// The interface's name in the pod (`CNI_IFNAME`).
    pub ifname: String,
    /// The alias of the host's end, for people: `namespace/name` of the pod. Cut at the kernel's 255 bytes.
    pub alias: String,
    /// The pod's addresses, at least one, each a /32. The first is the source of what the pod sends.
    pub addresses: Vec<Ipv4Addr>,
    /// The MTU of both ends, in bytes.
    pub mtu: u32,
}

/// The link that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodWiring {
    /// The name of the host's end.
    pub host_veth: String,
    /// The MAC of the host's end.
    pub host_mac: Mac,
    /// The MAC of the pod's end.
    pub pod_mac: Mac,
}

/// Why a pod could not be wired or unwired. After an error of [`connect`] nothing of it is left, unless the
/// error is [`PodError::RollBack`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// The pod has an interface of this name already. Nothing was changed.
    #[error(
        "interface {0} exists already in the pod's network namespace: delete the sandbox first"
    )]
    InterfaceExists(String),
    /// No address was given.
    #[error("the pod has no address: at least one is needed")]
    NoAddress,
}

/// Wires a pod: a veth whose pod end is born in `netns`, the pod's addresses, routes and neighbour in it,
/// and a route and a neighbour for each address on the host. On failure nothing is left.
///
/// # Errors
/// When the interface exists already, or the kernel refuses a step: the error says which.
pub async fn connect(netns: &NetNs, link: &PodLink) -> Result<PodWiring, PodError> {
    let _ = (netns, link);
    todo!()
}

/// Unwires a pod by deleting the host's end of its link; routes and neighbours go with it. Needs no network
/// namespace. Returns whether there was such a link.
///
/// # Errors
/// When the kernel refuses.
pub async fn disconnect(container_id: &str, ifname: &str) -> Result<bool, PodError> {
    let _ = (container_id, ifname);
    todo!()
}
