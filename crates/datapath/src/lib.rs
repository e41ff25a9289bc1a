//! The kernel's side of Weir: links, addresses, routes, rules, neighbours and the nftables table.
//!
//! [`pod`] wires one pod and unwires it; the CNI binary calls it. [`Host`] keeps what the pods of a node
//! share; ipamd calls it. All of it speaks netlink: nothing is executed, every call has a deadline, and an
//! error carries the kernel's own words. [`layout`] holds the numbers that the two sides agree on.
//!
//! All functions need CAP_NET_ADMIN in the current network namespace and run inside a tokio runtime with
//! I/O and time enabled.

mod conntrack;
mod events;
pub mod host;
pub mod layout;
mod netlink;
pub mod netns;
mod nft;
pub mod pod;
mod rtnl;
mod sysctl;

pub use events::{Events, Heard};
pub use host::{
    EgressPlan, EniPlan, EniSlots, Fault, Host, HostError, NodePlan, Part, PodPlan, Snat,
    SourcePorts, Turn, Wanted,
};
pub use layout::{Mac, Place};
pub use netlink::KernelError;
pub use netns::{NetNs, NetNsError};
pub use sysctl::SysctlError;
