//! DescribeInstanceTypes and DescribeInstanceTypeOfferings

mod offerings;

use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::instance_types::{self, InstanceType};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("DescribeInstanceTypeOfferings", offerings::describe),
    ("DescribeInstanceTypes", describe),
];

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let asked = input.list("InstanceType");
    let filters = Filters::read(input, field)?;
    let page = Page::read(input, "InstanceType", 5..=100)?.or_size(100);
    input.flag("IncludeUnsupportedInRegion")?;
    input.finish()?;

    if asked.len() > 100 {
        return Err(Ec2Error::invalid(
            "At most 100 instance types can be specified.",
        ));
    }
    let unknown: Vec<&str> = asked
        .iter()
        .copied()
        .filter(|name| instance_types::get(name).is_none())
        .collect();
    if !unknown.is_empty() {
        return Err(Ec2Error::no_such_type(&unknown.join(", ")));
    }
    let seen = instance_types::all().values();
    let seen = seen.filter(|kind| asked.is_empty() || asked.contains(&kind.name.as_str()));
    let matching = seen.filter(|kind| filters.matches(kind)).collect();
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(matching, |kind: &&InstanceType| kind.name.as_str());

    let mut xml = Xml::new();
    xml.set("instanceTypeSet", shown, render);
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn render(xml: &mut Xml, kind: &InstanceType) {
    xml.text("instanceType", &kind.name)
        .text("currentGeneration", kind.current_generation)
        .text("freeTierEligible", kind.free_tier);
    values(xml, "supportedUsageClasses", &kind.usage_classes);
    values(xml, "supportedRootDeviceTypes", &kind.root_devices);
    values(xml, "supportedVirtualizationTypes", &kind.virtualization);
    xml.text("bareMetal", kind.bare_metal)
        .maybe("hypervisor", filled(&kind.hypervisor))
        .node("processorInfo", |xml| {
            values(xml, "supportedArchitectures", &kind.architectures);
            xml.maybe("sustainedClockSpeedInGhz", filled(&kind.clock_ghz))
                .maybe("manufacturer", filled(&kind.manufacturer));
        })
        .node("vCpuInfo", |xml| {
            xml.text("defaultVCpus", kind.vcpus)
                .maybe("defaultCores", filled(&kind.cores));
            if let Some(threads) = kind
                .cores
                .parse()
                .ok()
                .and_then(|c| kind.vcpus.checked_div(c))
            {
                xml.text("defaultThreadsPerCore", threads);
            }
        })
        .node("memoryInfo", |xml| {
            xml.text("sizeInMiB", kind.memory_mib);
        })
        .text("instanceStorageSupported", kind.instance_storage)
        .node("ebsInfo", |xml| {
            xml.text("ebsOptimizedSupport", &kind.ebs_optimized)
                .text("encryptionSupport", "supported");
        })
        .node("networkInfo", |xml| network(xml, kind))
        .node("placementGroupInfo", |xml| {
            values(xml, "supportedStrategies", &kind.placement_strategies);
        })
        .text("hibernationSupported", kind.hibernation)
        .text("burstablePerformanceSupported", kind.burstable)
        .text("dedicatedHostsSupported", kind.dedicated_hosts)
        .text("autoRecoverySupported", kind.auto_recovery);
    values(xml, "supportedBootModes", &kind.boot_modes);
    xml.text("supportedInRegion", true);
}

fn network(xml: &mut Xml, kind: &InstanceType) {
    xml.text("networkPerformance", &kind.performance)
        .text("maximumNetworkInterfaces", kind.enis)
        .text("maximumNetworkCards", kind.cards.len())
        .text("defaultNetworkCardIndex", kind.default_card)
        .set(
            "networkCards",
            kind.cards.iter().enumerate(),
            |xml, (index, card)| {
                xml.text("networkCardIndex", index)
                    .text("networkPerformance", &card.performance)
                    .text("maximumNetworkInterfaces", card.enis)
                    .text("baselineBandwidthInGbps", &card.baseline_gbps)
                    .text("peakBandwidthInGbps", &card.peak_gbps)
                    .text("defaultEnaQueueCountPerInterface", &card.ena_queues);
                values(xml, "interfaceTypeSet", &card.interface_types);
            },
        )
        .text("ipv4AddressesPerInterface", kind.ipv4_per_eni)
        .text("ipv6AddressesPerInterface", kind.ipv6_per_eni)
        .text("ipv6Supported", kind.ipv6_per_eni > 0)
        .text("enaSupport", &kind.ena)
        .text("efaSupported", kind.efa_interfaces > 0);
    if kind.efa_interfaces > 0 {
        xml.node("efaInfo", |xml| {
            xml.text("maximumEfaInterfaces", kind.efa_interfaces);
        });
    }
    xml.text("encryptionInTransitSupported", kind.encrypts_in_transit)
        .text("enaSrdSupported", kind.ena_srd)
        .text("flexibleEnaQueuesSupport", flexible(kind))
        .node("connectionTrackingConfiguration", |xml| {
            xml.text("defaultTcpEstablishedTimeout", kind.tcp_established_timeout)
                .text("defaultUdpTimeout", 30)
                .text("defaultUdpStreamTimeout", 180);
        });
}

