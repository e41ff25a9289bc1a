//! Subnet CIDR reservations.

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[];
