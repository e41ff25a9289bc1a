//! The filters of DescribeInstances.

use crate::actions::instances::render::{
    interfaces_at, is_primary, on, private_name, transition_reason,
};
use crate::filters::{Field, tag_field};
use crate::time::{SimTime, iso8601_millis};
use crate::world::{Eni, Instance, World};

/// Filters on what instances here never have. They match nothing.
const OF_NOTHING: &[&str] = &[
    "affinity",
    "block-device-mapping.attach-time",
    "block-device-mapping.delete-on-termination",
    "block-device-mapping.device-name",
    "block-device-mapping.status",
    "block-device-mapping.volume-id",
    "boot-mode",
    "capacity-reservation-id",
    "current-instance-boot-mode",
    "host-id",
    "instance-lifecycle",
    "kernel-id",
    "network-interface.addresses.association.allocation-id",
    "network-interface.addresses.association.association-id",
    "network-interface.addresses.association.carrier-ip",
    "network-interface.addresses.association.customer-owned-ip",
    "network-interface.association.allocation-id",
    "network-interface.association.association-id",
    "network-interface.association.carrier-ip",
    "network-interface.association.customer-owned-ip",
    "network-interface.outpost-arn",
    "network-interface.requester-id",
    "operator.principal",
    "outpost-arn",
    "placement-group-name",
    "placement-partition-number",
    "product-code",
    "product-code.type",
    "ramdisk-id",
    "requester-id",
    "spot-instance-request-id",
    "tpm-support",
];

/// The filter of this name, on instances as they were at `then`.
pub(super) fn find<'w>(world: &'w World, then: SimTime, name: &str) -> Option<Field<'w, Instance>> {
    if let Some(field) = tag_field(name, |instance: &Instance| &instance.tags) {
        return Some(field);
    }
    if OF_NOTHING.contains(&name) {
        return Some(Box::new(|_| Vec::new()));
    }
    if let Some(value) = own(name) {
        return Some(Box::new(move |instance| {
            value(world, instance).into_iter().collect()
        }));
    }
    if let Some(values) = of_primary(name) {
        return Some(Box::new(move |instance| {
            let enis = interfaces_at(world, instance, then);
            let primary = enis.into_iter().find(|eni| is_primary(eni));
            primary.map_or_else(Vec::new, |eni| values(world, eni))
        }));
    }
    let values = of_interface(name.strip_prefix("network-interface.")?)?;
    Some(Box::new(move |instance| {
        let enis = interfaces_at(world, instance, then);
        enis.into_iter()
            .flat_map(|eni| values(world, eni))
            .collect()
    }))
}

type Value = fn(&World, &Instance) -> Option<String>;
type Values = fn(&World, &Eni) -> Vec<String>;

/// What instances have themselves.
fn own(name: &str) -> Option<Value> {
    Some(match name {
        "architecture" => |_, instance| Some(instance.image.architecture.to_owned()),
        "availability-zone" => |_, instance| Some(instance.az.clone()),
        "availability-zone-id" => |world, instance| Some(world.az_id(&instance.az)),
        "client-token" => |_, instance| instance.client_token.clone(),
        "ebs-optimized" => |_, instance| Some(instance.settings.ebs_optimized.to_string()),
        "ena-support" => |_, _| Some("true".to_owned()),
        "enclave-options.enabled" | "hibernation-options.configured" | "operator.managed" => {
            |_, _| Some("false".to_owned())
        }
        "hypervisor" => |_, _| Some("xen".to_owned()),
        "iam-instance-profile.arn" => |world, instance| {
            let role = instance.role.as_ref()?;
            let account = world.owner(&instance.vpc);
            Some(format!("arn:aws:iam::{account}:instance-profile/{role}"))
        },
        "iam-instance-profile.name" => |_, instance| instance.role.clone(),
        "image-id" => |_, instance| Some(instance.image.id.to_owned()),
        "instance-id" => |_, instance| Some(instance.id.to_string()),
        "instance-state-code" => |_, instance| Some(instance.state.code_and_name().0.to_string()),
        "instance-state-name" => |_, instance| Some(instance.state.code_and_name().1.to_owned()),
        "instance-type" => |_, instance| Some(instance.kind.name.clone()),
        "key-name" => |_, instance| instance.key_name.clone(),
        "launch-index" => |_, instance| Some(instance.launch_index.to_string()),
        "launch-time" => {
            |world, instance| Some(iso8601_millis(world.unix_millis(instance.launched_at)))
        }
        "maintenance-options.auto-recovery" => |_, _| Some("default".to_owned()),
        "metadata-options.http-endpoint" => |_, i| Some(on(i.imds.enabled).to_owned()),
        "metadata-options.http-protocol-ipv6" => |_, i| Some(on(i.imds.ipv6).to_owned()),
        "metadata-options.instance-metadata-tags" => |_, i| Some(on(i.imds.tags).to_owned()),
        "metadata-options.http-put-response-hop-limit" => {
            |_, instance| Some(instance.imds.hop_limit.to_string())
        }
        "metadata-options.http-tokens" => |_, i| Some(i.imds.tokens().to_owned()),
        "monitoring-state" => |_, i| Some(on(i.settings.monitored).to_owned()),
        "owner-id" => |world, instance| Some(world.owner(&instance.vpc).to_owned()),
        "platform" => |_, instance| instance.image.platform.map(str::to_owned),
        "platform-details" => |_, instance| Some(instance.image.platform_details().to_owned()),
        "reason" => |world, instance| Some(transition_reason(world, instance)),
        "reservation-id" => |_, instance| Some(instance.reservation.clone()),
        "root-device-name" => |_, instance| Some(instance.image.root_device.to_owned()),
        "root-device-type" => |_, _| Some("ebs".to_owned()),
        "state-reason-code" => |_, instance| Some(instance.state_reason?.code.to_owned()),
        "tenancy" => |_, _| Some("default".to_owned()),
        "usage-operation" => |_, instance| Some(instance.image.usage_operation().to_owned()),
        "virtualization-type" => |_, _| Some("hvm".to_owned()),
        _ => return None,
    })
}

