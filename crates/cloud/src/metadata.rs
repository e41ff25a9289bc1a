//! The instance metadata service, version 2: who this node is.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_ec2::error::DisplayErrorContext;
use ipam::{EniId, InstanceId, Mac, Place, SecurityGroupId, SeenEni, SubnetId, VpcId};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::jitter::jittered;

/// One request, from the first byte to the last. IMDS answers in milliseconds or is not there.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Waits between attempts double from the first to the second of these.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A client of the instance metadata service at `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or else at
/// 169.254.169.254. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metadata {
    client: Client,
}

/// What IMDS tells about the node. Its addresses are for configuring links, never for pods: what an ENI
/// holds is EC2's to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The instance.
    pub instance_id: InstanceId,
    /// Its type: `m5.large`.
    pub instance_type: String,
    /// Its zone: `eu-west-1a`.
    pub availability_zone: String,
    /// The VPC that it is in.
    pub vpc_id: VpcId,
    /// All IPv4 CIDRs of that VPC.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// The primary ENI, by its id.
    pub primary_eni: EniId,
    /// The primary ENI, by its MAC.
    pub primary_mac: Mac,
    /// The primary ENI's own address.
    pub primary_address: Ipv4Addr,
    /// The primary ENI's subnet.
    pub subnet_id: SubnetId,
    /// That subnet's CIDR.
    pub subnet_cidr: Ipv4Net,
    /// The primary ENI's security groups.
    pub security_groups: Vec<SecurityGroupId>,
}

/// What IMDS tells about IPv6 on the primary ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6Facts {
    /// Its own address: the first that it has beside its prefixes.
    pub address: Option<Ipv6Addr>,
    /// The CIDR of its subnet, where /80 prefixes come from.
    pub subnet_cidr: Option<Ipv6Net>,
}

/// Why IMDS did not tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// No answer, as often as it was asked.
    #[error(
        "the instance metadata service did not answer within {waited:?}: {reason}. Look whether the \
         instance has it on, whether its hop limit lets a container through \
         (HttpPutResponseHopLimit; the host network needs no more than 1), whether a firewall or a network \
         policy drops 169.254.169.254, and where AWS_EC2_METADATA_SERVICE_ENDPOINT points, if it is set"
    )]
    Unreachable {
        /// How long it was tried.
        waited: Duration,
        /// What the last attempt met.
        reason: String,
    },
    /// It answers, but not about this.
    #[error(
        "the instance metadata service has no {path}: look whether this is an EC2 instance in a VPC with \
         IPv4, and where AWS_EC2_METADATA_SERVICE_ENDPOINT points, if it is set"
    )]
    Absent {
        /// Below `/latest/meta-data/`.
        path: String,
    },
    /// It refuses.
    #[error(
        "the instance metadata service refuses {path} with HTTP status {status}: 403 means that it is \
         turned off for this instance (HttpEndpoint), or forbidden to containers"
    )]
    Refused {
        /// Below `/latest/meta-data/`.
        path: String,
        /// HTTP's.
        status: u16,
    },
    /// What it says is not what should be there.
    #[error("the instance metadata service says {value:?} for {path}: expected {expected}")]
    Malformed {
        /// Below `/latest/meta-data/`.
        path: String,
        /// As it was said.
        value: String,
        /// What should be there.
        expected: &'static str,
    },
}

impl Metadata {
    /// A client with the SDK's settings for IMDS, from the environment and the profile. It never goes through a proxy.
    #[must_use]
    pub fn from_env() -> Self {
        let config = ProviderConfig::without_region()
            .with_behavior_version(Some(crate::behavior_version()))
            .with_http_client(crate::http::plain());
        // Repeats are ours to make: the client's own give up within seconds, and never repeat time-outs.
        let client = Client::builder()
            .configure(&config)
            .max_attempts(1)
            .connect_timeout(ATTEMPT / 2)
            .read_timeout(ATTEMPT / 2)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(ATTEMPT * 2)
            .build();
        Self { client }
    }

