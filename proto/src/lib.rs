//! The contract between the CNI plugin, ipamd, and people with their tools: package `weir.ipam.v1`.
//!
//! The types are generated from `weir/ipam/v1/ipam.proto` by `cargo xtask codegen` and checked in, so that
//! a build needs no protobuf compiler. There is no logic here.

/// `weir.ipam.v1`: see the comments of `ipam.proto`, which each type carries.
#[allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    rust_2018_idioms,
    reason = "generated code"
)]
pub mod v1 {
    include!("generated/weir.ipam.v1.rs");

    /// The descriptors, for gRPC server reflection: encoded `google.protobuf.FileDescriptorSet`.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/weir.ipam.v1.bin");
}

/// Where ipamd listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weir/ipamd.sock";

/// The `domain` of each `google.rpc.ErrorInfo` that ipamd answers.
pub const ERROR_DOMAIN: &str = "weir";
