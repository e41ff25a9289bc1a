//! EC2 and the instance metadata service, behind the pool's own types.
//!
//! [`Metadata`] tells the node who it is, [`limits_of`] what its instance type allows, and [`Ec2`] carries
//! out the pool's [`ipam::Call`]s. Region, endpoints, credentials and proxies are the AWS SDK's own
//! settings: LocalStack, the simulator and AWS differ by environment variables alone.
//!
//! This is the only crate that names the AWS SDK.

mod classify;
mod ec2;
mod facts;
mod http;
mod jitter;
mod limits;
mod metadata;
mod whole;

pub use ec2::{Ec2, Ec2Identity};
pub use http::HttpError;
pub use limits::limits_of;
pub use metadata::{Ipv6Facts, Metadata, MetadataError, NodeFacts};

/// The SDK's defaults as of a date, so that a change of them is a commit of ours.
fn behavior_version() -> aws_config::BehaviorVersion {
    aws_config::BehaviorVersion::v2026_01_12()
}
