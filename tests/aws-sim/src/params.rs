//! Stub
/// Parameters
#[derive(Clone, Debug, Default)]
pub struct Params;
