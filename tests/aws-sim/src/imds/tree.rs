//! The tree of metadata, built for one instance at one moment. What an instance does not have is not in it: IMDS
//! answers 404 for an empty list.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::actions::IMAGE;
use crate::ids::{InstanceId, mix};
use crate::time::{SimTime, iso8601};
use crate::world::{Eni, Instance, InstanceState, Vpc, World};

/// A directory or a leaf.
#[derive(Debug)]
pub(super) enum Node {
    Directory(BTreeMap<String, Node>),
    Text(String),
    Json(serde_json::Value),
}

impl Node {
    pub(super) fn child(&self, step: &str) -> Option<&Node> {
        match self {
            Node::Directory(children) => children.get(step),
            Node::Text(_) | Node::Json(_) => None,
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Node::Directory(_) | Node::Text(_) => "text/plain",
            Node::Json(_) => "application/json",
        }
    }

    /// A directory is the list of its entries, those that are directories with a slash.
    pub(super) fn text(&self) -> String {
        match self {
            Node::Text(text) => text.clone(),
            Node::Json(value) => format!("{value:#}"),
            Node::Directory(children) => {
                let names = children.iter().map(|(name, child)| match child {
                    Node::Directory(_) => format!("{name}/"),
                    Node::Text(_) | Node::Json(_) => name.clone(),
                });
                names.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

fn directory<const N: usize>(children: [(&str, Option<Node>); N]) -> Node {
    let children = children.into_iter();
    Node::Directory(
        children
            .filter_map(|(name, node)| Some((name.to_owned(), node?)))
            .collect(),
    )
}

fn text(value: impl std::fmt::Display) -> Option<Node> {
    Some(Node::Text(value.to_string()))
}

/// One per line; nothing for none.
fn lines<T: ToString>(values: impl IntoIterator<Item = T>) -> Option<Node> {
    let lines: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    (!lines.is_empty()).then(|| Node::Text(lines.join("\n")))
}

/// The tree of an instance; `None` when there is no such instance any more.
pub(super) fn of(world: &World, now: SimTime, id: &InstanceId) -> Option<Node> {
    let instance = world.instance(id)?;
    if instance.state == InstanceState::Terminated {
        return None;
    }
    // The instance was born with its primary ENI: the lag does not hide that.
    let then = now.minus(world.config.imds_lag).max(instance.launched_at);
    let mut enis: Vec<&Eni> = world.enis_of_at(id, then).collect();
    enis.sort_by_key(|eni| eni.attachment.as_ref().map(|a| (a.card, a.device_index)));
    let primary = *enis.first()?;
    let region = &world.config.region;
    let macs = enis
        .iter()
        .map(|eni| (eni.mac_text(), interface(world, eni)))
        .collect();
    let public = primary.public_address;
    let meta_data = directory([
        ("ami-id", text(IMAGE)),
        ("hostname", primary.private_dns_name(region).and_then(text)),
        ("iam", iam(world, now, instance)),
        ("instance-id", text(&instance.id)),
        ("instance-life-cycle", text("on-demand")),
        ("instance-type", text(&instance.kind.name)),
        (
            "local-hostname",
            primary.private_dns_name(region).and_then(text),
        ),
        ("local-ipv4", primary.primary.and_then(text)),
        ("mac", text(primary.mac_text())),
        (
            "network",
            Some(directory([(
                "interfaces",
                Some(directory([("macs", Some(Node::Directory(macs)))])),
            )])),
        ),
        (
            "placement",
            Some(directory([
                ("availability-zone", text(&instance.az)),
                ("availability-zone-id", text(world.az_id(&instance.az))),
                ("region", text(region)),
            ])),
        ),
        (
            "public-hostname",
            public.and_then(|address| text(world.public_dns_name(address))),
        ),
        ("public-ipv4", public.and_then(text)),
        (
            "reservation-id",
            text(instance.id.as_str().replace("i-", "r-")),
        ),
        ("security-groups", group_names(world, primary)),
        (
            "services",
            Some(directory([
                ("domain", text("amazonaws.com")),
                ("partition", text("aws")),
            ])),
        ),
    ]);
    let dynamic = directory([(
        "instance-identity",
        Some(directory([(
            "document",
            Some(identity(world, instance, primary)),
        )])),
    )]);
    Some(directory([
        ("dynamic", Some(dynamic)),
        ("meta-data", Some(meta_data)),
    ]))
}

fn interface(world: &World, eni: &Eni) -> Node {
    let attachment = eni.attachment.as_ref();
    let subnet = world.subnet(&eni.subnet);
    let vpc_cidrs = world.vpc(&eni.vpc).map(Vpc::cidrs).unwrap_or_default();
    let public = eni.public_address;
    let associations = public.zip(eni.primary).map(|(address, private)| {
        let own = [(address.to_string(), Node::Text(private.to_string()))];
        Node::Directory(own.into())
    });
    directory([
        (
            "device-number",
            attachment.and_then(|attachment| text(attachment.device_index)),
        ),
        ("interface-id", text(&eni.id)),
        ("ipv4-associations", associations),
        ("ipv4-prefix", lines(&eni.prefixes)),
        (
            "local-hostname",
            eni.private_dns_name(&world.config.region).and_then(text),
        ),
        ("local-ipv4s", lines(eni.addresses())),
        ("mac", text(eni.mac_text())),
        (
            "network-card",
            attachment.and_then(|attachment| text(attachment.card)),
        ),
        ("owner-id", text(world.owner(&eni.vpc))),
        (
            "public-hostname",
            public.and_then(|address| text(world.public_dns_name(address))),
        ),
        ("public-ipv4s", lines(public)),
        ("security-group-ids", lines(&eni.groups)),
        ("security-groups", group_names(world, eni)),
        ("subnet-id", text(&eni.subnet)),
        (
            "subnet-ipv4-cidr-block",
            subnet.and_then(|subnet| text(subnet.pool.cidr())),
        ),
        ("vpc-id", text(&eni.vpc)),
        ("vpc-ipv4-cidr-block", vpc_cidrs.first().and_then(text)),
        ("vpc-ipv4-cidr-blocks", lines(vpc_cidrs)),
    ])
}

fn group_names(world: &World, eni: &Eni) -> Option<Node> {
    lines(
        eni.groups
            .iter()
            .filter_map(|id| world.group(id))
            .map(|group| &group.name),
    )
}

fn iam(world: &World, now: SimTime, instance: &Instance) -> Option<Node> {
    /// EC2's credentials last six hours, and are renewed before they end.
    const LIFE: Duration = Duration::from_secs(6 * 3600);
    let role = instance.role.as_ref()?;
    let account = world.owner(&instance.vpc);
    let updated = iso8601(world.unix_millis(now));
    let key = &instance.access_key;
    // Signatures are not verified: what is secret here only has to look so.
    let secret = key.bytes().fold(world.config.seed, |secret, byte| {
        mix(secret ^ u64::from(byte))
    });
    let credentials = json!({
        "Code": "Success",
        "LastUpdated": updated,
        "Type": "AWS-HMAC",
        "AccessKeyId": key,
        "SecretAccessKey": format!("aws-sim/{secret:016x}{:016x}", mix(secret)),
        "Token": format!("aws-sim-session-{key}"),
        "Expiration": iso8601(world.unix_millis(now.plus(LIFE))),
    });
    let info = json!({
        "Code": "Success",
        "LastUpdated": updated,
        "InstanceProfileArn": format!("arn:aws:iam::{account}:instance-profile/{role}"),
        "InstanceProfileId": "AIPAIOSFODNN7EXAMPLE",
    });
    let roles = [(role.clone(), Node::Json(credentials))];
    Some(directory([
        ("info", Some(Node::Json(info))),
        ("security-credentials", Some(Node::Directory(roles.into()))),
    ]))
}

fn identity(world: &World, instance: &Instance, primary: &Eni) -> Node {
    Node::Json(json!({
        "accountId": world.owner(&instance.vpc),
        "architecture": instance.kind.architecture,
        "availabilityZone": instance.az,
        "billingProducts": null,
        "devpayProductCodes": null,
        "imageId": IMAGE,
        "instanceId": instance.id.as_str(),
        "instanceType": instance.kind.name,
        "kernelId": null,
        "marketplaceProductCodes": null,
        "pendingTime": iso8601(world.unix_millis(instance.launched_at)),
        "privateIp": primary.primary.map(|address| address.to_string()),
        "ramdiskId": null,
        "region": world.config.region,
        "version": "2017-09-30",
    }))
}
