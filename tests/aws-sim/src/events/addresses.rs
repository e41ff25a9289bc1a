//! Events about addresses: stolen, unassigned, and subnets filled by others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::apply::{done, impossible};
use super::{EventError, Fragments, Happened};
use crate::error::Ec2Error;
use crate::ids::{EniId, SubnetId};
use crate::time::SimTime;
use crate::world::{Ask, Eni, EniSpec, World};

type Result<T> = std::result::Result<T, EventError>;

/// What those ENIs say of themselves that only take addresses away.
const FILLER: &str = "taken by others";
/// How many addresses an ENI holds on the largest instances.
const FILLER_SLOTS: usize = 50;

impl World {
    pub(super) fn steal(
        &mut self,
        now: SimTime,
        from: &EniId,
        address: Option<IpAddr>,
        to: Option<EniId>,
    ) -> Result<Happened> {
        let eni = self.known(from)?;
        let first = eni.secondary.first().copied().map(IpAddr::V4);
        let Some(address) = address.or(first) else {
            return impossible(format!("{from} has no secondary address to lose"));
        };
        let loses = match address {
            IpAddr::V4(address) => eni.secondary.contains(&address),
            IpAddr::V6(address) => eni.ipv6.contains(&address) && eni.primary_ipv6 != Some(address),
        };
        if !loses {
            return impossible(format!(
                "{address} is no single address of {from} that it can lose"
            ));
        }
        let subnet = eni.subnet.clone();
        let Some(to) = to else {
            return self.steal_for_a_new_one(now, from, &subnet, address);
        };
        self.check_can_take(&to, &subnet, from, address)?;
        self.change_eni(from, |eni| drop_single(eni, address))?;
        self.change_eni(&to, |eni| match address {
            IpAddr::V4(address) => eni.secondary.push(address),
            IpAddr::V6(address) => eni.ipv6.push(address),
        })?;
        Ok(done(format!("{address} moved from {from} to {to}")))
    }

    fn check_can_take(
        &self,
        to: &EniId,
        subnet: &SubnetId,
        from: &EniId,
        address: IpAddr,
    ) -> Result<()> {
        let taker = self.known(to)?;
        if to == from || taker.subnet != *subnet {
            return impossible(format!(
                "{to} is not another ENI of {subnet}: it can't get {address}"
            ));
        }
        let kind = taker
            .attachment
            .as_ref()
            .and_then(|attachment| self.instance(&attachment.instance))
            .map(|instance| instance.kind);
        let full = kind.is_some_and(|kind| match address {
            IpAddr::V4(_) => reaches(taker.slots(), kind.ipv4_per_eni),
            IpAddr::V6(_) => reaches(taker.ipv6_slots(), kind.ipv6_per_eni),
        });
        if full {
            return Err(Ec2Error::address_limit().into());
        }
        Ok(())
    }

    fn steal_for_a_new_one(
        &mut self,
        now: SimTime,
        from: &EniId,
        subnet: &SubnetId,
        address: IpAddr,
    ) -> Result<Happened> {
        let spec = EniSpec {
            description: "took an address".to_owned(),
            ..EniSpec::new(subnet)
        };
        let spec = match address {
            IpAddr::V4(address) => EniSpec {
                primary: Some(address),
                ..spec
            },
            IpAddr::V6(address) => EniSpec {
                ipv6: Ask::Addresses(vec![address]),
                ..spec
            },
        };
        // Given back first, so that a full subnet is no obstacle; taken again when there can be no new ENI.
        let before = self.known(from)?.clone();
        self.change_eni(from, |eni| drop_single(eni, address))?;
        self.give_back_single(subnet, address);
        match self.appear(now, spec) {
            Ok(made) => Ok(Happened {
                what: format!("{address} moved from {from} to {made}, which is new"),
                made: vec![made],
            }),
            Err(error) => {
                match address {
                    IpAddr::V4(address) => drop(self.take_address(subnet, address)),
                    IpAddr::V6(address) => {
                        drop(self.take_ipv6(subnet, Ask::Addresses(vec![address])));
                    }
                }
                self.change_eni(from, |eni| *eni = before)?;
                Err(error)
            }
        }
    }

    pub(super) fn unassign(&mut self, id: &EniId, asked: &[IpNet]) -> Result<Happened> {
        let eni = self.known(id)?.clone();
        let goes = match asked {
            [] => all_but_primary(&eni),
            asked => asked.to_vec(),
        };
        for net in &goes {
            let held = match net {
                IpNet::V4(net) if net.prefix_len() == 32 => eni.secondary.contains(&net.addr()),
                IpNet::V4(net) => eni.prefixes.contains(net),
                IpNet::V6(net) if net.prefix_len() == 128 => {
                    eni.ipv6.contains(&net.addr()) && eni.primary_ipv6 != Some(net.addr())
                }
                IpNet::V6(net) => eni.ipv6_prefixes.contains(net),
            };
            if !held {
                return impossible(format!("{net} can't be taken from {id}"));
            }
        }
        self.change_eni(id, |eni| {
            eni.secondary
                .retain(|held| !goes.contains(&IpNet::from(IpAddr::V4(*held))));
            eni.prefixes
                .retain(|held| !goes.contains(&IpNet::V4(*held)));
            eni.ipv6
                .retain(|held| !goes.contains(&IpNet::from(IpAddr::V6(*held))));
            eni.ipv6_prefixes
                .retain(|held| !goes.contains(&IpNet::V6(*held)));
        })?;
        for net in &goes {
            match net {
                IpNet::V4(net) if net.prefix_len() == 32 => {
                    self.give_back(&eni.subnet, &[net.addr()], &[]);
                }
                IpNet::V4(net) => self.give_back(&eni.subnet, &[], &[*net]),
                IpNet::V6(net) if net.prefix_len() == 128 => {
                    self.give_back_ipv6(&eni.subnet, &[net.addr()], &[]);
                }
                IpNet::V6(net) => self.give_back_ipv6(&eni.subnet, &[], &[*net]),
            }
        }
        let text: Vec<String> = goes.iter().map(ToString::to_string).collect();
        Ok(done(format!("{} unassigned from {id}", text.join(", "))))
    }

