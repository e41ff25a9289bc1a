//! What the torture found, each in its smallest form.

use ipnet::IpNet;

use super::look::{one_eni_too_many, warm_enis};
use super::world::{Fate, World, fresh, sandbox, settings, targets};
use crate::{
    AddressState, Answer, Call, CallErrorKind, CallReply, Effect, Event, Families, IntentStage,
    Mode, Warm, WarmTargets,
};

mod addresses;
mod enis;
mod waiting;
