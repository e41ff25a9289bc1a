//! DescribeInstanceTypes

use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::instance_types::{self, InstanceType};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[("DescribeInstanceTypes", describe)];

pub(super) fn describe(_world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
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
    let (shown, next) = page.cut(matching, |kind: &&InstanceType| kind.name.as_str());

    let mut xml = Xml::new();
    xml.set("instanceTypeSet", shown, render);
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn render(xml: &mut Xml, kind: &InstanceType) {
    xml.text("instanceType", &kind.name)
        .text("bareMetal", kind.bare_metal)
        .maybe(
            "hypervisor",
            Some(&kind.hypervisor).filter(|name| !name.is_empty()),
        )
        .node("processorInfo", |xml| {
            xml.set(
                "supportedArchitectures",
                [&kind.architecture],
                |xml, name| {
                    xml.value(name);
                },
            );
        })
        .node("vCpuInfo", |xml| {
            xml.text("defaultVCpus", kind.vcpus);
        })
        .node("memoryInfo", |xml| {
            xml.text("sizeInMiB", kind.memory_mib);
        })
        .node("networkInfo", |xml| {
            xml.text("maximumNetworkInterfaces", kind.enis)
                .text("maximumNetworkCards", kind.enis_per_card.len())
                .text("defaultNetworkCardIndex", kind.default_card);
            xml.set(
                "networkCards",
                kind.enis_per_card.iter().enumerate(),
                |xml, (card, enis)| {
                    xml.text("networkCardIndex", card)
                        .text("maximumNetworkInterfaces", enis);
                },
            );
            xml.text("ipv4AddressesPerInterface", kind.ipv4_per_eni)
                .text("ipv6AddressesPerInterface", kind.ipv6_per_eni)
                .text("ipv6Supported", kind.ipv6_per_eni > 0);
        })
        .text("supportedInRegion", true);
}

fn field(name: &str) -> Option<Field<'static, InstanceType>> {
    Some(match name {
        "instance-type" => Box::new(|kind| vec![kind.name.clone()]),
        "bare-metal" => Box::new(|kind| vec![kind.bare_metal.to_string()]),
        "hypervisor" => Box::new(|kind| vec![kind.hypervisor.clone()]),
        "processor-info.supported-architecture" => Box::new(|kind| vec![kind.architecture.clone()]),
        "vcpu-info.default-vcpus" => Box::new(|kind| vec![kind.vcpus.to_string()]),
        "memory-info.size-in-mib" => Box::new(|kind| vec![kind.memory_mib.to_string()]),
        "network-info.maximum-network-interfaces" => Box::new(|kind| vec![kind.enis.to_string()]),
        "network-info.maximum-network-cards" => {
            Box::new(|kind| vec![kind.enis_per_card.len().to_string()])
        }
        "network-info.ipv4-addresses-per-interface" => {
            Box::new(|kind| vec![kind.ipv4_per_eni.to_string()])
        }
        "network-info.ipv6-addresses-per-interface" => {
            Box::new(|kind| vec![kind.ipv6_per_eni.to_string()])
        }
        _ => return None,
    })
}
