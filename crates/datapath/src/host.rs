//! What the pods of a node share: forwarding, rules, ENIs, held addresses and the nftables table.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::layout::Mac;

/// The node as it is to be before the first pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// The MAC of the primary ENI.
    pub primary_mac: Mac,
    /// The primary address of the primary ENI: what leaves the VPC is translated to it.
    pub primary_address: Ipv4Addr,
    /// The VPC's CIDRs, and others not to translate for. May overlap.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// All addresses that the node holds for pods, per ENI. Complete: a hold that it does not name goes.
    pub held: Vec<EniAddresses>,
}

/// The addresses that one ENI holds for pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniAddresses {
    /// The ENI's device index on the instance; 0 is the primary ENI.
    pub device_index: u32,
    /// Its secondary addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// A secondary ENI as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniPlan {
    /// Its MAC: the only thing that EC2 and the kernel both know it by.
    pub mac: Mac,
    /// Its device index on the instance, at least 1.
    pub device_index: u32,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// The CIDR of its subnet; the VPC's router is the subnet's base address + 1.
    pub subnet: Ipv4Net,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Why the node could not be brought into shape.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No link with this MAC came up in time.
    #[error(
        "no link has the MAC {mac} after {waited:?}: the ENI is not attached, or its driver has not shown it"
    )]
    LinkMissing {
        /// The ENI's MAC.
        mac: Mac,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// The current network namespace, as ipamd changes it. Its methods may be called at the same time.
#[derive(Debug)]
pub struct Host {}

impl Host {
    /// Opens netlink sockets in the current network namespace. Inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, HostError> {
        todo!()
    }

    /// Brings the node into shape: forwarding, `rp_filter` of the primary ENI, rules 512 and 1024, the holds
    /// in `node.held`, and our nftables table in one transaction. What is right already is left alone.
    ///
    /// # Errors
    /// When the primary ENI is not there, or the kernel refuses a step.
    pub async fn prepare(&self, node: &NodePlan) -> Result<(), HostError> {
        let _ = node;
        todo!()
    }

    /// Sets up a secondary ENI: waits for its link until `deadline`, then MTU, up, `rp_filter` 2, its
    /// primary address, its table and its rules. What is right already is left alone.
    ///
    /// # Errors
    /// When the link does not come, or the kernel refuses a step.
    pub async fn set_up_eni(&self, eni: &EniPlan, deadline: Duration) -> Result<(), HostError> {
        let _ = (eni, deadline);
        todo!()
    }

    /// Takes addresses into service: `unreachable` until a pod has them, and on a secondary ENI the mark that
    /// sends what they send out by it. Repeats are harmless.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn hold(&self, device_index: u32, addresses: &[Ipv4Addr]) -> Result<(), HostError> {
        let _ = (device_index, addresses);
        todo!()
    }

    /// The opposite of [`Host::hold`]. Repeats are harmless.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn release(
        &self,
        device_index: u32,
        addresses: &[Ipv4Addr],
    ) -> Result<(), HostError> {
        let _ = (device_index, addresses);
        todo!()
    }
}
