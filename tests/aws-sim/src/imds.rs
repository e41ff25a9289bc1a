//! Stub
use crate::ids::InstanceId;
use crate::time::SimTime;
use crate::world::World;
/// A metadata request.
#[derive(Clone, Debug, Default)]
pub struct ImdsRequest;
/// A metadata reply.
#[derive(Clone, Debug)]
pub struct ImdsReply;
/// Answers.
pub fn answer(
    _world: &World,
    _now: SimTime,
    _instance: &InstanceId,
    _request: &ImdsRequest,
) -> ImdsReply {
    todo!()
}
