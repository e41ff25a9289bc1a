//! Benchmarks, each beside its floor or its peer: `cargo bench -p bench`.
//!
//! What a whole ADD costs, and a packet on its way through the host, is measured on nodes of the lab: `cargo xtask bench`.
