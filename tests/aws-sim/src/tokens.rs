//! IMDSv2 session tokens. A token says itself whose it is and until when, sealed with the world's seed: nothing
//! needs to be remembered.

use crate::ids::{InstanceId, mix};
use crate::time::SimTime;
use crate::world::World;

/// A token for an instance's metadata until `expires`.
#[must_use]
pub fn issue(world: &World, instance: &InstanceId, expires: SimTime) -> String {
    let (one, other) = seals(world, instance, expires);
    format!("AQAEA{:016x}{one:016x}{other:016x}==", expires.as_millis())
}

/// Whether it was issued for this instance, and has not expired.
#[must_use]
pub fn is_valid(world: &World, now: SimTime, instance: &InstanceId, token: &str) -> bool {
    let expires = token
        .get(5..21)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    expires
        .map(SimTime::from_millis)
        .is_some_and(|expires| now < expires && token == issue(world, instance, expires))
}

fn seals(world: &World, instance: &InstanceId, expires: SimTime) -> (u64, u64) {
    let seed = mix(world.config.seed ^ mix(expires.as_millis()));
    let bytes = instance.as_str().bytes();
    let seal = bytes.fold(seed, |seal, byte| mix(seal ^ u64::from(byte)));
    (seal, mix(!seal))
}
