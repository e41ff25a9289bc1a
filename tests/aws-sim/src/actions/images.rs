//! Machine images.

use crate::actions::Action;

pub(super) const ACTIONS: &[(&str, Action)] = &[];

/// The image that instances run which nobody launched over the API.
pub(crate) const IMAGE: &str = "ami-0c2b8ca1dad447f8a";
