//! Subnet CIDR reservations.

use ipnet::IpNet;

use crate::ids::ReservationId;
use crate::world::Tags;

/// A part of a subnet that EC2 gives out only as its kind says.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// `scr-...`
    pub id: ReservationId,
    /// The part.
    pub cidr: IpNet,
    /// What it is for.
    pub kind: ReservationKind,
    /// What its maker wrote.
    pub description: String,
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
