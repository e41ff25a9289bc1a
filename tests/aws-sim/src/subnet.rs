//! A subnet as a pool of addresses.
//!
//! EC2 keeps the first four addresses and the last of every subnet. Prefixes are /28 blocks, aligned, wholly free
//! when given out.

use std::net::Ipv4Addr;
use std::ops::Range;

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
    /// One bit for each address: set when it is in a reservation.
    set_aside: Vec<u64>,
    /// What is set aside for prefixes.
    for_prefixes: Vec<Ipv4Net>,
    /// Addresses that are not taken.
    free: usize,
    /// Addresses that are neither taken nor set aside.
    open: usize,
}

impl AddressPool {
    /// All free but the five that EC2 keeps. `cidr` is /16 to /28, as EC2 has it; a smaller one has nothing free.
    #[must_use]
    pub fn new(cidr: Ipv4Net) -> AddressPool {
        let size = 1_usize << (32 - u32::from(cidr.prefix_len()));
        let words = size.div_ceil(64);
        let mut pool = AddressPool {
            cidr: cidr.trunc(),
            // What is behind the end of a small subnet is never free.
            taken: (0..words)
                .map(|word| !bits_within(word, &(0..size)))
                .collect(),
            set_aside: vec![0; words],
            for_prefixes: Vec::new(),
            free: size,
            open: size,
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

    /// Addresses that someone can have, by name if not by number.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    /// Free addresses that are in no reservation: what there is for who asks for a number.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Sets a part aside: from now on nothing in it is given out but by name, or as prefixes if it is `for_prefixes`.
    /// It may have addresses that are taken. Parts don't overlap.
    pub fn set_aside(&mut self, part: Ipv4Net, for_prefixes: bool) {
        if for_prefixes {
            self.for_prefixes.push(part);
        }
        self.aside(part, true);
    }

    /// Takes [`AddressPool::set_aside`] back. What is taken stays so.
    pub fn open_again(&mut self, part: Ipv4Net) {
        self.for_prefixes.retain(|known| *known != part);
        self.aside(part, false);
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
        let all = self.offsets(block).ok_or(Refusal::Outside)?;
        if all.clone().any(|offset| self.is_reserved(offset)) {
            return Err(Refusal::Reserved);
        }
        if all.clone().any(|offset| self.is_taken(offset)) {
            return Err(Refusal::Taken);
        }
        all.for_each(|offset| self.mark(offset, true));
        Ok(())
    }

    /// Takes any free address that is not set aside.
    pub fn take_any(&mut self, order: Order, dice: &mut Dice) -> Option<Ipv4Addr> {
        if self.open == 0 {
            return None;
        }
        let size = self.size();
        let from = if order == Order::Random {
            dice.below(size)
        } else {
            0
        };
        let any = || {
            self.first_open(from..size)
                .or_else(|| self.first_open(0..from))
        };
        let offset = if order == Order::Fragmenting {
            let blocks = FreeBlocks::open(self);
            blocks.nth(0).or_else(any)
        } else {
            any()
        }?;
        self.mark(offset, true);
        Some(self.address(offset))
    }

    /// Takes any aligned /28 that is wholly free: of a part that is set aside for prefixes, while one has any, else
    /// of what is not set aside.
    pub fn take_any_block(&mut self, order: Order, dice: &mut Dice) -> Option<Ipv4Net> {
        let mut pick = |count: usize| match order {
            Order::Random => dice.below(count),
            Order::Lowest | Order::Fragmenting => 0,
        };
        let parts = self.for_prefixes.iter();
        let parts: Vec<FreeBlocks<'_>> = parts
            .filter_map(|part| FreeBlocks::of_part(self, *part))
            .filter(|blocks| blocks.count() > 0)
            .collect();
        let first = match parts.get(pick(parts.len())) {
            Some(blocks) => blocks.nth(pick(blocks.count())),
            None => {
                let blocks = FreeBlocks::open(self);
                blocks.nth(pick(blocks.count()))
            }
        }?;
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

    /// Whether the counts are those of the bits.
    pub(crate) fn counts_right(&self) -> bool {
        let free = self.taken.iter().map(|taken| ones(!taken)).sum();
        let words = self.taken.iter().zip(&self.set_aside);
        let open = words.map(|(taken, aside)| ones(!(taken | aside))).sum();
        (self.free, self.open) == (free, open)
    }

    fn aside(&mut self, part: Ipv4Net, aside: bool) {
        for offset in self.offsets(part).unwrap_or_default() {
            if !self.is_taken(offset) {
                self.open = self.open + usize::from(!aside) - usize::from(aside);
            }
            set_bit(&mut self.set_aside, offset, aside);
        }
    }

    /// The first address in a range that is neither taken nor set aside.
    fn first_open(&self, range: Range<usize>) -> Option<usize> {
        let words = self.taken.iter().zip(&self.set_aside).enumerate();
        let mut words = words.take(range.end.div_ceil(64)).skip(range.start / 64);
        words.find_map(|(word, (taken, aside))| {
            let open = !(taken | aside) & bits_within(word, &range);
            (open != 0).then(|| word * 64 + lowest(open))
        })
    }

    fn offset(&self, address: Ipv4Addr) -> Option<usize> {
        if !self.cidr.contains(&address) {
            return None;
        }
        usize::try_from(u32::from(address) - u32::from(self.cidr.network())).ok()
    }

    /// Of a part of the subnet; `None` when it is not.
    fn offsets(&self, part: Ipv4Net) -> Option<Range<usize>> {
        let last = self.offset(part.broadcast())?;
        Some(self.offset(part.network())?..last + 1)
    }

    fn address(&self, offset: usize) -> Ipv4Addr {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Ipv4Addr::from(u32::from(self.cidr.network()).saturating_add(offset))
    }

    fn is_reserved(&self, offset: usize) -> bool {
        offset < 4 || offset + 1 == self.size()
    }

    fn is_taken(&self, offset: usize) -> bool {
        bit(&self.taken, offset)
    }

    /// Only for an offset whose state changes: the counts follow.
    fn mark(&mut self, offset: usize, taken: bool) {
        let open = usize::from(!bit(&self.set_aside, offset));
        if taken {
            self.free -= 1;
            self.open -= open;
        } else {
            self.free += 1;
            self.open += open;
        }
        set_bit(&mut self.taken, offset, taken);
    }
}

/// The wholly free /28 blocks of a range, in order. A word of 64 addresses has four, and no block is in two words.
struct FreeBlocks<'a> {
    pool: &'a AddressPool,
    range: Range<usize>,
    /// Whether what is set aside counts as free.
    of_part: bool,
}

impl FreeBlocks<'_> {
    /// Those that are not set aside.
    fn open(pool: &AddressPool) -> FreeBlocks<'_> {
        FreeBlocks {
            pool,
            range: 0..pool.size(),
            of_part: false,
        }
    }

