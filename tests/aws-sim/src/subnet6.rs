//! A subnet's IPv6 block as a pool of addresses and /80 prefixes.
//!
//! EC2 keeps the first four addresses and the last of every subnet, as with IPv4. Prefixes are /80 blocks, aligned,
//! wholly free when given out. The pool remembers only what is taken: a /64 has more addresses than can be marked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::ids::Dice;
use crate::subnet::{Order, Refusal};

/// The length of a delegated prefix.
pub const PREFIX_LENGTH: u8 = 80;

/// The bits of an address within its /80.
const HOST_BITS: u32 = 48;
const HOSTS: u64 = 1 << HOST_BITS;

/// The addresses of a subnet's IPv6 block, and which are taken.
#[derive(Clone, Debug)]
pub struct Ipv6Pool {
    cidr: Ipv6Net,
    /// What is not wholly free, by the number of the /80 in the subnet.
    taken: BTreeMap<u64, Taken>,
    /// Below it no address is free: where the search for the lowest begins.
    lowest: (u64, u64),
    /// Below it no /80 is wholly free.
    lowest_block: u64,
}

/// What of one /80 is taken.
#[derive(Clone, Debug)]
enum Taken {
    /// All of it, as a prefix.
    Whole,
    /// Single addresses, by their last 48 bits; at least one.
    Some(BTreeSet<u64>),
}

impl Ipv6Pool {
    /// All free but the five that EC2 keeps. `cidr` is a /44 to /64, as EC2 has it; one longer than /79 has no
    /// prefix to give.
    #[must_use]
    pub fn new(cidr: Ipv6Net) -> Ipv6Pool {
        Ipv6Pool {
            cidr: cidr.trunc(),
            taken: BTreeMap::new(),
            lowest: (0, 4),
            lowest_block: 1,
        }
    }

    /// The subnet's IPv6 addresses.
    #[must_use]
    pub fn cidr(&self) -> Ipv6Net {
        self.cidr
    }

    /// Takes this address.
    ///
    /// # Errors
    /// When it can't be had; then nothing is taken.
    pub fn take(&mut self, address: Ipv6Addr) -> Result<(), Refusal> {
        let place = self.place(address).ok_or(Refusal::Outside)?;
        if self.is_reserved(place) {
            return Err(Refusal::Reserved);
        }
        if self.is_taken(place) {
            return Err(Refusal::Taken);
        }
        self.mark(place);
        Ok(())
    }

    /// Takes this /80.
    ///
    /// # Errors
    /// When it can't be had; then nothing is taken.
    pub fn take_block(&mut self, prefix: Ipv6Net) -> Result<(), Refusal> {
        if prefix.prefix_len() != PREFIX_LENGTH || prefix.trunc() != prefix {
            return Err(Refusal::NotABlock);
        }
        let (block, _) = self.place(prefix.network()).ok_or(Refusal::Outside)?;
        if block == 0 || block + 1 >= self.blocks() {
            return Err(Refusal::Reserved);
        }
        if self.taken.contains_key(&block) {
            return Err(Refusal::Taken);
        }
        self.taken.insert(block, Taken::Whole);
        Ok(())
    }

    /// Takes any free address.
    pub fn take_any(&mut self, order: Order, dice: &mut Dice) -> Option<Ipv6Addr> {
        let place = match order {
            Order::Lowest => {
                let lowest = self.free_from(self.lowest)?;
                self.lowest = lowest;
                lowest
            }
            Order::Random => {
                let from = (dice.roll() % self.blocks(), dice.roll() % HOSTS);
                self.free_from(from).or_else(|| self.free_from((0, 4)))?
            }
            Order::Fragmenting => match self.free_block_from(self.lowest_block) {
                Some(block) => {
                    self.lowest_block = block;
                    (block, 0)
                }
                None => self.free_from(self.lowest)?,
            },
        };
        self.mark(place);
        Some(self.address(place))
    }

    /// Takes any aligned /80 that is wholly free.
    pub fn take_any_block(&mut self, order: Order, dice: &mut Dice) -> Option<Ipv6Net> {
        let block = if order == Order::Random {
            let from = dice.roll() % self.blocks();
            let after = self.free_block_from(from.max(1));
            after.or_else(|| self.free_block_from(self.lowest_block))?
        } else {
            let lowest = self.free_block_from(self.lowest_block)?;
            self.lowest_block = lowest;
            lowest
        };
        self.taken.insert(block, Taken::Whole);
        Ipv6Net::new(self.address((block, 0)), PREFIX_LENGTH).ok()
    }

    /// Gives an address back. One that nobody took alone stays as it is.
    pub fn give_back(&mut self, address: Ipv6Addr) {
        let Some((block, host)) = self.place(address) else {
            return;
        };
        if let Some(Taken::Some(hosts)) = self.taken.get_mut(&block)
            && hosts.remove(&host)
        {
            self.lowest = self.lowest.min((block, host));
            if hosts.is_empty() {
                self.free_block(block);
            }
        }
    }

