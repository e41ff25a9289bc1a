//! Regions and availability zones.

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[];