    /// Those of a part that is set aside; `None` if it is too small for one.
    fn of_part(pool: &AddressPool, part: Ipv4Net) -> Option<FreeBlocks<'_>> {
        let range = pool
            .offsets(part)
            .filter(|range| range.len() >= PREFIX_ADDRESSES)?;
        Some(FreeBlocks {
            pool,
            range,
            of_part: true,
        })
    }

    fn count(&self) -> usize {
        self.words().map(|(_, starts)| ones(starts)).sum()
    }

    /// Where the nth begins.
    fn nth(&self, mut nth: usize) -> Option<usize> {
        for (word, mut starts) in self.words() {
            if nth >= ones(starts) {
                nth -= ones(starts);
                continue;
            }
            for _ in 0..nth {
                starts &= starts - 1;
            }
            return Some(word * 64 + lowest(starts));
        }
        None
    }

    /// The words of the range, each with a bit where a free block begins.
    fn words(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let words = self.pool.taken.iter().zip(&self.pool.set_aside).enumerate();
        let words = words
            .take(self.range.end.div_ceil(64))
            .skip(self.range.start / 64);
        words.map(|(word, (taken, aside))| {
            let mut used = if self.of_part { *taken } else { taken | aside };
            // Each bit becomes the union of itself and the fifteen above it.
            for shift in [8, 4, 2, 1] {
                used |= used >> shift;
            }
            (
                word,
                !used & 0x0001_0001_0001_0001 & bits_within(word, &self.range),
            )
        })
    }
}

