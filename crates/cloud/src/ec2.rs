//! The EC2 API: carries out the pool's calls.

mod create;
mod limits;
mod orphans;
mod slots;
mod subnets;
mod tracking;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_ec2::types::{
    ConnectionTrackingConfiguration, Filter, NetworkInterface, NetworkInterfaceAttachmentChanges,
};
use ipam::{
    AttachmentId, Call, CallError, CallErrorKind, CallReply, EniFacts, EniId, InstanceId, SubnetId,
    VpcId,
};
use ipnet::Ipv4Net;

use crate::classify::{Effect, ThrottlesAreThePools, call_error};
use crate::facts::{Whose, facts_of, place, whose};
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
