//! The EC2 API: carries out the pool's calls.

mod orphans;
mod tracking;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_ec2::types::{
    ConnectionTrackingConfiguration, Filter, InstanceType, InstanceTypeHypervisor, NetworkCardInfo,
    NetworkInterface, NetworkInterfaceAttachmentChanges, ResourceType, Tag, TagSpecification,
};
use aws_smithy_types::date_time::Format;
use ipam::{
    AttachmentId, Call, CallError, CallErrorKind, CallReply, ClientToken, EniFacts, EniId,
    InstanceId, InstanceLimits, Mac, SecurityGroupId, SlotKind, SubnetFacts, SubnetId, VpcId,
};
use ipnet::{IpNet, Ipv4Net};

use crate::classify::{Effect, ThrottlesAreThePools, call_error};
use crate::facts::{
    OWNER, TAG_CLUSTER, TAG_CREATED_AT, TAG_INSTANCE, TAG_OWNER, TAG_TOKEN, Whose, facts_of, place,
    whose,
};
use crate::http::{Http, HttpError};
use crate::metadata::{Metadata, NodeFacts};

/// How long and how often a call is tried. A waiting ADD has 60 s, so the whole stays below that.
struct Patience {
    attempts: u32,
    attempt: Duration,
    whole: Duration,
}

const READS: Patience = Patience {
    attempts: 4,
    attempt: Duration::from_secs(6),
    whole: Duration::from_secs(25),
};
const MUTATIONS: Patience = Patience {
    attempts: 3,
    attempt: Duration::from_secs(10),
    whole: Duration::from_secs(40),
};
/// The most that one page may hold; an instance has fewer ENIs, so one page is the rule.
const PAGE: i32 = 1000;

/// What all calls have in common.
#[derive(Clone, Debug)]
pub struct Ec2Identity {
    /// The instance whose ENIs these are.
    pub instance_id: InstanceId,
    /// Its primary ENI: new ones get its time-outs of connection tracking.
    pub primary_eni: EniId,
    /// Its VPC: ENIs that nobody will delete are looked for in no other.
    pub vpc_id: VpcId,
    /// The cluster, for tags (`CLUSTER_NAME`).
    pub cluster_name: Option<String>,
    /// What users put on new ENIs beside our tags (`ADDITIONAL_ENI_TAGS`).
    pub additional_tags: BTreeMap<String, String>,
    /// Whether pods may have the addresses of ENIs that somebody else has attached (`MANAGE_UNTAGGED_ENI`).
    pub manage_untagged: bool,
}

/// A client of the EC2 API for one instance.
///
/// Reads and mutations have clients of their own, so that failing reads leave the mutations their retries.
/// Retries are the SDK's standard ones and bounded. A call that is not idempotent (Assign, Attach, Create) is not repeated:
/// what it did is the caller's to find out, by [`CallErrorKind::Unknown`]. A throttled call of the pool is not repeated
/// either: the pool's [`ipam::Governor`] slows down for it, and must hear of each.
#[derive(Debug)]
pub struct Ec2 {
    /// DescribeNetworkInterfaces.
    describes: Client,
    /// The reads that others wait for.
    reads: Client,
    mutations: Client,
    metadata: Metadata,
    identity: Ec2Identity,
    /// The node's VPC and zone.
    network: (VpcId, String),
    known: Mutex<Known>,
}

/// What EC2 has said and does not change by itself.
#[derive(Debug, Default)]
struct Known {
    /// A subnet keeps its CIDR for life.
    subnets: BTreeMap<SubnetId, Ipv4Net>,
    /// An ENI keeps its own address for life.
    own_addresses: BTreeMap<EniId, Ipv4Addr>,
    /// What EC2 last said of the primary ENI, if it has: its connection tracking, where that is not EC2's default.
    tracking: Option<Option<ConnectionTrackingConfiguration>>,
}

