//! Benchmarks, each beside its floor or its peer: `cargo bench -p bench`.
//!
//! The time of a whole ADD, beside what the kernel alone needs, is measured by `cargo xtask demo --release`.
