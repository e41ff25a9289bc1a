//! The Services of the tests: one backend each, so that it is known who answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The cluster's addresses of Services, outside the VPC as everywhere on EKS.
pub(crate) const SERVICES_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 20, 0, 0), 16);
pub(crate) const SERVICES_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);

/// Where backends listen.
pub(crate) const TARGET_PORT: u16 = 8080;
/// The port of each Service on its ClusterIP.
pub(crate) const PORT: u16 = 80;

/// Which pod serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// On this node, with an IPv4 address of its primary ENI.
    Primary,
    /// On this node, with an IPv4 address of its second ENI.
    Secondary,
    /// On the other node.
    Remote,
}

/// A Service of type NodePort in both families.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) backend: Backend,
    /// `externalTrafficPolicy: Local`.
    pub(crate) local: bool,
    /// Its place in the ranges of addresses and ports.
    number: u8,
}

pub(crate) const SERVICES: [Service; 5] = [
    service("primary", Backend::Primary, false, 10),
    service("secondary", Backend::Secondary, false, 11),
    service("remote", Backend::Remote, false, 12),
    service("primary-local", Backend::Primary, true, 13),
    service("secondary-local", Backend::Secondary, true, 14),
];

const fn service(name: &'static str, backend: Backend, local: bool, number: u8) -> Service {
    Service {
        name,
        backend,
        local,
        number,
    }
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Service {
    pub(crate) fn cluster_ip(&self, family: Family) -> IpAddr {
        let number = self.number;
        match family {
            Family::V4 => {
                let base = u32::from(SERVICES_V4.addr());
                Ipv4Addr::from(base + u32::from(number)).into()
            }
            Family::V6 => {
                let base = u128::from(SERVICES_V6.addr());
                Ipv6Addr::from(base + u128::from(number)).into()
            }
        }
    }

    pub(crate) fn node_port(&self) -> u16 {
        30080 + u16::from(self.number)
    }
}
