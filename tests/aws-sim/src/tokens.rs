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

/// When it expires, if it was issued for this instance and has not expired.
#[must_use]
pub fn expires(world: &World, now: SimTime, instance: &InstanceId, token: &str) -> Option<SimTime> {
    let digits = token.get(5..21)?;
    let expires = SimTime::from_millis(u64::from_str_radix(digits, 16).ok()?);
    let valid = now < expires && token == issue(world, instance, expires);
    valid.then_some(expires)
}

fn seals(world: &World, instance: &InstanceId, expires: SimTime) -> (u64, u64) {
    let seed = mix(world.config.seed ^ mix(expires.as_millis()));
    let bytes = instance.as_str().bytes();
    let seal = bytes.fold(seed, |seal, byte| mix(seal ^ u64::from(byte)));
    (seal, mix(!seal))
}
