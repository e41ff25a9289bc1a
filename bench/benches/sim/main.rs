//! How fast and how large the simulated EC2 is: `cargo bench -p bench --bench sim`.
//!
//! - Calls a second through the pure core, on one thread, beside reading the same parameters and writing the same
//!   number of bytes.
//! - Requests a second over HTTP, with the client on the same machine, beside a server that answers the same
//!   number of bytes and decides nothing.
//! - Memory over a million calls, and that of a world of 5,000 instances with ten ENIs each.
//!
//! The aims: 20,000 calls, 3,000 requests, memory that stays flat once the log is full, and 2 GB for that world.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "the input is the benchmark's own, and its figures are for people"
)]

mod core;
mod http;
mod memory;
mod node;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    // First, while nothing else has left its mark on the heap.
    println!("memory");
    memory::run(quick);
    println!("pure core, one thread");
    core::run(quick);
    println!("over HTTP, client and server on this machine");
    http::run(quick);
}