    pub(super) fn fill(
        &mut self,
        now: SimTime,
        subnet: &SubnetId,
        leaving: usize,
    ) -> Result<Happened> {
        let mut free = self.free_addresses(subnet);
        // The highest stay free.
        free.truncate(free.len().saturating_sub(leaving));
        self.occupy(now, subnet, &free)
    }

    pub(super) fn fragment(
        &mut self,
        now: SimTime,
        subnet: &SubnetId,
        pattern: Fragments,
    ) -> Result<Happened> {
        let free = self.free_addresses(subnet);
        let last = |address: &Ipv4Addr| u32::from(*address) & 0xf;
        let chosen: Vec<Ipv4Addr> = match pattern {
            Fragments::EveryOther => free.into_iter().filter(|a| last(a) % 2 == 0).collect(),
            Fragments::OneInEachPrefix => {
                let whole =
                    free.chunk_by(|one, next| u32::from(*one) >> 4 == u32::from(*next) >> 4);
                let whole = whole.filter(|block| block.len() == 16);
                whole.filter_map(|block| block.first().copied()).collect()
            }
        };
        self.occupy(now, subnet, &chosen)
    }

    pub(super) fn empty(&mut self, subnet: &SubnetId) -> Happened {
        let fillers = self.enis().filter(|eni| eni.subnet == *subnet);
        let fillers = fillers.filter(|eni| eni.description == FILLER && eni.attachment.is_none());
        let fillers: Vec<EniId> = fillers.map(|eni| eni.id.clone()).collect();
        fillers.iter().for_each(|id| self.delete_eni(id));
        done(format!("others leave {subnet}"))
    }

    /// ENIs of others take these addresses: all or none.
    fn occupy(
        &mut self,
        now: SimTime,
        subnet: &SubnetId,
        addresses: &[Ipv4Addr],
    ) -> Result<Happened> {
        let mut made = Vec::new();
        for chunk in addresses.chunks(FILLER_SLOTS) {
            let spec = EniSpec {
                primary: chunk.first().copied(),
                ipv4: Ask::Addresses(chunk.iter().skip(1).copied().collect()),
                description: FILLER.to_owned(),
                ..EniSpec::new(subnet)
            };
            match self.appear(now, spec) {
                Ok(id) => made.push(id),
                Err(error) => {
                    made.iter().for_each(|id| self.delete_eni(id));
                    return Err(error);
                }
            }
        }
        let count = addresses.len();
        Ok(Happened {
            what: format!("others take {count} addresses of {subnet}"),
            made,
        })
    }

    /// The lowest first.
    fn free_addresses(&self, subnet: &SubnetId) -> Vec<Ipv4Addr> {
        let Some(subnet) = self.subnet(subnet) else {
            return Vec::new();
        };
        let cidr: Ipv4Net = subnet.pool.cidr();
        let all = u32::from(cidr.network())..=u32::from(cidr.broadcast());
        all.map(Ipv4Addr::from)
            .filter(|address| !subnet.pool.holds(*address))
            .collect()
    }

    fn give_back_single(&mut self, subnet: &SubnetId, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.give_back(subnet, &[address], &[]),
            IpAddr::V6(address) => self.give_back_ipv6(subnet, &[address], &[]),
        }
    }

    fn known(&self, id: &EniId) -> Result<&Eni> {
        Ok(self.eni(id).ok_or_else(|| Ec2Error::no_such_eni(id))?)
    }
}

fn reaches(slots: usize, limit: u32) -> bool {
    u32::try_from(slots).unwrap_or(u32::MAX) >= limit
}

fn drop_single(eni: &mut Eni, address: IpAddr) {
    match address {
        IpAddr::V4(address) => eni.secondary.retain(|held| *held != address),
        IpAddr::V6(address) => eni.ipv6.retain(|held| *held != address),
    }
}

fn all_but_primary(eni: &Eni) -> Vec<IpNet> {
    let stays = |address: &&Ipv6Addr| eni.primary_ipv6 != Some(**address);
    let singles = eni.secondary.iter().copied().map(IpAddr::V4);
    let singles6 = eni.ipv6.iter().filter(stays).copied().map(IpAddr::V6);
    let prefixes = eni.prefixes.iter().copied().map(IpNet::V4);
    let prefixes6 = eni.ipv6_prefixes.iter().copied().map(IpNet::V6);
    singles
        .chain(singles6)
        .map(IpNet::from)
        .chain(prefixes)
        .chain(prefixes6)
        .collect()
}
