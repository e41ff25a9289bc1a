//! DescribeImages

use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::images::{self, Image, OWNER};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[("DescribeImages", describe)];

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let asked = input.list("ImageId");
    let owners = input.list("Owner");
    let executable_by = input.list("ExecutableBy");
    let filters = Filters::read(input, field)?;
    let page = Page::read(input, "ImageId", 1..=1000)?;
    for flag in ["IncludeDeprecated", "IncludeDisabled"] {
        input.flag(flag)?;
    }
    input.finish()?;

    let asked = asked
        .into_iter()
        .map(find)
        .collect::<Result<Vec<&Image>>>()?;
    // All images are Amazon's and anyone's to run; nobody has any of their own.
    let visible = (owners.is_empty() || owners.iter().any(|o| matches!(*o, "amazon" | OWNER)))
        && (executable_by.is_empty() || executable_by.contains(&"all"));
    let seen = images::ALL.iter().copied().filter(|image| {
        visible && (asked.is_empty() || asked.contains(image)) && filters.matches(image)
    });
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(seen.collect(), |image: &&Image| image.id);

    let mut xml = Xml::new();
    xml.set("imagesSet", shown, render);
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// The image with this id.
///
/// # Errors
/// `InvalidAMIID.Malformed`, `InvalidAMIID.NotFound`
pub(super) fn find(id: &str) -> Result<&'static Image> {
    let digits = id.strip_prefix("ami-");
    let well_formed = digits.is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    });
    if !well_formed {
        let message = format!("Invalid id: \"{id}\" (expecting \"ami-...\")");
        return Err(Ec2Error::client("InvalidAMIID.Malformed", message));
    }
    images::get(id).ok_or_else(|| {
        let message = format!("The image id '[{id}]' does not exist");
        Ec2Error::client("InvalidAMIID.NotFound", message)
    })
}

fn render(xml: &mut Xml, image: &Image) {
    xml.text("imageId", image.id)
        .text("imageLocation", format!("amazon/{}", image.name))
        .text("imageState", "available")
        .text("imageOwnerId", OWNER)
        .text("creationDate", image.created)
        .text("isPublic", true)
        .text("architecture", image.architecture)
        .text("imageType", "machine")
        .maybe("platform", image.platform)
        .text("platformDetails", image.platform_details())
        .text("usageOperation", image.usage_operation())
        .text("imageOwnerAlias", "amazon")
        .text("name", image.name)
        .text("description", image.description)
        .text("rootDeviceType", "ebs")
        .text("rootDeviceName", image.root_device)
        .set("blockDeviceMapping", [image], |xml, image| {
            xml.text("deviceName", image.root_device)
                .node("ebs", |xml| {
                    xml.text("deleteOnTermination", true)
                        .text("volumeSize", if image.platform.is_some() { 30 } else { 8 })
                        .text("volumeType", "gp3")
                        .text("encrypted", false);
                });
        })
        .text("virtualizationType", "hvm")
        .text("hypervisor", "xen")
        .text("enaSupport", true)
        .text("sriovNetSupport", "simple");
    if image.imds_v2 {
        xml.text("imdsSupport", "v2.0");
    }
}

fn field(name: &str) -> Option<Field<'static, Image>> {
    let value: fn(&Image) -> &'static str = match name {
        "architecture" => |image| image.architecture,
        "creation-date" => |image| image.created,
        "description" => |image| image.description,
        "ena-support" | "is-public" => |_| "true",
        "hypervisor" => |_| "xen",
        "image-id" => |image| image.id,
        "image-type" => |_| "machine",
        "name" => |image| image.name,
        "owner-alias" => |_| "amazon",
        "owner-id" => |_| OWNER,
        "platform-details" => |image| image.platform_details(),
        "root-device-name" => |image| image.root_device,
        "root-device-type" => |_| "ebs",
        "state" => |_| "available",
        "usage-operation" => |image| image.usage_operation(),
        "virtualization-type" => |_| "hvm",
        "platform" => {
            return Some(Box::new(|image| {
                image.platform.map(str::to_owned).into_iter().collect()
            }));
        }
        // Nobody has tagged them.
        "tag-key" => return Some(Box::new(|_| Vec::new())),
        _ if name.starts_with("tag:") => return Some(Box::new(|_| Vec::new())),
        _ => return None,
    };
    Some(Box::new(move |image| vec![value(image).to_owned()]))
}
