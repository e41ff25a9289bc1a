//! What the simulations of whole fleets share: a client that speaks to the simulated EC2 as `crates/cloud` does to EC2,
//! what IMDS shows, and virtual time.

pub mod ec2;
pub mod imds;
pub mod queue;
pub mod sdk;
mod xml;
