//! How HTTP leaves the node: through the proxy that the environment names, but never to what is on the node itself.
//!
//! The SDK would ask IMDS through a proxy too, which answers for the proxy's instance, or not at all. And it does not know
//! `AWS_CA_BUNDLE`, which the other SDKs and the AWS CLI obey.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};
use aws_smithy_types::config_bag::ConfigBag;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::whole;

const BUNDLE: &str = "AWS_CA_BUNDLE";
const METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Why there can be no HTTP client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The file of certificates can't be read.
    #[error(
        "AWS_CA_BUNDLE names {}, which can't be read: mount it into the container, or unset the variable", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file has no certificates, or something else.
    #[error(
        "AWS_CA_BUNDLE names {}, which must have certificates in PEM and nothing else that is called so: {reason}",
        path.display()
    )]
    NoCertificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// HTTP with the proxy and the certificates that the environment names.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    /// To what is on the node.
    direct: SharedHttpClient,
    /// To the world.
    outward: SharedHttpClient,
    /// The host of `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    metadata: Option<String>,
}

impl Http {
    /// With the process's environment. Proxies are `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// When `AWS_CA_BUNDLE` is set to what can't be used.
    pub(crate) fn from_env() -> Result<Self, HttpError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let tls = match variable(BUNDLE) {
            Some(path) => trusting(path.into())?,
            None => tls(TrustStore::default()),
        };
        Ok(Self {
            direct: client(ProxyConfig::disabled(), tls.clone()),
            outward: client(ProxyConfig::from_env(), tls),
            metadata: variable(METADATA).and_then(|url| host(&url).map(str::to_owned)),
        })
    }
}

/// For IMDS: without proxy, and without TLS, which it does not speak.
pub(crate) fn plain() -> SharedHttpClient {
    Builder::new().build_http()
}

fn client(proxy: ProxyConfig, tls: TlsContext) -> SharedHttpClient {
    // As the SDK makes its own, which takes neither of the two.
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.set_proxy_config(Some(proxy.clone()));
        connector.build()
    })
}

/// Trusts the certificates in this file alone, as the AWS CLI does.
fn trusting(path: PathBuf) -> Result<TlsContext, HttpError> {
    let pem = match fs::read(&path) {
        Ok(pem) => pem,
        Err(source) => return Err(HttpError::Unreadable { path, source }),
    };
    // The SDK panics at certificates that can't be parsed.
    match certificates(&pem) {
        Ok(()) => Ok(tls(TrustStore::empty().with_pem_certificate(pem))),
        Err(reason) => Err(HttpError::NoCertificates { path, reason }),
    }
}

fn certificates(pem: &[u8]) -> Result<(), String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let (valid, invalid) = RootCertStore::empty().add_parsable_certificates(certificates);
    match (valid, invalid) {
        (0, 0) => Err("there is none".to_owned()),
        (_, 0) => Ok(()),
        (_, invalid) => Err(format!("{invalid} can't be parsed")),
    }
}

fn tls(trust: TrustStore) -> TlsContext {
    // It can't fail: nothing is parsed before a connection.
    TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .unwrap_or_default()
}

impl HttpClient for Http {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ByHost {
            direct: self.direct.http_connector(settings, components),
            outward: self.outward.http_connector(settings, components),
            metadata: self.metadata.clone(),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.outward.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.outward.validate_final_config(components, config)
    }
}

struct ByHost {
    direct: SharedHttpConnector,
    outward: SharedHttpConnector,
    metadata: Option<String>,
}

impl fmt::Debug for ByHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByHost").finish_non_exhaustive()
    }
}

impl HttpConnector for ByHost {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = host(request.uri());
        let direct = host.is_some_and(is_on_node)
            || host.is_some_and(|host| Some(host) == self.metadata.as_deref());
        whole::call(if direct { &self.direct } else { &self.outward }, request)
    }
}

/// The host of a URL; an IPv6 address without brackets.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => host.split(':').next(),
    }
}

/// Loopback; IMDS and the agents of ECS and EKS Pod Identity, which are link-local, or in `fd00:ec2::/32` on IPv6.
fn is_on_node(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.segments().starts_with(&[0xfd00, 0xec2]),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_node_is_never_asked_through_a_proxy() {
        for (url, on_node) in [
            ("http://169.254.169.254/latest/api/token", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::254]/latest/meta-data/mac", true),
            ("http://[fd00:ec2::23]:80/v1/credentials", true),
            ("http://127.0.0.1:4566", true),
            ("http://[::1]:4566/", true),
            ("http://localhost:4566/", true),
            ("https://ec2.eu-west-1.amazonaws.com/", false),
            ("https://169.254.169.254.example.com/", false),
            ("https://me@sts.amazonaws.com:443?a=b", false),
            ("https://[2001:db8::1]/", false),
        ] {
            assert_eq!(host(url).is_some_and(is_on_node), on_node, "{url}");
        }
    }

    #[test]
    fn a_bundle_that_has_no_certificates_is_refused_with_its_path() {
        let missing = trusting("/does/not/exist.pem".into()).unwrap_err();
        assert!(
            missing.to_string().contains("/does/not/exist.pem"),
            "{missing}"
        );
        assert_eq!(certificates(b""), Err("there is none".to_owned()));
        assert_eq!(certificates(b"not PEM"), Err("there is none".to_owned()));
        let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(garbage), Err("1 can't be parsed".to_owned()));
    }
}