/// The bits of a word whose addresses are in the range.
fn bits_within(word: usize, range: &Range<usize>) -> u64 {
    let below = |offset: usize| match offset.saturating_sub(word * 64) {
        bits @ 0..64 => (1_u64 << bits) - 1,
        _ => u64::MAX,
    };
    below(range.end) & !below(range.start)
}

fn bit(words: &[u64], offset: usize) -> bool {
    words
        .get(offset / 64)
        .is_none_or(|word| (word >> (offset % 64)) & 1 == 1)
}

fn set_bit(words: &mut [u64], offset: usize, on: bool) {
    if let Some(word) = words.get_mut(offset / 64) {
        let bit = 1 << (offset % 64);
        *word = if on { *word | bit } else { *word & !bit };
    }
}

fn ones(word: u64) -> usize {
    usize::try_from(word.count_ones()).unwrap_or(64)
}

fn lowest(word: u64) -> usize {
    usize::try_from(word.trailing_zeros()).unwrap_or(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a block that is free begins, found slowly.
    fn free_blocks(pool: &AddressPool, part: Option<Ipv4Net>) -> Vec<usize> {
        let free = |offset: usize| {
            let aside = bit(&pool.set_aside, offset);
            !pool.is_taken(offset)
                && match part.and_then(|part| pool.offsets(part)) {
                    Some(part) => part.contains(&offset),
                    None => !aside,
                }
        };
        let starts = (0..pool.size()).step_by(PREFIX_ADDRESSES);
        starts
            .filter(|first| (*first..first + 16).all(free))
            .collect()
    }

    #[test]
    fn blocks_and_addresses_are_found_as_a_slow_search_finds_them() {
        let mut dice = Dice::new(3);
        for length in [22, 24, 25, 26, 27, 28] {
            let subnet = Ipv4Net::new("10.0.0.0".parse().unwrap(), length).unwrap();
            let mut pool = AddressPool::new(subnet);
            let part = subnet.subnets(28.min(length + 2)).unwrap().last().unwrap();
            pool.set_aside(part, true);
            while pool.take_any(Order::Random, &mut dice).is_some() {
                if dice.below(20) == 0 {
                    let block = pool.take_any_block(Order::Random, &mut dice);
                    block.into_iter().for_each(|block| {
                        assert!(
                            free_blocks(&pool, None)
                                .iter()
                                .all(|first| pool.address(*first) != block.addr())
                        );
                    });
                }
                for (found, slow) in [
                    (FreeBlocks::open(&pool), free_blocks(&pool, None)),
                    (
                        FreeBlocks::of_part(&pool, part).unwrap(),
                        free_blocks(&pool, Some(part)),
                    ),
                ] {
                    assert_eq!(found.count(), slow.len());
                    let all: Vec<usize> =
                        (0..slow.len()).filter_map(|nth| found.nth(nth)).collect();
                    assert_eq!(all, slow);
                    assert_eq!(found.nth(slow.len()), None);
                }
                let open =
                    (0..pool.size()).filter(|o| !pool.is_taken(*o) && !bit(&pool.set_aside, *o));
                assert_eq!(pool.open(), open.clone().count());
                assert_eq!(pool.first_open(0..pool.size()), open.clone().next());
            }
            assert_eq!(pool.open(), 0);
        }
    }

    #[test]
    fn nothing_of_a_part_that_is_set_aside_is_given_to_who_asks_for_a_number() {
        let mut dice = Dice::new(1);
        let mut pool = AddressPool::new("10.0.0.0/24".parse().unwrap());
        let part: Ipv4Net = "10.0.0.128/25".parse().unwrap();
        pool.set_aside(part, false);
        assert_eq!((pool.free(), pool.open()), (251, 124));
        let mut given = Vec::new();
        given.extend(std::iter::from_fn(|| {
            pool.take_any(Order::Random, &mut dice)
        }));
        assert_eq!(given.len(), 124);
        assert!(given.iter().all(|address| !part.contains(address)));
        assert!(pool.take_any_block(Order::Random, &mut dice).is_none());
        pool.take(part.network()).unwrap();
        pool.open_again(part);
        assert_eq!((pool.free(), pool.open()), (126, 126));
        assert!(pool.take_any_block(Order::Lowest, &mut dice).is_some());
    }
}
