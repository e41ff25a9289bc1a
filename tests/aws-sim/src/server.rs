//! Stub
use crate::sim::{ImdsFor, Sim};
use std::io;
use tokio_util::sync::CancellationToken;
#[allow(dead_code)]
pub(crate) struct Ec2(pub(crate) Sim);
#[allow(dead_code)]
pub(crate) struct Imds {
    pub(crate) sim: Sim,
    pub(crate) whose: ImdsFor,
}
pub(crate) async fn serve<S>(
    _l: std::net::TcpListener,
    _s: CancellationToken,
    _x: S,
) -> io::Result<()> {
    todo!()
}