    /// Asks all that a node must know of itself, for at most `patience`.
    ///
    /// # Errors
    /// When IMDS does not answer in time, refuses, or what it says makes no sense.
    pub async fn node(&self, patience: Duration) -> Result<NodeFacts, MetadataError> {
        let deadline = Instant::now() + patience;
        let text = async |path: &str| self.required(path, deadline).await;
        let mac_text = text("mac").await?;
        let mac: Mac = parse("mac", &mac_text, "a MAC address")?;
        let of_eni = |leaf: &str| format!("network/interfaces/macs/{mac_text}/{leaf}");

        let cidrs_path = of_eni("vpc-ipv4-cidr-blocks");
        let addresses_path = of_eni("local-ipv4s");
        let subnet_path = of_eni("subnet-ipv4-cidr-block");
        Ok(NodeFacts {
            instance_id: InstanceId::new(text("instance-id").await?),
            instance_type: text("instance-type").await?,
            availability_zone: text("placement/availability-zone").await?,
            vpc_id: VpcId::new(text(&of_eni("vpc-id")).await?),
            vpc_cidrs: text(&cidrs_path)
                .await?
                .lines()
                .map(|line| parse(&cidrs_path, line, "an IPv4 CIDR on each line"))
                .collect::<Result<_, _>>()?,
            primary_eni: EniId::new(text(&of_eni("interface-id")).await?),
            primary_mac: mac,
            // An ENI's own address comes first.
            primary_address: {
                let all = text(&addresses_path).await?;
                let first = all.lines().next().unwrap_or_default();
                parse(&addresses_path, first, "an IPv4 address on each line")?
            },
            subnet_id: SubnetId::new(text(&of_eni("subnet-id")).await?),
            subnet_cidr: parse(&subnet_path, &text(&subnet_path).await?, "an IPv4 CIDR")?,
            security_groups: text(&of_eni("security-group-ids"))
                .await?
                .lines()
                .map(SecurityGroupId::new)
                .collect(),
        })
    }

    /// Asks what a node must know of itself where pods get IPv6, for at most `patience`.
    ///
    /// # Errors
    /// As [`Metadata::node`].
    pub async fn ipv6(&self, primary: Mac, patience: Duration) -> Result<Ipv6Facts, MetadataError> {
        let deadline = Instant::now() + patience;
        let of_eni = |leaf: &str| format!("network/interfaces/macs/{primary}/{leaf}");
        let (addresses, cidrs) = (of_eni("ipv6s"), of_eni("subnet-ipv6-cidr-blocks"));
        Ok(Ipv6Facts {
            address: self
                .first_line(&addresses, "an IPv6 address on each line", deadline)
                .await?,
            subnet_cidr: self
                .first_line(&cidrs, "an IPv6 CIDR on each line", deadline)
                .await?,
        })
    }

    /// None where there is no such path.
    async fn first_line<T: FromStr>(
        &self,
        path: &str,
        expected: &'static str,
        deadline: Instant,
    ) -> Result<Option<T>, MetadataError> {
        let said = self.patiently(path, deadline).await?.unwrap_or_default();
        let first = said.lines().next();
        first.map(|line| parse(path, line, expected)).transpose()
    }

    /// The VPC's IPv4 CIDRs, as the primary ENI shows them; none when IMDS does not tell within `patience`, or makes no
    /// sense. It may lag behind EC2.
    pub async fn vpc_cidrs(&self, primary: Mac, patience: Duration) -> Option<Vec<Ipv4Net>> {
        let path = format!("network/interfaces/macs/{primary}/vpc-ipv4-cidr-blocks");
        let text = tokio::time::timeout(patience, self.get(&path)).await;
        let cidrs: Option<Vec<_>> = text
            .ok()?
            .ok()??
            .lines()
            .map(|line| line.parse().ok())
            .collect();
        // A VPC has one at the least.
        cidrs.filter(|cidrs| !cidrs.is_empty())
    }

    /// The ENIs that IMDS shows, with what they hold; none when it can't be read within `patience`, or makes no sense.
    /// It may lag behind EC2.
    pub async fn enis(&self, patience: Duration) -> Option<Vec<SeenEni>> {
        tokio::time::timeout(patience, self.read_enis())
            .await
            .ok()
            .flatten()
    }

    /// The security groups of an ENI; none when they can't be read within `patience`. They may lag behind EC2.
    pub async fn security_groups(
        &self,
        mac: Mac,
        patience: Duration,
    ) -> Option<Vec<SecurityGroupId>> {
        let path = format!("network/interfaces/macs/{mac}/security-group-ids");
        let said = tokio::time::timeout(patience, self.get(&path)).await;
        let said = said.ok()?.ok()??;
        Some(said.lines().map(SecurityGroupId::new).collect())
    }

