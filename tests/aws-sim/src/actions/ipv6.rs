//! AssignIpv6Addresses and UnassignIpv6Addresses.

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[];