/// What instances have by their primary ENI.
fn of_primary(name: &str) -> Option<Values> {
    Some(match name {
        "dns-name" => |world, eni| public_name(world, eni),
        "instance.group-id" => |_, eni| eni.groups.iter().map(ToString::to_string).collect(),
        "instance.group-name" => group_names,
        "ip-address" => |_, eni| texts(eni.public_address),
        "ipv6-address" => |_, eni| texts(&eni.ipv6),
        "private-dns-name" => |world, eni| vec![private_name(world, eni)],
        "private-ip-address" => |_, eni| texts(eni.primary),
        "source-dest-check" => |_, eni| vec![eni.source_dest_check.to_string()],
        "subnet-id" => |_, eni| vec![eni.subnet.to_string()],
        "vpc-id" => |_, eni| vec![eni.vpc.to_string()],
        _ => return None,
    })
}

/// What any of their ENIs has.
fn of_interface(name: &str) -> Option<Values> {
    Some(match name {
        "addresses.association.ip-owner-id" | "association.ip-owner-id" => {
            |_, eni| texts(eni.public_address.map(|_| "amazon"))
        }
        "addresses.association.public-dns-name" | "association.public-dns-name" => public_name,
        "addresses.association.public-ip" | "association.public-ip" => {
            |_, eni| texts(eni.public_address)
        }
        "addresses.primary" => |_, eni| texts(eni.addresses().map(|a| Some(a) == eni.primary)),
        "addresses.private-dns-name" => |world, eni| {
            let region = &world.config.region;
            texts(
                eni.addresses()
                    .map(|address| Eni::dns_name(address, region)),
            )
        },
        "addresses.private-ip-address" => |_, eni| texts(eni.addresses()),
        "attachment.attach-time" => |world, eni| {
            let since = eni.attachment.as_ref().map(|a| world.unix_millis(a.since));
            texts(since.map(iso8601_millis))
        },
        "attachment.attachment-id" => |_, eni| texts(eni.attachment.as_ref().map(|a| &a.id)),
        "attachment.delete-on-termination" => {
            |_, eni| texts(eni.attachment.as_ref().map(|a| a.delete_on_termination))
        }
        "attachment.device-index" => {
            |_, eni| texts(eni.attachment.as_ref().map(|a| a.device_index))
        }
        "attachment.instance-id" => |_, eni| texts(eni.attachment.as_ref().map(|a| &a.instance)),
        "attachment.instance-owner-id" | "owner-id" => {
            |world, eni| vec![world.owner(&eni.vpc).to_owned()]
        }
        "attachment.network-card-index" => |_, eni| texts(eni.attachment.as_ref().map(|a| a.card)),
        "attachment.status" => |_, eni| texts(eni.attachment.as_ref().map(|a| a.status.as_str())),
        "availability-zone" => |_, eni| vec![eni.az.clone()],
        "deny-all-igw-traffic" | "ipv6-native" | "requester-managed" => {
            |_, _| vec!["false".to_owned()]
        }
        "description" => |_, eni| vec![eni.description.clone()],
        "group-id" => |_, eni| texts(&eni.groups),
        "group-name" => group_names,
        "ipv4-prefixes.ipv4-prefix" => |_, eni| texts(&eni.prefixes),
        "ipv6-address" | "ipv6-addresses.ipv6-address" => |_, eni| texts(&eni.ipv6),
        "ipv6-addresses.is-primary-ipv6" => {
            |_, eni| texts(eni.ipv6.iter().map(|a| eni.primary_ipv6 == Some(*a)))
        }
        "ipv6-prefixes.ipv6-prefix" => |_, eni| texts(&eni.ipv6_prefixes),
        "mac-address" => |_, eni| vec![eni.mac_text()],
        "network-interface-id" => |_, eni| vec![eni.id.to_string()],
        "private-dns-name" => |world, eni| vec![private_name(world, eni)],
        "private-ip-address" => |_, eni| texts(eni.primary),
        "public-dns-name" => public_name,
        "source-dest-check" => |_, eni| vec![eni.source_dest_check.to_string()],
        "status" => |_, eni| vec![eni.status().to_owned()],
        "subnet-id" => |_, eni| vec![eni.subnet.to_string()],
        "tag-key" => |_, eni| eni.tags.keys().cloned().collect(),
        "tag-value" => |_, eni| eni.tags.values().cloned().collect(),
        "vpc-id" => |_, eni| vec![eni.vpc.to_string()],
        _ => return None,
    })
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

fn group_names(world: &World, eni: &Eni) -> Vec<String> {
    let groups = eni.groups.iter().filter_map(|id| world.group(id));
    groups.map(|group| group.name.clone()).collect()
}

fn public_name(world: &World, eni: &Eni) -> Vec<String> {
    let name = eni
        .public_address
        .map(|address| world.public_dns_name(address));
    name.into_iter().collect()
}
