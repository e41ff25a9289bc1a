//! Real sockets: HTTP/1.1 in front of the core. Nothing is decided here.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::call::{Caller, Delivery, Request};
use crate::ids::InstanceId;
use crate::imds::ImdsRequest;
use crate::params::Params;
use crate::sim::{ImdsFor, Sim};

mod pages;

/// The largest request that is read. EC2's own limit is near this.
const LARGEST_BODY: usize = 1 << 20;
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
    // A second handle to the socket: hyper drops the first when an answer fails.
    let Ok(handle) = rustix::io::dup(&stream) else {
        return;
    };
    let answer = service_fn(move |request| service.clone().answer(request, peer.ip()));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
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

/// EC2, and pages for people.
#[derive(Clone, Debug)]
pub(crate) struct Ec2(pub(crate) Sim);

impl Service for Ec2 {
    async fn answer(self, request: HttpRequest, peer: IpAddr) -> Result<HttpResponse, Reset> {
        if request.method() == hyper::Method::GET
            && let Some(page) = pages::of(&self.0, request.uri().path())
        {
            return Ok(reply(200, "text/plain; charset=utf-8", page));
        }
        let (head, body) = request.into_parts();
        let mut params = Params::decode(head.uri.query().unwrap_or_default().as_bytes());
        let body = match Limited::new(body, LARGEST_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            // Too long, or the client has gone.
            Err(_) => {
                return Ok(reply(
                    413,
                    "text/plain",
                    "Request Entity Too Large".to_owned(),
                ));
            }
        };
        params.merge(Params::decode(&body));
        let (access_key, scope) = signer(&head.headers, &params).unzip();
        let request = Request {
            params,
            caller: Caller {
                access_key,
                scope,
                address: Some(peer),
            },
        };
        let response = self.0.call(&request);
        match response.delivery {
            Delivery::Now => {}
            Delivery::After(latency) => tokio::time::sleep(latency).await,
            Delivery::Never => std::future::pending().await,
            Delivery::Reset => return Err(Reset),
        }
        let mut answer = reply(response.status, "text/xml;charset=UTF-8", response.body);
        if let Ok(id) = response.request_id.parse() {
            answer.headers_mut().insert("x-amzn-requestid", id);
        }
        Ok(answer)
    }
}

/// Who signed, and for which Region and service: from the header, or from a signed URL. The signature itself is
/// not verified.
fn signer(headers: &HeaderMap, params: &Params) -> Option<(String, (String, String))> {
    let header = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let credential = match header {
        Some(header) => {
            let fields = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
            let mut fields = fields.split(',').map(str::trim);
            fields.find_map(|field| field.strip_prefix("Credential="))?
        }
        None => params.get("X-Amz-Credential")?,
    };
    match credential.split('/').collect::<Vec<_>>().as_slice() {
        [key, _date, region, service, "aws4_request"] if !key.is_empty() => Some((
            (*key).to_owned(),
            ((*region).to_owned(), (*service).to_owned()),
        )),
        _ => None,
    }
}

/// One instance's metadata, or that of whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Imds {
    pub(crate) sim: Sim,
    pub(crate) whose: ImdsFor,
}

impl Imds {
    fn instance(&self, peer: IpAddr) -> Option<InstanceId> {
        match (&self.whose, peer) {
            (ImdsFor::Instance(id), _) => Some(id.clone()),
            (ImdsFor::Peer, IpAddr::V4(peer)) => self.sim.instance_holding(peer),
            (ImdsFor::Peer, IpAddr::V6(_)) => None,
        }
    }
}

impl Service for Imds {
    async fn answer(self, request: HttpRequest, peer: IpAddr) -> Result<HttpResponse, Reset> {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        };
        let asked = ImdsRequest {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            token: header("x-aws-ec2-metadata-token"),
            token_ttl: header("x-aws-ec2-metadata-token-ttl-seconds"),
            forwarded: request.headers().contains_key("x-forwarded-for"),
        };
        // An address that no ENI holds has no instance behind it, as an unknown instance.
        let instance = self.instance(peer).unwrap_or_else(|| InstanceId::from(""));
        let found = self.sim.imds(&instance, &asked);
        let mut answer = reply(found.status, found.content_type, found.body);
        if let Some(ttl) = found.token_ttl {
            answer
                .headers_mut()
                .insert("x-aws-ec2-metadata-token-ttl-seconds", ttl.into());
        }
        Ok(answer)
    }
}

fn reply(status: u16, content_type: &'static str, body: String) -> HttpResponse {
    let mut response = hyper::Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