fn flexible(kind: &InstanceType) -> &'static str {
    if kind.flexible_ena_queues {
        "supported"
    } else {
        "unsupported"
    }
}

fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A list of plain values.
fn values(xml: &mut Xml, name: &str, list: &[String]) {
    xml.set(name, list, Xml::value);
}

fn field(name: &str) -> Option<Field<'static, InstanceType>> {
    Some(match name {
        "processor-info.supported-architecture" => Box::new(|kind| kind.architectures.clone()),
        "supported-usage-class" => Box::new(|kind| kind.usage_classes.clone()),
        "supported-root-device-type" => Box::new(|kind| kind.root_devices.clone()),
        "supported-virtualization-type" => Box::new(|kind| kind.virtualization.clone()),
        "supported-boot-mode" => Box::new(|kind| kind.boot_modes.clone()),
        "placement-group-info.supported-strategies" => {
            Box::new(|kind| kind.placement_strategies.clone())
        }
        _ => {
            let value = plain_field(name)?;
            Box::new(move |kind| {
                filled(&value(kind))
                    .map(str::to_owned)
                    .into_iter()
                    .collect()
            })
        }
    })
}

/// Filters that look at one value.
fn plain_field(name: &str) -> Option<fn(&InstanceType) -> String> {
    Some(match name {
        "auto-recovery-supported" => |kind| kind.auto_recovery.to_string(),
        "bare-metal" => |kind| kind.bare_metal.to_string(),
        "burstable-performance-supported" => |kind| kind.burstable.to_string(),
        "current-generation" => |kind| kind.current_generation.to_string(),
        "dedicated-hosts-supported" => |kind| kind.dedicated_hosts.to_string(),
        "ebs-info.ebs-optimized-support" => |kind| kind.ebs_optimized.clone(),
        "free-tier-eligible" => |kind| kind.free_tier.to_string(),
        "hibernation-supported" => |kind| kind.hibernation.to_string(),
        "hypervisor" => |kind| kind.hypervisor.clone(),
        "instance-storage-supported" => |kind| kind.instance_storage.to_string(),
        "instance-type" => |kind| kind.name.clone(),
        "memory-info.size-in-mib" => |kind| kind.memory_mib.to_string(),
        "network-info.efa-info.maximum-efa-interfaces" => |kind| kind.efa_interfaces.to_string(),
        "network-info.efa-supported" => |kind| (kind.efa_interfaces > 0).to_string(),
        "network-info.ena-support" => |kind| kind.ena.clone(),
        "network-info.encryption-in-transit-supported" => {
            |kind| kind.encrypts_in_transit.to_string()
        }
        "network-info.flexible-ena-queues-support" => |kind| flexible(kind).to_owned(),
        "network-info.ipv4-addresses-per-interface" => |kind| kind.ipv4_per_eni.to_string(),
        "network-info.ipv6-addresses-per-interface" => |kind| kind.ipv6_per_eni.to_string(),
        "network-info.ipv6-supported" => |kind| (kind.ipv6_per_eni > 0).to_string(),
        "network-info.maximum-network-cards" => |kind| kind.cards.len().to_string(),
        "network-info.maximum-network-interfaces" => |kind| kind.enis.to_string(),
        "network-info.network-performance" => |kind| kind.performance.clone(),
        "processor-info.sustained-clock-speed-in-ghz" => |kind| kind.clock_ghz.clone(),
        "vcpu-info.default-cores" => |kind| kind.cores.clone(),
        "vcpu-info.default-vcpus" => |kind| kind.vcpus.to_string(),
        _ => return None,
    })
}
