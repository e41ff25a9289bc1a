//! A subnet as a pool of addresses.
//!
//! EC2 keeps the first four addresses and the last of every subnet. Prefixes are /28 blocks, aligned, wholly free
//! when given out.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ids::Dice;

/// Addresses in a delegated prefix.
pub const PREFIX_ADDRESSES: usize = 16;

/// Which free address or block is given out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Any, as EC2 seems to.
    Random,
    /// The lowest.
    Lowest,
    /// The one that spoils the most /28 blocks: the first free address of a wholly free block, when there is one.
    Fragmenting,
}

/// Why an address or block can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not in the subnet.
    Outside,
    /// EC2 keeps it.
    Reserved,
    /// Someone has it, or a part of it.
    Taken,
    /// It is not a /28, or not aligned.
    NotABlock,
}

/// The addresses of a subnet, and which are taken.
#[derive(Clone, Debug)]
pub struct AddressPool {
    cidr: Ipv4Net,
    /// One bit for each address: set when it can't be given out.
    taken: Vec<u64>,
    free: usize,
}

impl AddressPool {
    /// All free but the five that EC2 keeps. `cidr` is /16 to /28, as EC2 has it; a smaller one has nothing free.
    #[must_use]
    pub fn new(cidr: Ipv4Net) -> AddressPool {
        let size = 1_usize << (32 - u32::from(cidr.prefix_len()));
        let mut pool = AddressPool {
            cidr: cidr.trunc(),
            taken: vec![0; size.div_ceil(64)],
            free: size,
        };
        for reserved in [0, 1, 2, 3, size - 1] {
            if reserved < size && !pool.is_taken(reserved) {
                pool.mark(reserved, true);
            }
        }
        pool
    }

    /// The subnet's addresses.
    #[must_use]
    pub fn cidr(&self) -> Ipv4Net {
        self.cidr
    }

    /// EC2's `availableIpAddressCount`.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    /// Takes this address.
    ///
    /// # Errors
    /// When it can't be had; then nothing is taken.
    pub fn take(&mut self, address: Ipv4Addr) -> Result<(), Refusal> {
        let offset = self.offset(address).ok_or(Refusal::Outside)?;
        if self.is_reserved(offset) {
            return Err(Refusal::Reserved);
        }
        if self.is_taken(offset) {
            return Err(Refusal::Taken);
        }
        self.mark(offset, true);
        Ok(())
    }

    /// Takes this /28.
    ///
    /// # Errors
    /// When it can't be had; then nothing is taken.
    pub fn take_block(&mut self, block: Ipv4Net) -> Result<(), Refusal> {
        if block.prefix_len() != 28 || block.trunc() != block {
            return Err(Refusal::NotABlock);
        }
        let first = self.offset(block.network()).ok_or(Refusal::Outside)?;
        let all = first..first + PREFIX_ADDRESSES;
        if all.end > self.size() {
            return Err(Refusal::Outside);
        }
        if all.clone().any(|offset| self.is_reserved(offset)) {
            return Err(Refusal::Reserved);
        }
        if all.clone().any(|offset| self.is_taken(offset)) {
            return Err(Refusal::Taken);
        }
        all.for_each(|offset| self.mark(offset, true));
        Ok(())
    }

    /// Takes any free address.
    pub fn take_any(&mut self, order: Order, dice: &mut Dice) -> Option<Ipv4Addr> {
        if self.free == 0 {
            return None;
        }
        let size = self.size();
        let from = if order == Order::Random {
            dice.below(size)
        } else {
            0
        };
        let any = || {
            (from..size)
                .chain(0..from)
                .find(|offset| !self.is_taken(*offset))
        };
        let chosen = if order == Order::Fragmenting {
            self.free_blocks().next().or_else(any)
        } else {
            any()
        };
        let offset = chosen?;
        self.mark(offset, true);
        Some(self.address(offset))
    }

    /// Takes any aligned /28 that is wholly free.
    pub fn take_any_block(&mut self, order: Order, dice: &mut Dice) -> Option<Ipv4Net> {
        let free: Vec<usize> = self.free_blocks().collect();
        let pick = if order == Order::Random {
            dice.below(free.len())
        } else {
            0
        };
        let first = *free.get(pick)?;
        (first..first + PREFIX_ADDRESSES).for_each(|offset| self.mark(offset, true));
        Ipv4Net::new(self.address(first), 28).ok()
    }

    /// Gives an address back. One that EC2 keeps, or that is free already, stays as it is.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.offset(address)
            && self.is_taken(offset)
            && !self.is_reserved(offset)
        {
            self.mark(offset, false);
        }
    }

    /// Gives a prefix back.
    pub fn give_back_block(&mut self, block: Ipv4Net) {
        let first = u32::from(block.network());
        (first..=u32::from(block.broadcast())).for_each(|a| self.give_back(Ipv4Addr::from(a)));
    }

    /// Whether someone has this address, or EC2 keeps it.
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.offset(address)
            .is_some_and(|offset| self.is_taken(offset))
    }

    /// Addresses in all, with those that EC2 keeps.
    #[must_use]
    pub fn size(&self) -> usize {
        1 << (32 - u32::from(self.cidr.prefix_len()))
    }

    /// Where the wholly free /28 blocks begin, the lowest first.
    fn free_blocks(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.size() / PREFIX_ADDRESSES)
            .map(|block| block * PREFIX_ADDRESSES)
            .filter(|first| {
                // Four blocks share a word, so a block never straddles two.
                let word = self.taken.get(first / 64).copied().unwrap_or(u64::MAX);
                (word >> (first % 64)) & 0xffff == 0
            })
    }

    fn offset(&self, address: Ipv4Addr) -> Option<usize> {
        if !self.cidr.contains(&address) {
            return None;
        }
        usize::try_from(u32::from(address) - u32::from(self.cidr.network())).ok()
    }

    fn address(&self, offset: usize) -> Ipv4Addr {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Ipv4Addr::from(u32::from(self.cidr.network()).saturating_add(offset))
    }

    fn is_reserved(&self, offset: usize) -> bool {
        offset < 4 || offset + 1 == self.size()
    }

    fn is_taken(&self, offset: usize) -> bool {
        self.taken
            .get(offset / 64)
            .is_none_or(|word| (word >> (offset % 64)) & 1 == 1)
    }

    /// Only for an offset whose state changes: the count of free ones follows.
    fn mark(&mut self, offset: usize, taken: bool) {
        if let Some(word) = self.taken.get_mut(offset / 64) {
            if taken {
                *word |= 1 << (offset % 64);
                self.free -= 1;
            } else {
                *word &= !(1 << (offset % 64));
                self.free += 1;
            }
        }
    }
}
