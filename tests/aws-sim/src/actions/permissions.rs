//! Permissions for other accounts to use an ENI.

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[];