impl Ec2 {
    /// A client with region, endpoint, credentials and proxy from the SDK's environment and chain, and with the
    /// certificates of `AWS_CA_BUNDLE`.
    ///
    /// # Errors
    /// When `AWS_CA_BUNDLE` is set to what can't be used.
    pub async fn from_env(
        node: &NodeFacts,
        identity: Ec2Identity,
        metadata: Metadata,
    ) -> Result<Self, HttpError> {
        let shared = aws_config::defaults(crate::behavior_version())
            .http_client(Http::from_env()?)
            .load()
            .await;
        let client = |partition: &'static str, patience: &Patience, pools: bool| {
            let mut config = aws_sdk_ec2::config::Builder::from(&shared)
                .retry_partition(RetryPartition::custom(partition).build())
                .retry_config(
                    RetryConfig::standard()
                        .with_max_attempts(patience.attempts)
                        .with_initial_backoff(Duration::from_millis(200))
                        .with_max_backoff(Duration::from_secs(5)),
                )
                .timeout_config(
                    TimeoutConfig::builder()
                        .connect_timeout(Duration::from_secs(3))
                        .operation_attempt_timeout(patience.attempt)
                        .operation_timeout(patience.whole)
                        .build(),
                );
            if pools {
                config = config.retry_classifier(ThrottlesAreThePools);
            }
            Client::from_conf(config.build())
        };
        Ok(Self {
            describes: client("weir-describes", &READS, true),
            reads: client("weir-reads", &READS, false),
            mutations: client("weir-mutations", &MUTATIONS, true),
            metadata,
            identity,
            network: (node.vpc_id.clone(), node.availability_zone.clone()),
            known: Mutex::new(Known {
                subnets: BTreeMap::from([(node.subnet_id.clone(), node.subnet_cidr)]),
                own_addresses: BTreeMap::from([(node.primary_eni.clone(), node.primary_address)]),
                tracking: None,
            }),
        })
    }

    /// The CIDRs of subnets that were told before a restart: EC2 need not be asked for them again.
    pub fn remember_subnets(&self, told: impl IntoIterator<Item = (SubnetId, Ipv4Net)>) {
        self.known().subnets.extend(told);
    }

    /// Asks EC2 what an instance type allows; for types that [`limits_of`](crate::limits_of) does not know.
    ///
    /// # Errors
    /// When EC2 does not answer, or does not know the type either.
    pub async fn instance_limits(&self, instance_type: &str) -> Result<InstanceLimits, CallError> {
        const ACTION: &str = "DescribeInstanceTypes";
        let answer = self
            .reads
            .describe_instance_types()
            .instance_types(InstanceType::from(instance_type))
            .send()
            .await
            .map_err(|error| call_error(ACTION, Effect::Reads, &error))?;
        answer
            .instance_types()
            .first()
            .and_then(|kind| Some((kind, kind.network_info()?)))
            .and_then(|(kind, network)| {
                let number = |value: Option<i32>| u32::try_from(value?).ok();
                let mut cards: Vec<_> = network.network_cards().iter().collect();
                cards.sort_by_key(|card| card.network_card_index());
                let cards = cards
                    .into_iter()
                    .map(NetworkCardInfo::maximum_network_interfaces);
                let mut enis_per_card = cards.map(number).collect::<Option<Vec<_>>>()?;
                if enis_per_card.is_empty() {
                    enis_per_card.push(number(network.maximum_network_interfaces())?);
                }
                Some(InstanceLimits {
                    enis_per_card,
                    ipv4_slots_per_eni: number(network.ipv4_addresses_per_interface())?,
                    ipv6_slots_per_eni: number(network.ipv6_addresses_per_interface())?,
                    prefixes: kind.hypervisor() == Some(&InstanceTypeHypervisor::Nitro)
                        || kind.bare_metal() == Some(true),
                })
            })
            .ok_or_else(|| {
                strange(
                    ACTION,
                    &format!("no network limits for {instance_type}"),
                    Effect::Reads,
                )
            })
    }

    /// Carries out one call of the pool.
    ///
    /// # Errors
    /// EC2's refusal or silence, classified, with EC2's own words and request id.
    pub async fn call(&self, call: &Call) -> Result<CallReply, CallError> {
        let action = call.action();
        match call {
            Call::DescribeEnis => self.describe().await.map(CallReply::Enis),
            Call::DescribeOrphans(whose) => {
                self.orphans(action, *whose).await.map(CallReply::Orphans)
            }
            Call::DescribeSubnets => self.describe_subnets().await.map(CallReply::Subnets),
            Call::CreateEni {
                token,
                subnet,
                groups,
                ipv4,
                ipv6_prefixes,
            } => self
                .create(token, subnet, groups, *ipv4, *ipv6_prefixes)
                .await
                .map(CallReply::Created),
            Call::AttachEni { eni, place } => {
                let answer = self
                    .mutations
                    .attach_network_interface()
                    .network_interface_id(eni.as_str())
                    .instance_id(self.identity.instance_id.as_str())
                    .device_index(number(place.device_index))
                    // Not named unless it must be: EC2 knows the type's default.
                    .set_network_card_index((place.card > 0).then(|| number(place.card)))
                    .customize()
                    .config_override(once())
                    .send()
                    .await
                    .map_err(mutation(action))?;
                let attachment = answer
                    .attachment_id()
                    .ok_or_else(|| strange(action, "no attachment id", Effect::Mutates))?;
                Ok(CallReply::Attached(AttachmentId::new(attachment)))
            }
            Call::DeleteOnTermination { eni, attachment } => {
                self.mutations
                    .modify_network_interface_attribute()
                    .network_interface_id(eni.as_str())
                    .attachment(
                        NetworkInterfaceAttachmentChanges::builder()
                            .attachment_id(attachment.as_str())
                            .delete_on_termination(true)
                            .build(),
                    )
                    .send()
                    .await
                    .map_err(mutation(action))?;
                Ok(CallReply::Done)
            }
            Call::SetGroups { eni, groups } => {
                let groups = groups.iter().map(|group| group.as_str().to_owned());
                self.mutations
                    .modify_network_interface_attribute()
                    .network_interface_id(eni.as_str())
                    .set_groups(Some(groups.collect()))
                    .send()
                    .await
                    .map_err(mutation(action))?;
                Ok(CallReply::Done)
            }
            Call::Assign { eni, kind, count } => self
                .assign(action, eni, *kind, number(*count))
                .await
                .map(CallReply::Assigned),
            Call::Unassign { eni, slots } => {
                self.unassign(action, eni, slots).await?;
                Ok(CallReply::Done)
            }
            Call::DetachEni { attachment, .. } => {
                self.mutations
                    .detach_network_interface()
                    .attachment_id(attachment.as_str())
                    .customize()
                    .config_override(once())
                    .send()
                    .await
                    .map_err(mutation(action))?;
                Ok(CallReply::Done)
            }
            Call::DeleteEni { eni } | Call::DeleteOrphan { eni } => {
                self.mutations
                    .delete_network_interface()
                    .network_interface_id(eni.as_str())
                    .send()
                    .await
                    .map_err(mutation(action))?;
                Ok(CallReply::Done)
            }
        }
    }

    /// EC2 answers with the new ones alone, LocalStack and moto with all of the ENI, its own address included.
    /// That one must not get to pods; the pool passes over the others that it knows.
    async fn assign(
        &self,
        action: &'static str,
        eni: &EniId,
        kind: SlotKind,
        count: i32,
    ) -> Result<Vec<IpNet>, CallError> {
        if kind == SlotKind::Ipv6Prefix {
            let answer = self
                .mutations
                .assign_ipv6_addresses()
                .network_interface_id(eni.as_str())
                .ipv6_prefix_count(count)
                .customize()
                .config_override(once())
                .send()
                .await
                .map_err(mutation(action))?;
            let prefixes = answer.assigned_ipv6_prefixes().iter();
            return Ok(prefixes.filter_map(|prefix| prefix.parse().ok()).collect());
        }
        let request = self
            .mutations
            .assign_private_ip_addresses()
            .network_interface_id(eni.as_str());
        let request = match kind {
            SlotKind::Prefix => request.ipv4_prefix_count(count),
            _ => request.secondary_private_ip_address_count(count),
        };
        let answer = request
            .customize()
            .config_override(once())
            .send()
            .await
            .map_err(mutation(action))?;
        let own = self.known().own_addresses.get(eni).copied();
        let addresses = answer
            .assigned_private_ip_addresses()
            .iter()
            .filter_map(|assigned| assigned.private_ip_address()?.parse::<Ipv4Addr>().ok())
            .filter(|address| Some(*address) != own)
            .map(|address| IpNet::from(IpAddr::V4(address)));
        let prefixes = answer
            .assigned_ipv4_prefixes()
            .iter()
            .filter_map(|assigned| assigned.ipv4_prefix()?.parse().ok());
        Ok(addresses.chain(prefixes).collect())
    }

    async fn unassign(
        &self,
        action: &'static str,
        eni: &EniId,
        slots: &[IpNet],
    ) -> Result<(), CallError> {
        let of = |kind: SlotKind| {
            let slots = slots.iter().filter(|net| SlotKind::of(net) == kind);
            let texts: Vec<String> = slots
                .map(|net| match kind {
                    SlotKind::Address => net.addr().to_string(),
                    SlotKind::Prefix | SlotKind::Ipv6Prefix => net.to_string(),
                })
                .collect();
            (!texts.is_empty()).then_some(texts)
        };
        if let Some(prefixes) = of(SlotKind::Ipv6Prefix) {
            self.mutations
                .unassign_ipv6_addresses()
                .network_interface_id(eni.as_str())
                .set_ipv6_prefixes(Some(prefixes))
                .customize()
                .config_override(once())
                .send()
                .await
                .map_err(mutation(action))?;
            return Ok(());
        }
        self.mutations
            .unassign_private_ip_addresses()
            .network_interface_id(eni.as_str())
            .set_private_ip_addresses(of(SlotKind::Address))
            .set_ipv4_prefixes(of(SlotKind::Prefix))
            .customize()
            .config_override(once())
            .send()
            .await
            .map_err(mutation(action))?;
        Ok(())
    }

    async fn describe(&self) -> Result<Vec<EniFacts>, CallError> {
        self.describe_by("attachment.instance-id", self.identity.instance_id.as_str())
            .await
    }

    async fn describe_by(&self, filter: &str, value: &str) -> Result<Vec<EniFacts>, CallError> {
        const ACTION: &str = "DescribeNetworkInterfaces";
        let mut pages = self
            .describes
            .describe_network_interfaces()
            .filters(Filter::builder().name(filter).values(value).build())
            .into_paginator()
            .page_size(PAGE)
            .send();
        let mut enis = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(ACTION, Effect::Reads, &error))?;
            for eni in page.network_interfaces() {
                enis.push(self.complete(ACTION, Effect::Reads, eni).await?);
            }
        }
        Ok(enis)
    }

    /// Their CIDRs are remembered: so a new ENI in one of them needs no further question.
    async fn describe_subnets(&self) -> Result<Vec<SubnetFacts>, CallError> {
        const ACTION: &str = "DescribeSubnets";
        let (vpc, zone) = &self.network;
        let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
        let mut pages = self
            .describes
            .describe_subnets()
            .filters(filter("vpc-id", vpc.as_str()))
            .filters(filter("availability-zone", zone))
            .into_paginator()
            .page_size(PAGE)
            .send();
        let mut subnets = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(ACTION, Effect::Reads, &error))?;
            for subnet in page.subnets() {
                // One of IPv6 alone has no such CIDR.
                let cidr: Option<Ipv4Net> = subnet.cidr_block().and_then(|it| it.parse().ok());
                let (Some(id), Some(cidr)) = (subnet.subnet_id(), cidr) else {
                    continue;
                };
                let id = SubnetId::new(id);
                self.known().subnets.insert(id.clone(), cidr);
                let tags = subnet.tags().iter();
                let tag = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
                subnets.push(SubnetFacts {
                    id,
                    free: u32::try_from(subnet.available_ip_address_count().unwrap_or(0))
                        .unwrap_or(0),
                    tags: tags.filter_map(tag).collect(),
                });
            }
        }
        Ok(subnets)
    }

    async fn create(
        &self,
        token: &ClientToken,
        subnet: &SubnetId,
        groups: &[SecurityGroupId],
        ipv4: Option<(SlotKind, u32)>,
        ipv6_prefixes: u32,
    ) -> Result<EniFacts, CallError> {
        const ACTION: &str = "CreateNetworkInterface";
        let mut request = self
            .mutations
            .create_network_interface()
            .client_token(token.as_str())
            .subnet_id(subnet.as_str())
            .set_groups(Some(
                groups
                    .iter()
                    .map(|group| group.as_str().to_owned())
                    .collect(),
            ))
            .description(format!("aws-K8S-{}", self.identity.instance_id))
            .set_connection_tracking_specification(self.tracking().await?)
            .tag_specifications(self.tags(token));
        match ipv4.filter(|(_, slots)| *slots > 0) {
            Some((SlotKind::Prefix, slots)) => {
                request = request.ipv4_prefix_count(number(slots));
            }
            Some((_, slots)) => {
                request = request.secondary_private_ip_address_count(number(slots));
            }
            None => {}
        }
        if ipv6_prefixes > 0 {
            request = request.ipv6_prefix_count(number(ipv6_prefixes));
        }
        match request.customize().config_override(once()).send().await {
            Ok(answer) => {
                let eni = answer
                    .network_interface()
                    .ok_or_else(|| strange(ACTION, "no network interface", Effect::Mutates))?;
                let facts = self.complete(ACTION, Effect::Mutates, eni).await;
                facts.map_err(unknown)
            }
            Err(error) => {
                let error = call_error(ACTION, Effect::Mutates, &error);
                if error.code != "IdempotentParameterMismatch" {
                    return Err(error);
                }
                // Made before a restart, with another `createdAt`: the token has been used, so it exists.
                let by_token = format!("tag:{TAG_TOKEN}");
                let made = self.describe_by(&by_token, token.as_str()).await;
                made.map_err(unknown)?.pop().ok_or(error)
            }
        }
    }

    /// The same tags as aws-node's, so that its tools and policies know our ENIs.
    fn tags(&self, token: &ClientToken) -> TagSpecification {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let now = aws_smithy_types::DateTime::from_secs(i64::try_from(now).unwrap_or(i64::MAX))
            .fmt(Format::DateTime)
            .unwrap_or_default();
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let mut tags = TagSpecification::builder()
            .resource_type(ResourceType::NetworkInterface)
            .tags(tag(TAG_INSTANCE, self.identity.instance_id.as_str()))
            .tags(tag(TAG_CREATED_AT, &now))
            .tags(tag(TAG_TOKEN, token.as_str()));
        if let Some(cluster) = &self.identity.cluster_name {
            tags = tags
                .tags(tag(TAG_CLUSTER, cluster))
                .tags(tag(TAG_OWNER, OWNER));
        }
        for (key, value) in &self.identity.additional_tags {
            tags = tags.tags(tag(key, value));
        }
        tags.build()
    }

    async fn complete(
        &self,
        action: &'static str,
        effect: Effect,
        eni: &NetworkInterface,
    ) -> Result<EniFacts, CallError> {
        self.note_tracking(eni);
        let wrong = |what: String| strange(action, &what, effect);
        let (instance, untagged) = (&self.identity.instance_id, self.identity.manage_untagged);
        let (subnet, mac) = place(eni).map_err(wrong)?;
        let cidr = match self.known_cidr(&subnet, mac).await {
            Some(cidr) => Some(cidr),
            None if whose(eni, instance, untagged) != Whose::NotForPods => {
                Some(self.subnet_cidr(&subnet).await?)
            }
            None => None,
        };
        let facts = facts_of(eni, cidr, instance, untagged).map_err(wrong)?;
        self.known()
            .own_addresses
            .insert(facts.id.clone(), facts.primary_address);
        Ok(facts)
    }

    /// Known for the primary ENI's subnet. For another, IMDS tells it of an attached ENI.
    async fn known_cidr(&self, subnet: &SubnetId, mac: Mac) -> Option<Ipv4Net> {
        if let Some(cidr) = self.known().subnets.get(subnet) {
            return Some(*cidr);
        }
        let cidr = self.metadata.subnet_cidr(mac).await?;
        self.known().subnets.insert(subnet.clone(), cidr);
        Some(cidr)
    }

    /// EC2 is asked, once.
    async fn subnet_cidr(&self, subnet: &SubnetId) -> Result<Ipv4Net, CallError> {
        const ACTION: &str = "DescribeSubnets";
        let answer = self
            .reads
            .describe_subnets()
            .subnet_ids(subnet.as_str())
            .send()
            .await
            .map_err(|error| call_error(ACTION, Effect::Reads, &error))?;
        let cidr = answer
            .subnets()
            .first()
            .and_then(|found| found.cidr_block()?.parse().ok())
            .ok_or_else(|| strange(ACTION, &format!("no CIDR for {subnet}"), Effect::Reads))?;
        self.known().subnets.insert(subnet.clone(), cidr);
        Ok(cidr)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// For calls that are not idempotent: no second attempt.
///
/// AssignPrivateIpAddresses by count and AttachNetworkInterface carry no token. CreateNetworkInterface does, but what
/// EC2 says to the second attempt may be a refusal (no room, no credentials) that says nothing of the first, and the
/// SDK tells the last answer alone. The pool settles what is unknown by a Describe, or by asking again with the same
/// token.
fn once() -> aws_sdk_ec2::config::Builder {
    aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled())
}

/// As EC2's API has numbers; no limit of EC2's comes near the bound.
fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn mutation<E>(action: &'static str) -> impl Fn(SdkError<E>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
    SdkError<E>: RequestId,
{
    move |error| call_error(action, Effect::Mutates, &error)
}

/// A read that failed after the mutation that it belongs to.
fn unknown(error: CallError) -> CallError {
    CallError {
        kind: CallErrorKind::Unknown,
        ..error
    }
}

/// An answer that says yes but lacks what it must have.
fn strange(action: &'static str, what: &str, effect: Effect) -> CallError {
    CallError {
        kind: match effect {
            Effect::Reads => CallErrorKind::Unavailable,
            Effect::Mutates => CallErrorKind::Unknown,
        },
        action,
        code: "Response".to_owned(),
        message: format!("EC2's answer is incomplete: {what}"),
        request_id: None,
    }
}
