//! New ENIs, with all that they are to have.

use std::time::SystemTime;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use aws_smithy_types::date_time::Format;
use ipam::{CallError, ClientToken, EniFacts, SecurityGroupId, SlotKind, SubnetId};

use super::{Ec2, number, once, strange, unknown};
use crate::classify::{Effect, call_error};
use crate::facts::{OWNER, TAG_CLUSTER, TAG_CREATED_AT, TAG_INSTANCE, TAG_OWNER, TAG_TOKEN};

impl Ec2 {
    pub(super) async fn create(
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
    pub(super) fn tags(&self, token: &ClientToken) -> TagSpecification {
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
}
