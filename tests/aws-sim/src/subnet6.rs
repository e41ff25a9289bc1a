//! A subnet's IPv6 block as a pool of addresses and /80 prefixes.

use ipnet::Ipv6Net;

/// The addresses of a /64, and which are taken.
#[derive(Clone, Debug)]
pub struct Ipv6Pool {
    cidr: Ipv6Net,
}

impl Ipv6Pool {
    /// All free but those that EC2 keeps. `cidr` is a /64, as EC2 has it.
    #[must_use]
    pub fn new(cidr: Ipv6Net) -> Ipv6Pool {
        Ipv6Pool { cidr: cidr.trunc() }
    }

    /// The subnet's IPv6 addresses.
    #[must_use]
    pub fn cidr(&self) -> Ipv6Net {
        self.cidr
    }
}
