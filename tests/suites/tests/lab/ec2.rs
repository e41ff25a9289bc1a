//! Calls to the simulated EC2, as ipamd would make them.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use aws_sim::{EniId, FabricEni, GroupId, Request};
use vpc_lab::{Lab, Node};

/// Asks EC2, and waits until the network is what it answered.
pub(crate) fn ask(lab: &Lab, action: &str, params: &[(&str, &str)]) -> anyhow::Result<String> {
    let reply = lab
        .sim()
        .call(&Request::new(action, params.iter().copied()));
    if reply.status != 200 {
        bail!("{action}: {}", reply.body);
    }
    lab.settle()?;
    Ok(reply.body)
}

/// An ENI by id.
pub(crate) fn eni(lab: &Lab, id: &str) -> anyhow::Result<FabricEni> {
    let fabric = lab.sim().fabric();
    fabric
        .enis
        .into_iter()
        .find(|eni| eni.id == id)
        .with_context(|| format!("no {id}"))
}

/// The primary ENI of a node.
pub(crate) fn primary(lab: &Lab, node: &Node) -> anyhow::Result<FabricEni> {
    let of_node = |eni: &FabricEni| {
        eni.device_index == 0 && eni.instance_id.as_deref() == Some(node.instance_id())
    };
    lab.sim()
        .fabric()
        .enis
        .into_iter()
        .find(of_node)
        .context("no primary ENI")
}

/// A new ENI in the subnet of the node's primary one, attached as number 1.
pub(crate) fn attach(lab: &Lab, node: &Node) -> anyhow::Result<FabricEni> {
    let subnet = primary(lab, node)?.subnet_id;
    let reply = ask(lab, "CreateNetworkInterface", &[("SubnetId", &subnet)])?;
    let id = element(&reply, "networkInterfaceId")?;
    let place = [
        ("NetworkInterfaceId", id.as_str()),
        ("InstanceId", node.instance_id()),
        ("DeviceIndex", "1"),
    ];
    ask(lab, "AttachNetworkInterface", &place)?;
    eni(lab, &id)
}

/// Detaches an ENI.
pub(crate) fn detach(lab: &Lab, id: &str) -> anyhow::Result<()> {
    let attachment = lab.sim().with_world(|world, _| {
        let eni = world.eni(&EniId::from(id))?;
        Some(eni.attachment.as_ref()?.id.to_string())
    });
    let attachment = attachment.context("not attached")?;
    ask(
        lab,
        "DetachNetworkInterface",
        &[("AttachmentId", &attachment)],
    )
    .map(drop)
}

/// Gives an ENI this address, also if another one has it.
pub(crate) fn assign(lab: &Lab, eni: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    let params = [
        ("NetworkInterfaceId", eni),
        ("PrivateIpAddress.1", &address.to_string()),
        ("AllowReassignment", "true"),
    ];
    ask(lab, "AssignPrivateIpAddresses", &params).map(drop)
}

/// Puts an ENI into this group alone.
pub(crate) fn put_into(lab: &Lab, eni: &str, group: &GroupId) -> anyhow::Result<()> {
    let params = [
        ("NetworkInterfaceId", eni),
        ("SecurityGroupId.1", group.as_str()),
    ];
    ask(lab, "ModifyNetworkInterfaceAttribute", &params).map(drop)
}

/// The text of the first element of this name.
fn element(xml: &str, name: &str) -> anyhow::Result<String> {
    let (_, rest) = xml
        .split_once(&format!("<{name}>"))
        .with_context(|| format!("no {name}"))?;
    let (text, _) = rest.split_once('<').context("torn XML")?;
    Ok(text.to_owned())
}
