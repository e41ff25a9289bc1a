//! One instance's metadata, or that of whoever asks.

use std::net::IpAddr;

use hyper::header::{ACCEPT_RANGES, ALLOW, CONNECTION, HeaderValue, SERVER};

use super::{HttpRequest, HttpResponse, Reset, Service, deliver, reply};
use crate::ids::InstanceId;
use crate::imds::ImdsRequest;
use crate::sim::{ImdsFor, Sim};

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
            let value = request.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
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
        deliver(found.delivery).await?;
        let mut answer = reply(found.status, found.content_type, found.body);
        for (name, value) in [
            (SERVER, "EC2ws"),
            (ACCEPT_RANGES, "none"),
            (CONNECTION, "close"),
        ] {
            answer
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        if let Some(ttl) = found.token_ttl {
            answer
                .headers_mut()
                .insert("x-aws-ec2-metadata-token-ttl-seconds", ttl.into());
        }
        if let Some(allow) = found.allow.and_then(|methods| methods.parse().ok()) {
            answer.headers_mut().insert(ALLOW, allow);
        }
        Ok(answer)
    }
}