    /// Gives a prefix back. One that nobody took stays as it is.
    pub fn give_back_block(&mut self, prefix: Ipv6Net) {
        if let Some((block, 0)) = self.place(prefix.network())
            && matches!(self.taken.get(&block), Some(Taken::Whole))
        {
            self.lowest = self.lowest.min((block, 0));
            self.free_block(block);
        }
    }

    /// Whether someone has this address, alone or in a prefix, or EC2 keeps it.
    #[must_use]
    pub fn holds(&self, address: Ipv6Addr) -> bool {
        self.place(address)
            .is_some_and(|place| self.is_reserved(place) || self.is_taken(place))
    }

    /// How many single addresses and how many prefixes are taken.
    #[must_use]
    pub fn taken(&self) -> (usize, usize) {
        let counts = self.taken.values().map(|taken| match taken {
            Taken::Whole => (0, 1),
            Taken::Some(hosts) => (hosts.len(), 0),
        });
        counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// How many /80s there are; at least one.
    fn blocks(&self) -> u64 {
        1 << PREFIX_LENGTH.saturating_sub(self.cidr.prefix_len()).min(63)
    }

    fn place(&self, address: Ipv6Addr) -> Option<(u64, u64)> {
        if !self.cidr.contains(&address) {
            return None;
        }
        let offset = u128::from(address) - u128::from(self.cidr.network());
        let block = u64::try_from(offset >> HOST_BITS).ok()?;
        let host = u64::try_from(offset % u128::from(HOSTS)).ok()?;
        Some((block, host))
    }

    fn address(&self, (block, host): (u64, u64)) -> Ipv6Addr {
        let offset = (u128::from(block) << HOST_BITS) + u128::from(host);
        Ipv6Addr::from(u128::from(self.cidr.network()) + offset)
    }

    fn is_reserved(&self, (block, host): (u64, u64)) -> bool {
        let last = u128::from(self.cidr.broadcast());
        (block == 0 && host < 4) || u128::from(self.address((block, host))) == last
    }

    fn is_taken(&self, (block, host): (u64, u64)) -> bool {
        match self.taken.get(&block) {
            None => false,
            Some(Taken::Whole) => true,
            Some(Taken::Some(hosts)) => hosts.contains(&host),
        }
    }

    /// Only for an address that is free.
    fn mark(&mut self, (block, host): (u64, u64)) {
        let taken = self.taken.entry(block);
        if let Taken::Some(hosts) = taken.or_insert_with(|| Taken::Some(BTreeSet::new())) {
            hosts.insert(host);
        }
    }

    fn free_block(&mut self, block: u64) {
        self.taken.remove(&block);
        if block > 0 {
            self.lowest_block = self.lowest_block.min(block);
        }
    }

    /// The first free address at or after this place.
    fn free_from(&self, from: (u64, u64)) -> Option<(u64, u64)> {
        let mut place = from;
        while place.0 < self.blocks() && self.cidr.contains(&self.address(place)) {
            match self.taken.get(&place.0) {
                Some(Taken::Whole) => place = (place.0 + 1, 0),
                _ if self.is_reserved(place) || self.is_taken(place) => {
                    place = if place.1 + 1 < HOSTS {
                        (place.0, place.1 + 1)
                    } else {
                        (place.0 + 1, 0)
                    };
                }
                _ => return Some(place),
            }
        }
        None
    }

    /// The first wholly free /80 at or after this one. The first and the last hold addresses that EC2 keeps.
    fn free_block_from(&self, from: u64) -> Option<u64> {
        let mut free = from;
        for (taken, _) in self.taken.range(from..) {
            if *taken != free {
                break;
            }
            free += 1;
        }
        (free + 1 < self.blocks()).then_some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Ipv6Pool {
        Ipv6Pool::new("2001:db8:0:1::/64".parse().unwrap())
    }

    #[test]
    fn ec2_keeps_the_first_four_addresses_and_the_last() {
        let mut pool = pool();
        for kept in ["::", "::1", "::2", "::3", ":ffff:ffff:ffff:ffff"] {
            let address = format!("2001:db8:0:1{kept}").parse().unwrap();
            assert_eq!(pool.take(address), Err(Refusal::Reserved), "{address}");
            assert!(pool.holds(address));
        }
        for kept in ["2001:db8:0:1::/80", "2001:db8:0:1:ffff::/80"] {
            let prefix = kept.parse().unwrap();
            assert_eq!(pool.take_block(prefix), Err(Refusal::Reserved), "{kept}");
        }
        assert_eq!(pool.taken(), (0, 0));
    }

    #[test]
    fn a_prefix_is_aligned_inside_and_wholly_free() {
        let mut pool = pool();
        pool.take("2001:db8:0:1:7::9".parse().unwrap()).unwrap();
        for (prefix, why) in [
            ("2001:db8:0:1:7::/80", Refusal::Taken),
            ("2001:db8:0:1:8::/81", Refusal::NotABlock),
            ("2001:db8:0:1:8::1/80", Refusal::NotABlock),
            ("2001:db8:0:2:8::/80", Refusal::Outside),
        ] {
            assert_eq!(
                pool.take_block(prefix.parse().unwrap()),
                Err(why),
                "{prefix}"
            );
        }
        let prefix = "2001:db8:0:1:8::/80".parse().unwrap();
        pool.take_block(prefix).unwrap();
        let inside = "2001:db8:0:1:8::5".parse().unwrap();
        assert_eq!(pool.take(inside), Err(Refusal::Taken));
        // Giving back an address of a prefix does not break the prefix.
        pool.give_back(inside);
        assert_eq!(pool.taken(), (1, 1));
        pool.give_back_block(prefix);
        assert_eq!(pool.take(inside), Ok(()));
    }

    #[test]
    fn the_lowest_is_given_first_also_after_it_came_back() {
        let (mut pool, mut dice) = (pool(), Dice::new(1));
        let mut any = |pool: &mut Ipv6Pool| pool.take_any(Order::Lowest, &mut dice).unwrap();
        let four = any(&mut pool);
        assert_eq!(four, "2001:db8:0:1::4".parse::<Ipv6Addr>().unwrap());
        let five = any(&mut pool);
        pool.give_back(four);
        assert_eq!(any(&mut pool), four);
        assert_eq!(
            any(&mut pool),
            "2001:db8:0:1::6".parse::<Ipv6Addr>().unwrap()
        );
        let mut dice = Dice::new(1);
        let block = pool.take_any_block(Order::Lowest, &mut dice).unwrap();
        assert_eq!(block, "2001:db8:0:1:1::/80".parse().unwrap());
        pool.give_back_block(block);
        assert_eq!(pool.take_any_block(Order::Lowest, &mut dice), Some(block));
        assert!(pool.holds(five));
    }

    #[test]
    fn every_prefix_but_two_can_be_given_out_and_then_none() {
        for order in [Order::Random, Order::Lowest, Order::Fragmenting] {
            let mut pool = Ipv6Pool::new("2001:db8:0:1::/72".parse().unwrap());
            let mut dice = Dice::new(7);
            let mut seen = BTreeSet::new();
            while let Some(prefix) = pool.take_any_block(order, &mut dice) {
                assert!(pool.cidr().contains(&prefix));
                assert!(seen.insert(prefix), "{prefix} was given out twice");
            }
            assert_eq!(seen.len(), 254);
            let address = pool.take_any(order, &mut dice).unwrap();
            assert!(!seen.iter().any(|prefix| prefix.contains(&address)));
        }
    }

    /// Against a model that knows nothing but sets: a subnet of eight /80s, and addresses of few hosts in them.
    #[test]
    fn random_histories_agree_with_a_model_of_sets() {
        for seed in 0..200 {
            let mut pool = Ipv6Pool::new("2001:db8:0:1::/77".parse().unwrap());
            let mut dice = Dice::new(seed);
            let (mut addresses, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
            let orders = [Order::Random, Order::Lowest, Order::Fragmenting];
            for _ in 0..60 {
                let order = orders[dice.below(3)];
                let host = [0, 3, 4, 5, 0xffff_ffff_ffff][dice.below(5)];
                let address = Ipv6Addr::from(
                    u128::from(pool.cidr().network()) + ((dice.below(8) as u128) << 48) + host,
                );
                let prefix = Ipv6Net::new(address, 80).unwrap().trunc();
                let last = Ipv6Addr::from(u128::from(pool.cidr().broadcast()));
                let first = u128::from(address) - u128::from(pool.cidr().network());
                let whole = |prefixes: &BTreeSet<Ipv6Net>| prefixes.contains(&prefix);
                let spoilt =
                    |addresses: &BTreeSet<Ipv6Addr>| addresses.iter().any(|a| prefix.contains(a));
                match dice.below(6) {
                    0 => {
                        let free = first > 3
                            && address != last
                            && !addresses.contains(&address)
                            && !whole(&prefixes);
                        assert_eq!(pool.take(address).is_ok(), free, "{address}");
                        addresses.extend(free.then_some(address));
                    }
                    1 => {
                        let free = first >> 48 != 0
                            && !prefix.contains(&last)
                            && !whole(&prefixes)
                            && !spoilt(&addresses);
                        assert_eq!(pool.take_block(prefix).is_ok(), free, "{prefix}");
                        prefixes.extend(free.then_some(prefix));
                    }
                    2 => {
                        let any = pool.take_any(order, &mut dice).unwrap();
                        assert!(!prefixes.iter().any(|prefix| prefix.contains(&any)));
                        assert!(addresses.insert(any), "{any} was given out twice");
                    }
                    3 => {
                        if let Some(any) = pool.take_any_block(order, &mut dice) {
                            assert!(!addresses.iter().any(|address| any.contains(address)));
                            assert!(prefixes.insert(any), "{any} was given out twice");
                        }
                    }
                    4 => {
                        pool.give_back(address);
                        addresses.remove(&address);
                    }
                    _ => {
                        pool.give_back_block(prefix);
                        prefixes.remove(&prefix);
                    }
                }
                assert_eq!(pool.taken(), (addresses.len(), prefixes.len()));
            }
        }
    }
}
