//! Real sockets: HTTP/1.1 in front of the core. Nothing is decided here.
//!
//! [`Control`] is the port by which people and tests make things go wrong while it serves.

mod body;
pub mod control;
mod dump;
mod ec2;
mod imds;
mod pages;
mod ports;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::call::Delivery;

pub use self::control::Control;
pub(crate) use self::ec2::Ec2;
pub(crate) use self::imds::Imds;
pub use self::ports::ImdsPorts;

/// How long a client may take to send a request's head. An idle connection lives as long.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);

type HttpRequest = hyper::Request<Incoming>;
type HttpResponse = hyper::Response<Full<Bytes>>;

/// The connection is to be reset: no answer.
#[derive(Debug, thiserror::Error)]
#[error("connection reset on purpose")]
pub(crate) struct Reset;

/// What a listener serves.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    fn answer(
        self,
        request: HttpRequest,
        peer: IpAddr,
    ) -> impl Future<Output = Result<HttpResponse, Reset>> + Send;
}

/// Accepts until `shutdown`; then all connections end.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    shutdown: CancellationToken,
    service: impl Service,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, service.clone());
                let shutdown = shutdown.clone();
                // Ends with the client or with `shutdown`, whichever is first.
                drop(tokio::spawn(async move {
                    shutdown.run_until_cancelled(connection).await
                }));
            }
            Err(error) => {
                // A connection that is gone already, or no file descriptors left: neither ends the listener.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, service: impl Service) {
    // A small answer must not wait for the acknowledgement of the last one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "TCP_NODELAY");
    }
    // A second handle to the socket: hyper drops the first when an answer fails.
    let Ok(handle) = rustix::io::dup(&stream) else {
        return;
    };
    let answer = service_fn(move |request| service.clone().answer(request, peer.ip()));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        if std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<Reset>) {
            reset(&handle);
        }
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// Makes the close of this socket a reset: RST instead of FIN (socket(7), SO_LINGER of zero).
fn reset(socket: &OwnedFd) {
    if let Err(error) = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)) {
        tracing::warn!(%error, "a connection to be reset is closed instead");
    }
}

fn reply(status: u16, content_type: &'static str, body: String) -> HttpResponse {
    let mut response = hyper::Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Waits as long as an answer is to take.
async fn deliver(delivery: Delivery) -> Result<(), Reset> {
    match delivery {
        Delivery::Now => Ok(()),
        Delivery::After(latency) => {
            tokio::time::sleep(latency).await;
            Ok(())
        }
        Delivery::Never => std::future::pending().await,
        Delivery::Reset => Err(Reset),
    }
}
