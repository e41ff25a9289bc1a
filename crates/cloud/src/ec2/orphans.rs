//! ENIs that are attached to nothing, for the pool to tell which of them nobody will delete.

use std::time::{Duration, SystemTime};

use aws_sdk_ec2::types::{AttachmentStatus, Filter, NetworkInterface, NetworkInterfaceStatus};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use ipam::{CallError, ClientToken, EniId, InstanceId, LooseEni, VpcId, Whose};

use super::{Ec2, PAGE};
use crate::classify::{Effect, call_error};
use crate::facts::{
    OWNER, TAG_CLUSTER, TAG_CREATED_AT, TAG_INSTANCE, TAG_NO_MANAGE, TAG_OWNER, TAG_TOKEN, tag,
};

impl Ec2 {
    /// Asks for as little as EC2's filters can tell apart; the pool looks at each again.
    pub(super) async fn orphans(
        &self,
        action: &'static str,
        whose: Whose,
    ) -> Result<Vec<LooseEni>, CallError> {
        let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
        let of = |key: &str, value: &str| filter(&format!("tag:{key}"), value);
        let mut request = self
            .describes
            .describe_network_interfaces()
            .filters(filter("vpc-id", self.identity.vpc_id.as_str()));
        request = match (whose, &self.identity.cluster_name) {
            (Whose::Instance, _) => {
                request.filters(of(TAG_INSTANCE, self.identity.instance_id.as_str()))
            }
            (Whose::Cluster, Some(cluster)) => request
                .filters(filter("status", "available"))
                .filters(filter("tag-key", TAG_INSTANCE))
                .filters(of(TAG_CLUSTER, cluster))
                .filters(of(TAG_OWNER, OWNER)),
            // The pool does not ask: nothing would tell them from those of others.
            (Whose::Cluster, None) => return Ok(Vec::new()),
        };
        let mut pages = request.into_paginator().page_size(PAGE).send();
        let now = SystemTime::now();
        let mut enis = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(action, Effect::Reads, &error))?;
            // One that can't be told is nobody's to delete.
            let told = page.network_interfaces().iter();
            enis.extend(told.filter_map(|eni| loose(eni, now)));
        }
        Ok(enis)
    }
}

fn loose(eni: &NetworkInterface, now: SystemTime) -> Option<LooseEni> {
    let tag = |key: &str| tag(eni, key);
    let available = eni.status() == Some(&NetworkInterfaceStatus::Available);
    let at = eni.attachment().and_then(|at| at.status());
    Some(LooseEni {
        id: EniId::new(eni.network_interface_id()?),
        vpc_id: VpcId::new(eni.vpc_id()?),
        available: available && eni.attachment().is_none(),
        going: eni.status() == Some(&NetworkInterfaceStatus::from("pending"))
            || at == Some(&AttachmentStatus::Detaching),
        description: eni.description().unwrap_or_default().to_owned(),
        instance: tag(TAG_INSTANCE).map(InstanceId::new),
        cluster: tag(TAG_CLUSTER).map(str::to_owned),
        owner: tag(TAG_OWNER).map(str::to_owned),
        token: tag(TAG_TOKEN).map(ClientToken::new),
        no_manage: tag(TAG_NO_MANAGE).is_some_and(|value| value != "false"),
        age: tag(TAG_CREATED_AT).and_then(|text| age(text, now)),
    })
}

/// None when it makes no sense, or is yet to come.
fn age(created_at: &str, now: SystemTime) -> Option<Duration> {
    let created_at = DateTime::from_str(created_at, Format::DateTimeWithOffset).ok()?;
    now.duration_since(SystemTime::try_from(created_at).ok()?)
        .ok()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{NetworkInterfaceAttachment, Tag};

    use super::*;

    #[test]
    fn the_age_is_read_as_aws_node_and_we_write_it_and_never_guessed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        for (text, seconds) in [
            ("2025-06-15T15:06:40Z", Some(0)),
            ("2025-06-15T15:05:40.000Z", Some(60)),
            ("2025-06-15T16:05:40+01:00", Some(60)),
            // A clock that is ahead.
            ("2025-06-15T15:06:41Z", None),
            ("", None),
            ("yesterday", None),
            ("1750000000", None),
        ] {
            assert_eq!(age(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn an_eni_that_is_being_detached_is_going_and_one_that_is_attached_is_not() {
        let with = |status| {
            let at = NetworkInterfaceAttachment::builder().status(status).build();
            let eni = NetworkInterface::builder().network_interface_id("eni-1");
            let eni = eni.vpc_id("vpc-1").attachment(at);
            loose(&eni.build(), SystemTime::now()).unwrap().going
        };
        assert!(with(AttachmentStatus::Detaching));
        assert!(!with(AttachmentStatus::Attached));
    }

    #[test]
    fn an_eni_is_loose_only_where_ec2_says_available_and_names_no_attachment() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let bare = NetworkInterface::builder()
            .network_interface_id("eni-1")
            .vpc_id("vpc-1")
            .description("aws-K8S-i-1");
        let told = |eni: NetworkInterface| loose(&eni, SystemTime::now()).unwrap();
        let available = bare.clone().status(NetworkInterfaceStatus::Available);
        assert!(told(available.clone().build()).available);
        assert!(!told(bare.clone().build()).available);
        let attached = NetworkInterfaceAttachment::builder().build();
        assert!(!told(available.clone().attachment(attached).build()).available);
        for (value, no_manage) in [("true", true), ("", true), ("yes", true), ("false", false)] {
            let eni = available.clone().tag_set(tag(TAG_NO_MANAGE, value)).build();
            assert_eq!(told(eni).no_manage, no_manage, "{value:?}");
        }
        let tagged = available
            .tag_set(tag(TAG_INSTANCE, "i-1"))
            .tag_set(tag(TAG_CLUSTER, "one"))
            .tag_set(tag(TAG_OWNER, OWNER))
            .tag_set(tag(TAG_TOKEN, "weir-1"));
        let told = told(tagged.build());
        assert_eq!(told.instance, Some(InstanceId::new("i-1")));
        assert_eq!(told.cluster.as_deref(), Some("one"));
        assert_eq!(told.owner.as_deref(), Some(OWNER));
        assert_eq!(told.token, Some(ClientToken::new("weir-1")));
        assert_eq!(told.age, None);
    }
}
