//! What the torture found, each in its smallest form.

use ipnet::IpNet;

use super::look::{one_eni_too_many, second, warm_enis};
use super::world::{Fate, World, fresh, sandbox, settings, targets, warm_ips};
use crate::{
    AddressState, Answer, Call, CallErrorKind, CallReply, Effect, Event, Families, IntentStage,
    Mode, Warm, WarmTargets,
};

mod addresses;
mod enis;
mod waiting;
