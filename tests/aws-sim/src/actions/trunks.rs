//! Branch interfaces on trunk interfaces.

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[];
