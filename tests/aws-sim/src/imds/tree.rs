//! What is in the metadata of one instance at one moment: "Instance metadata categories" in EC2's user guide.
//!
//! What the guide has and an instance here never has is not there, as on EC2: `spot/`, `autoscaling/`,
//! `placement/group-name`, product codes, and so on.

use std::time::Duration;

use serde_json::json;

use super::base64;
use super::node::{Child, Node, directory, lines, text};
use crate::ids::{InstanceId, mix};
use crate::time::{SimTime, iso8601};
use crate::world::{Eni, Instance, InstanceState, Vpc, World};

/// What an instance can see.
#[derive(Debug)]
pub(super) struct View<'w> {
    world: &'w World,
    now: SimTime,
    /// The time of the world that IMDS shows.
    then: SimTime,
    born: SimTime,
    /// As it is; of its tags, see `then`.
    instance: &'w Instance,
    /// By place, the primary first.
    enis: Vec<&'w Eni>,
    primary: &'w Eni,
}

impl<'w> View<'w> {
    /// `None` when there is nobody who could ask.
    pub(super) fn new(
        world: &'w World,
        now: SimTime,
        then: SimTime,
        id: &InstanceId,
    ) -> Option<View<'w>> {
        let instance = world.instance(id)?;
        if matches!(
            instance.state,
            InstanceState::Terminated | InstanceState::Stopped
        ) {
            return None;
        }
        // The instance was born with its primary ENI: the lag does not hide that.
        let born = world.instance_born(id)?;
        let then = then.max(born);
        let mut enis: Vec<&Eni> = world.enis_of_at(id, then).collect();
        enis.sort_by_key(|eni| eni.attachment.as_ref().map(|a| (a.card, a.device_index)));
        let primary = *enis.first()?;
        Some(View {
            world,
            now,
            then,
            born,
            instance,
            enis,
            primary,
        })
    }

    /// What is below the version.
    pub(super) fn root(&self) -> Node<'_> {
        Node::Directory(vec![
            directory("dynamic", || self.dynamic()),
            directory("meta-data", || self.meta_data()),
            Child::new("user-data", || {
                let data = self.instance.user_data.as_deref()?;
                Some(Node::Text(base64::decode(data)))
            })
            .always_listed(),
        ])
    }

    fn region(&self) -> &'w str {
        &self.world.config.region
    }

    fn dynamic(&self) -> Vec<Child<'_>> {
        vec![directory("instance-identity", || {
            vec![Child::new("document", || Some(self.identity()))]
        })]
    }

    fn meta_data(&self) -> Vec<Child<'_>> {
        let (world, instance, primary) = (self.world, self.instance, self.primary);
        let hostname = || Some(Eni::dns_name(primary.primary?, self.region()));
        vec![
            text("ami-id", || Some(instance.image.id)),
            text("ami-launch-index", || Some(instance.launch_index)),
            text("ami-manifest-path", || Some("(unknown)")),
            directory("block-device-mapping", || {
                vec![
                    text("ami", || Some(instance.image.root_device)),
                    text("root", || Some(instance.image.root_device)),
                ]
            }),
            directory("events", || {
                vec![directory("maintenance", || {
                    vec![
                        text("history", || Some("[]")),
                        text("scheduled", || Some("[]")),
                    ]
                })]
            }),
            text("hostname", hostname),
            directory("iam", || self.iam()).only_if(instance.role.is_some()),
            text("instance-action", || Some("none")),
            text("instance-id", || Some(&instance.id)),
            text("instance-life-cycle", || Some("on-demand")),
            text("instance-type", || Some(&instance.kind.name)),
            text("ipv6", || primary.ipv6.first()),
            text("local-hostname", hostname),
            text("local-ipv4", || primary.primary),
            text("mac", || Some(primary.mac_text())),
            directory("network", || {
                vec![directory("interfaces", || {
                    vec![directory("macs", || self.macs())]
                })]
            }),
            directory("placement", || {
                vec![
                    text("availability-zone", || Some(&instance.az)),
                    text("availability-zone-id", || Some(world.az_id(&instance.az))),
                    text("region", || Some(self.region())),
                ]
            }),
            text("profile", || Some("default-hvm")),
            text("public-hostname", || {
                Some(world.public_dns_name(primary.public_address?))
            }),
            text("public-ipv4", || primary.public_address),
            text("reservation-id", || Some(&instance.reservation)),
            lines("security-groups", || self.group_names(primary)),
            directory("services", || {
                vec![
                    text("domain", || Some("amazonaws.com")),
                    text("partition", || Some("aws")),
                ]
            }),
            text("system", || {
                Some(if instance.kind.takes_prefixes() {
                    "nitro"
                } else {
                    "xen"
                })
            }),
            directory("tags", || vec![directory("instance", || self.tags())])
                .only_if(instance.imds.tags),
        ]
    }

    fn tags(&self) -> Vec<Child<'_>> {
        let seen = self.world.instance_at(&self.instance.id, self.then);
        let tags = seen.into_iter().flat_map(|seen| &seen.tags);
        tags.map(|(key, value)| Child::new(key.as_str(), || Some(Node::Text(value.clone()))))
            .collect()
    }

    fn macs(&self) -> Vec<Child<'_>> {
        let enis = self.enis.iter().copied();
        enis.map(|eni| directory(eni.mac_text(), || self.interface(eni)))
            .collect()
    }

    fn interface<'v>(&'v self, eni: &'v Eni) -> Vec<Child<'v>> {
        let world = self.world;
        let attachment = eni.attachment.as_ref();
        let subnet = world.subnet(&eni.subnet);
        let vpc = world.vpc(&eni.vpc);
        let leaves = vec![
            text("device-number", move || Some(attachment?.device_index)),
            text("interface-id", || Some(&eni.id)),
            directory("ipv4-associations", || {
                let public = eni.public_address.zip(eni.primary).into_iter();
                public
                    .map(|(public, private)| {
                        let private = move || Some(Node::Text(private.to_string()));
                        Child::new(public.to_string(), private)
                    })
                    .collect()
            })
            .only_if(eni.public_address.is_some()),
            lines("ipv4-prefix", || eni.prefixes.clone()),
            lines("ipv6-prefix", || eni.ipv6_prefixes.clone()),
            lines("ipv6s", || eni.ipv6.clone()),
            text("local-hostname", || {
                Some(Eni::dns_name(eni.primary?, self.region()))
            }),
            lines("local-ipv4s", || eni.addresses().collect::<Vec<_>>()),
            text("mac", || Some(eni.mac_text())),
            // Not there on types with one card: amazon-ec2-net-utils#104.
            text("network-card", move || Some(attachment?.card))
                .only_if(self.instance.kind.enis_per_card.len() > 1),
            text("owner-id", || Some(world.owner(&eni.vpc))),
            text("public-hostname", || {
                Some(world.public_dns_name(eni.public_address?))
            }),
            lines("public-ipv4s", || eni.public_address.into_iter().collect()),
            lines("security-group-ids", || eni.groups.clone()),
            lines("security-groups", || self.group_names(eni)),
            text("subnet-id", || Some(&eni.subnet)),
            text("subnet-ipv4-cidr-block", move || Some(subnet?.pool.cidr())),
            text("subnet-ipv6-cidr-blocks", move || {
                Some(subnet?.ipv6.as_ref()?.cidr())
            }),
            text("vpc-id", || Some(&eni.vpc)),
            text("vpc-ipv4-cidr-block", move || vpc?.cidrs().first().copied()),
            lines("vpc-ipv4-cidr-blocks", move || {
                vpc.map_or(Vec::new(), Vpc::cidrs)
            }),
            lines("vpc-ipv6-cidr-blocks", move || {
                vpc.map_or(Vec::new(), Vpc::ipv6_cidrs)
            }),
        ];
        let leaves = leaves.into_iter();
        leaves
            .map(|leaf| {
                let there = self.has_appeared(eni, leaf.name());
                leaf.only_if(there)
            })
            .collect()
    }

    /// Whether a leaf of an ENI is there yet: see [`imds_partial`](crate::WorldConfig::imds_partial).
    fn has_appeared(&self, eni: &Eni, leaf: &str) -> bool {
        let partial = self.world.config.imds_partial;
        let Some(attachment) = eni.attachment.as_ref().filter(|_| !partial.is_zero()) else {
            return true;
        };
        if attachment.since <= self.born {
            return true;
        }
        let seed = eni
            .mac
            .iter()
            .chain(leaf.as_bytes())
            .fold(self.world.config.seed, |seed, byte| {
                mix(seed ^ u64::from(*byte))
            });
        let percent = u32::try_from(seed % 100).unwrap_or(0) + 1;
        self.then >= attachment.since.plus(partial * percent / 100)
    }

    fn group_names(&self, eni: &Eni) -> Vec<&'w str> {
        let groups = eni.groups.iter();
        groups
            .filter_map(|id| self.world.group(id))
            .map(|group| group.name.as_str())
            .collect()
    }

    fn iam(&self) -> Vec<Child<'_>> {
        vec![
            Child::new("info", || Some(self.profile())),
            directory("security-credentials", || {
                let role = self.instance.role.as_deref().into_iter();
                role.map(|role| Child::new(role, || Some(self.credentials())))
                    .collect()
            }),
        ]
    }

    fn profile(&self) -> Node<'_> {
        let account = self.world.owner(&self.instance.vpc);
        let role = self.instance.role.as_deref().unwrap_or_default();
        Node::Json(json!({
            "Code": "Success",
            "LastUpdated": self.clock(self.now),
            "InstanceProfileArn": format!("arn:aws:iam::{account}:instance-profile/{role}"),
            "InstanceProfileId": "AIPAIOSFODNN7EXAMPLE",
        }))
    }

    fn credentials(&self) -> Node<'_> {
        /// EC2's credentials last six hours, and are renewed before they end.
        const LIFE: Duration = Duration::from_secs(6 * 3600);
        let key = &self.instance.access_key;
        // Signatures are not verified: what is secret here only has to look so.
        let secret = key.bytes().fold(self.world.config.seed, |secret, byte| {
            mix(secret ^ u64::from(byte))
        });
        Node::Json(json!({
            "Code": "Success",
            "LastUpdated": self.clock(self.now),
            "Type": "AWS-HMAC",
            "AccessKeyId": key,
            "SecretAccessKey": format!("aws-sim/{secret:016x}{:016x}", mix(secret)),
            "Token": format!("aws-sim-session-{key}"),
            "Expiration": self.clock(self.now.plus(LIFE)),
        }))
    }

    fn identity(&self) -> Node<'_> {
        let instance = self.instance;
        Node::Json(json!({
            "accountId": self.world.owner(&instance.vpc),
            "architecture": instance.kind.architecture,
            "availabilityZone": instance.az,
            "billingProducts": null,
            "devpayProductCodes": null,
            "imageId": instance.image.id,
            "instanceId": instance.id.as_str(),
            "instanceType": instance.kind.name,
            "kernelId": null,
            "marketplaceProductCodes": null,
            "pendingTime": self.clock(instance.launched_at),
            "privateIp": self.primary.primary.map(|address| address.to_string()),
            "ramdiskId": null,
            "region": self.region(),
            "version": "2017-09-30",
        }))
    }

    fn clock(&self, at: SimTime) -> String {
        iso8601(self.world.unix_millis(at))
    }
}
