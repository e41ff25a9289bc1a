//! Taking addresses and prefixes out of subnets, and giving them back.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::error::{Ec2Error, Result};
use crate::ids::SubnetId;
use crate::subnet::Refusal;
use crate::world::{Ask, World};

impl World {
    /// Takes this address of a subnet.
    pub(crate) fn take_address(&mut self, id: &SubnetId, address: Ipv4Addr) -> Result<Ipv4Addr> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        match subnet.pool.take(address) {
            Ok(()) => Ok(address),
            Err(Refusal::Taken) => Err(Ec2Error::client(
                "InvalidIPAddress.InUse",
                "The specified address is already in use.",
            )),
            Err(Refusal::Reserved) => Err(Ec2Error::invalid(
                "Address is in subnet's reserved address range",
            )),
            Err(Refusal::Outside | Refusal::NotABlock) => Err(Ec2Error::invalid(
                "Address does not fall within the subnet's address range",
            )),
        }
    }

    /// Takes this /28 of a subnet.
    pub(crate) fn take_prefix(&mut self, id: &SubnetId, prefix: Ipv4Net) -> Result<Ipv4Net> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        let message = match subnet.pool.take_block(prefix) {
            Ok(()) => return Ok(prefix),
            Err(Refusal::NotABlock) => {
                let why = "The prefix must be a /28 and begin on a multiple of 16.";
                return Err(Ec2Error::value(prefix, "Ipv4Prefix", why));
            }
            Err(Refusal::Taken) => {
                format!("The prefix {prefix} has addresses that are already in use.")
            }
            Err(Refusal::Reserved) => {
                format!("The prefix {prefix} has addresses in subnet's reserved address range")
            }
            Err(Refusal::Outside) => {
                format!("The prefix {prefix} does not fall within the subnet's address range")
            }
        };
        Err(Ec2Error::invalid(message))
    }

    /// Takes so many addresses of a subnet: all or none.
    pub(crate) fn take_addresses(&mut self, id: &SubnetId, count: usize) -> Result<Vec<Ipv4Addr>> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        if subnet.pool.open() < count {
            return Err(if self.config.vague_subnet_errors {
                Ec2Error::vaguely_insufficient()
            } else {
                Ec2Error::no_free_addresses()
            });
        }
        let (order, dice) = (self.config.order, &mut self.dice);
        Ok((0..count)
            .filter_map(|_| subnet.pool.take_any(order, dice))
            .collect())
    }

    /// Takes so many prefixes of a subnet: all or none.
    pub(crate) fn take_prefixes(&mut self, id: &SubnetId, count: usize) -> Result<Vec<Ipv4Net>> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        let (order, dice) = (self.config.order, &mut self.dice);
        let mut taken = Vec::new();
        while taken.len() < count {
            if let Some(prefix) = subnet.pool.take_any_block(order, dice) {
                taken.push(prefix);
                continue;
            }
            taken
                .into_iter()
                .for_each(|prefix| subnet.pool.give_back_block(prefix));
            return Err(if self.config.vague_subnet_errors {
                Ec2Error::vaguely_insufficient()
            } else {
                Ec2Error::no_free_blocks()
            });
        }
        Ok(taken)
    }

    pub(crate) fn give_back(
        &mut self,
        id: &SubnetId,
        addresses: &[Ipv4Addr],
        prefixes: &[Ipv4Net],
    ) {
        if let Some(subnet) = self.subnets.get_mut(id) {
            addresses
                .iter()
                .for_each(|address| subnet.pool.give_back(*address));
            prefixes
                .iter()
                .for_each(|prefix| subnet.pool.give_back_block(*prefix));
        }
    }

    /// Takes what is asked for: all or none.
    pub(crate) fn take(
        &mut self,
        id: &SubnetId,
        ask: Ask<Ipv4Addr, Ipv4Net>,
    ) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>)> {
        let mut taken = (Vec::new(), Vec::new());
        let refused = match ask {
            Ask::AddressCount(count) => return Ok((self.take_addresses(id, count)?, Vec::new())),
            Ask::PrefixCount(count) => return Ok((Vec::new(), self.take_prefixes(id, count)?)),
            Ask::Addresses(asked) => asked.into_iter().find_map(|address| {
                let address = self.take_address(id, address);
                address.map(|address| taken.0.push(address)).err()
            }),
            Ask::Prefixes(asked) => asked.into_iter().find_map(|prefix| {
                let prefix = self.take_prefix(id, prefix);
                prefix.map(|prefix| taken.1.push(prefix)).err()
            }),
        };
        match refused {
            None => Ok(taken),
            Some(error) => {
                self.give_back(id, &taken.0, &taken.1);
                Err(error)
            }
        }
    }
}
