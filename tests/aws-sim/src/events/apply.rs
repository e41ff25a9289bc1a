//! What each event does.

use super::{Event, EventError, Happened};
use crate::time::SimTime;
use crate::world::World;

impl World {
    pub(super) fn apply_event(
        &mut self,
        _now: SimTime,
        event: &Event,
    ) -> Result<Happened, EventError> {
        Err(EventError::Impossible(event.name()))
    }
}
