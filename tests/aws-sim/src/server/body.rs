//! Reads requests' bodies, up to a limit.

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};

/// The largest body that is read. EC2's own limit is near this.
pub(super) const LARGEST: usize = 1 << 20;

/// Why a body can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is longer than [`LARGEST`].
    TooLong,
    /// It ended before its length, or its chunks are not well-formed.
    Incomplete,
}

pub(super) async fn read(body: Incoming) -> Result<Bytes, Unread> {
    match Limited::new(body, LARGEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLong),
        Err(_) => Err(Unread::Incomplete),
    }
}