    async fn read_enis(&self) -> Option<Vec<SeenEni>> {
        let macs = self.get("network/interfaces/macs").await.ok()??;
        let mut enis = Vec::new();
        for mac in macs.lines().map(|line| line.trim_end_matches('/')) {
            // An ENI without an address of a kind has no such leaf.
            let leaf = async |leaf: &str| {
                let path = format!("network/interfaces/macs/{mac}/{leaf}");
                self.get(&path).await.ok()
            };
            let number = |text: Option<String>| text.map_or(Some(0), |text| text.parse().ok());
            let place = Place {
                card: number(leaf("network-card").await?)?,
                device_index: number(leaf("device-number").await?)?,
            };
            let addresses = leaf("local-ipv4s").await?.unwrap_or_default();
            // Its own address comes first, and is no pod's.
            let addresses = addresses.lines().skip(1).map(|line| format!("{line}/32"));
            let prefixes = leaf("ipv4-prefix").await?.unwrap_or_default();
            let ipv6 = leaf("ipv6-prefix").await?.unwrap_or_default();
            let slots = addresses
                .chain(prefixes.lines().map(str::to_owned))
                .chain(ipv6.lines().map(str::to_owned))
                .map(|net| net.parse().ok())
                .collect::<Option<_>>()?;
            let mac = mac.parse().ok()?;
            enis.push(SeenEni { mac, place, slots });
        }
        Some(enis)
    }

    /// The CIDR of the subnet of one of the instance's ENIs; none when IMDS does not show that ENI (yet).
    pub(crate) async fn subnet_cidr(&self, mac: Mac) -> Option<Ipv4Net> {
        let path = format!("network/interfaces/macs/{mac}/subnet-ipv4-cidr-block");
        let text = self.get(&path).await.ok()??;
        text.parse().ok()
    }

    async fn required(&self, path: &str, deadline: Instant) -> Result<String, MetadataError> {
        let absent = || MetadataError::Absent {
            path: path.to_owned(),
        };
        self.patiently(path, deadline).await?.ok_or_else(absent)
    }

    /// Asks until there is an answer, good or bad, or no time left.
    async fn patiently(
        &self,
        path: &str,
        deadline: Instant,
    ) -> Result<Option<String>, MetadataError> {
        let (mut pause, longest) = BACKOFF;
        let begun = Instant::now();
        loop {
            let reason = match self.get(path).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(status)) => {
                    return Err(MetadataError::Refused {
                        path: path.to_owned(),
                        status,
                    });
                }
                Err(Failure::Transient(reason)) => reason,
            };
            let wait = jittered(pause);
            if Instant::now() + wait >= deadline {
                return Err(MetadataError::Unreachable {
                    waited: Duration::from_millis(
                        u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                    ),
                    reason,
                });
            }
            tracing::warn!(path, %reason, again_in = ?wait, "the instance metadata service does not answer");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Asks once; none is HTTP's 404.
    async fn get(&self, path: &str) -> Result<Option<String>, Failure> {
        match self.client.get(format!("/latest/meta-data/{path}")).await {
            Ok(text) => Ok(Some(text.as_ref().trim_end().to_owned())),
            Err(ImdsError::ErrorResponse(response)) => {
                match response.response().status().as_u16() {
                    404 => Ok(None),
                    // 401: the token has expired; the client fetches another.
                    status @ (401 | 500..) => {
                        Err(Failure::Transient(format!("HTTP status {status}")))
                    }
                    status => Err(Failure::Final(status)),
                }
            }
            Err(ImdsError::FailedToLoadToken(error)) if !error.is_dispatch_failure() => {
                let error = ImdsError::FailedToLoadToken(error);
                Err(Failure::Transient(sentence(&error)))
            }
            Err(error) => Err(Failure::Transient(sentence(&error))),
        }
    }
}

enum Failure {
    Transient(String),
    Final(u16),
}

/// An error and its causes, without the SDK's debugging output behind them.
fn sentence(error: &ImdsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    tracing::debug!(error = %DisplayErrorContext(error), "IMDS request failed");
    text
}

fn parse<T: FromStr>(path: &str, value: &str, expected: &'static str) -> Result<T, MetadataError> {
    value.trim().parse().map_err(|_| MetadataError::Malformed {
        path: path.to_owned(),
        value: value.to_owned(),
        expected,
    })
}
