//! IPv6 addresses and prefixes of subnets: taken and given back.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::{Ask, World};
use crate::error::{Ec2Error, Result};
use crate::ids::SubnetId;
use crate::subnet::Refusal;
use crate::subnet6::Ipv6Pool;

/// Single addresses, and prefixes.
type Taken = (Vec<Ipv6Addr>, Vec<Ipv6Net>);

impl World {
    /// Takes what is asked for: all or none.
    pub(crate) fn take_ipv6(
        &mut self,
        id: &SubnetId,
        ask: Ask<Ipv6Addr, Ipv6Net>,
    ) -> Result<Taken> {
        if ask.slots() == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        let Some(pool) = &mut subnet.ipv6 else {
            return Err(Ec2Error::invalid(format!(
                "The subnet '{id}' does not have an IPv6 CIDR block associated with it."
            )));
        };
        let (order, dice) = (self.config.order, &mut self.dice);
        let mut taken = (Vec::new(), Vec::new());
        let refused = match ask {
            Ask::Addresses(asked) => asked.into_iter().find_map(|address| {
                let refusal = pool.take(address).err();
                if refusal.is_none() {
                    taken.0.push(address);
                }
                refusal.map(|refusal| refused_address(address, refusal))
            }),
            Ask::Prefixes(asked) => asked.into_iter().find_map(|prefix| {
                let refusal = pool.take_block(prefix).err();
                if refusal.is_none() {
                    taken.1.push(prefix);
                }
                refusal.map(|refusal| refused_prefix(prefix, refusal))
            }),
            Ask::AddressCount(count) => (0..count).find_map(|_| {
                let any = pool.take_any(order, dice);
                any.map(|address| taken.0.push(address))
                    .is_none()
                    .then(Ec2Error::no_free_addresses)
            }),
            Ask::PrefixCount(count) => (0..count).find_map(|_| {
                let any = pool.take_any_block(order, dice);
                any.map(|prefix| taken.1.push(prefix))
                    .is_none()
                    .then(Ec2Error::no_free_blocks)
            }),
        };
        match refused {
            None => Ok(taken),
            Some(error) => {
                give_back(pool, &taken.0, &taken.1);
                Err(error)
            }
        }
    }

    pub(crate) fn give_back_ipv6(
        &mut self,
        id: &SubnetId,
        addresses: &[Ipv6Addr],
        prefixes: &[Ipv6Net],
    ) {
        if let Some(pool) = self.subnets.get_mut(id).and_then(|s| s.ipv6.as_mut()) {
            give_back(pool, addresses, prefixes);
        }
    }
}

fn give_back(pool: &mut Ipv6Pool, addresses: &[Ipv6Addr], prefixes: &[Ipv6Net]) {
    for address in addresses {
        pool.give_back(*address);
    }
    for prefix in prefixes {
        pool.give_back_block(*prefix);
    }
}

fn refused_address(address: Ipv6Addr, refusal: Refusal) -> Ec2Error {
    match refusal {
        Refusal::Taken => Ec2Error::client(
            "InvalidIPAddress.InUse",
            "The specified address is already in use.",
        ),
        Refusal::Reserved => Ec2Error::invalid(format!(
            "Address {address} is in subnet's reserved address range"
        )),
        Refusal::Outside | Refusal::NotABlock => Ec2Error::invalid(format!(
            "Address {address} does not fall within the subnet's address range"
        )),
    }
}

fn refused_prefix(prefix: Ipv6Net, refusal: Refusal) -> Ec2Error {
    Ec2Error::invalid(match refusal {
        Refusal::NotABlock => {
            let why = "The prefix must be a /80 and its last 48 bits zero.";
            return Ec2Error::value(prefix, "Ipv6Prefix", why);
        }
        Refusal::Taken => format!("The prefix {prefix} has addresses that are already in use."),
        Refusal::Reserved => {
            format!("The prefix {prefix} has addresses in subnet's reserved address range")
        }
        Refusal::Outside => {
            format!("The prefix {prefix} does not fall within the subnet's address range")
        }
    })
}
