//! A VPC in a box: nodes, pods, an internet and a peered network as network namespaces, with the simulated
//! EC2 deciding who is who.

pub mod sandbox;
