//! Subnet CIDR reservations.

use ipnet::Ipv4Net;

use super::ranges::overlap;
use crate::error::{Ec2Error, Result};
use crate::ids::{ReservationId, SubnetId};
use crate::world::{Tags, World};

/// A part of a subnet that EC2 gives out only as its kind says.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// `scr-...`
    pub id: ReservationId,
    /// The part.
    pub cidr: Ipv4Net,
    /// What it is for.
    pub kind: ReservationKind,
    /// What its maker wrote.
    pub description: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// What a reservation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationKind {
    /// EC2 takes prefixes from it when a number of them is asked for, and nothing else.
    Prefix,
    /// EC2 takes nothing from it that is not named.
    Explicit,
}

impl ReservationKind {
    /// As EC2 writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ReservationKind::Prefix => "prefix",
            ReservationKind::Explicit => "explicit",
        }
    }
}

impl World {
    /// Reserves a part of a subnet, which may have addresses that are taken.
    ///
    /// # Errors
    /// `InvalidSubnetID.NotFound`; `InvalidParameterValue` when the part is not in the subnet, or has a part of
    /// another reservation.
    pub fn add_reservation(
        &mut self,
        subnet: &SubnetId,
        cidr: Ipv4Net,
        kind: ReservationKind,
    ) -> Result<ReservationId> {
        let cidr = cidr.trunc();
        let found = self.subnet(subnet);
        let found = found.ok_or_else(|| Ec2Error::no_such_subnet(subnet))?;
        let whole = found.pool.cidr();
        if !whole.contains(&cidr) {
            let message = format!("Reservation CIDR should be within subnet CIDR block ({whole})");
            return Err(Ec2Error::invalid(message));
        }
        let mut known = found.reservations.values();
        if known.any(|known| overlap(known.cidr, cidr)) {
            let message =
                format!("Reservation CIDR {cidr} has overlap with existing reserved CIDR block");
            return Err(Ec2Error::invalid(message));
        }
        let id = ReservationId::new(&mut self.dice);
        let reservation = Reservation {
            id: id.clone(),
            cidr,
            kind,
            description: None,
            tags: Tags::new(),
        };
        let key = id.clone();
        self.change_subnet(subnet, |subnet| {
            let for_prefixes = kind == ReservationKind::Prefix;
            subnet.pool.set_aside(cidr, for_prefixes);
            subnet.reservations.insert(key, reservation);
        })?;
        Ok(id)
    }

    /// Ends a reservation. What is taken stays so.
    pub(crate) fn delete_reservation(
        &mut self,
        subnet: &SubnetId,
        id: &ReservationId,
    ) -> Result<()> {
        self.change_subnet(subnet, |subnet| {
            if let Some(reservation) = subnet.reservations.remove(id) {
                subnet.pool.open_again(reservation.cidr);
            }
        })
    }
}
