//! A VPC in a box: nodes, pods, an internet and a peered network as network namespaces, with the simulated
//! EC2 deciding who is who.

mod fabric;
pub mod hold;
mod kernel;
mod lab;
pub mod netns;
pub mod places;
pub mod probe;
pub mod sandbox;

pub use lab::{Drops, Endpoint, Host, Lab, LabConfig, Node, NodeConfig, ReversePath, SubnetConfig};
pub use netns::{Mounted, Netns};
