//! ModifyNetworkInterfaceAttribute and DescribeNetworkInterfaceAttribute.

use aws_sdk_ec2::operation::modify_network_interface_attribute::builders::ModifyNetworkInterfaceAttributeFluentBuilder as Modify;
use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, ConnectionTrackingSpecificationRequest,
    EnaSrdSpecification, NetworkInterfaceAttachmentChanges, NetworkInterfaceAttribute,
};

use crate::check::{Check, Difference, MustFail as _, Need as _, Outcome, check, same};
use crate::ec2::{Ec2, NO_ATTACHMENT, Place};

/// An instance with a second ENI.
struct Node {
    place: Place,
    eni: String,
    attachment: String,
}

impl Node {
    async fn run(ec2: &Ec2) -> Outcome<Node> {
        let place = ec2.place().await?;
        let instance = ec2.instance(&place.subnet, "m5.large").await?;
        let (eni, attachment) = ec2.attached(&place.subnet, &instance, 1).await?;
        Ok(Node {
            place,
            eni,
            attachment,
        })
    }

    fn modify(&self, ec2: &Ec2) -> Modify {
        ec2.sdk
            .modify_network_interface_attribute()
            .network_interface_id(&self.eni)
    }
}

fn stays_no_more(attachment: &str) -> NetworkInterfaceAttachmentChanges {
    let changes = NetworkInterfaceAttachmentChanges::builder().attachment_id(attachment);
    changes.delete_on_termination(true).build()
}

fn no_check() -> AttributeBooleanValue {
    AttributeBooleanValue::builder().value(false).build()
}

pub(crate) fn table() -> Vec<Check> {
    vec![
        check!(
            "Modify.DeleteOnTermination",
            "It is the attachment's, and Describe shows it.",
            "M NetworkInterfaceAttachmentChanges",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.modify(ec2)
                    .attachment(stays_no_more(&node.attachment))
                    .send()
                    .await?;
                let attachment = ec2
                    .described(&node.eni)
                    .await?
                    .attachment
                    .need("attachment")?;
                same(
                    "deleteOnTermination",
                    attachment.delete_on_termination(),
                    Some(true),
                )?;
            }
        ),
        check!(
            "Modify.SourceDestCheck",
            "It can be switched off.",
            "M AttributeBooleanValue",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.modify(ec2)
                    .source_dest_check(no_check())
                    .send()
                    .await?;
                same(
                    "sourceDestCheck",
                    ec2.described(&node.eni).await?.source_dest_check(),
                    Some(false),
                )?;
            }
        ),
        check!(
            "Modify.Groups",
            "The groups that are given take the place of all that were.",
            "D API_ModifyNetworkInterfaceAttribute SecurityGroupId.N",
            |ec2| {
                let node = Node::run(ec2).await?;
                let group = ec2.group(&node.place.vpc, "g2").await?;
                node.modify(ec2).groups(&group).send().await?;
                let found = ec2.described(&node.eni).await?;
                let groups: Vec<_> = found
                    .groups()
                    .iter()
                    .filter_map(|group| group.group_id())
                    .collect();
                same("groups", groups, [group.as_str()])?;
            }
        ),
        check!(
            "Modify.Description",
            "It can be changed.",
            "M AttributeValue",
            |ec2| {
                let node = Node::run(ec2).await?;
                let description = AttributeValue::builder().value("x2").build();
                node.modify(ec2).description(description).send().await?;
                same(
                    "description",
                    ec2.described(&node.eni).await?.description(),
                    Some("x2"),
                )?;
            }
        ),
        check!(
            "Modify.EnaSrd",
            "ENA Express is either taken and shown, or refused: never dropped in silence.",
            "M EnaSrdSpecification; D ENA Express is for some types only",
            |ec2| {
                let node = Node::run(ec2).await?;
                let srd = EnaSrdSpecification::builder().ena_srd_enabled(true).build();
                let asked = node.modify(ec2).ena_srd_specification(srd).send().await;
                if asked.is_ok() {
                    let attachment = ec2
                        .described(&node.eni)
                        .await?
                        .attachment
                        .need("attachment")?;
                    let shown = attachment
                        .ena_srd_specification()
                        .and_then(|srd| srd.ena_srd_enabled());
                    same("enaSrdEnabled", shown, Some(true))?;
                } else {
                    let refusal = asked.refusal()?;
                    if refusal.code.is_empty() {
                        return Err(Difference(refusal.to_string()));
                    }
                }
            }
        ),
        check!(
            "Modify.wrong attachment id",
            "An attachment that is not there is refused.",
            "D Error codes InvalidAttachmentID.NotFound",
            |ec2| {
                let node = Node::run(ec2).await?;
                let asked = node
                    .modify(ec2)
                    .attachment(stays_no_more(NO_ATTACHMENT))
                    .send()
                    .await;
                asked.refused(&["InvalidAttachmentID.NotFound"])?;
            }
        ),
        check!(
            "DescribeNetworkInterfaceAttribute.attachment",
            "It answers the attachment, and nothing but.",
            "D API_DescribeNetworkInterfaceAttribute",
            |ec2| {
                let node = Node::run(ec2).await?;
                let asked = ec2
                    .sdk
                    .describe_network_interface_attribute()
                    .network_interface_id(&node.eni);
                let found = asked
                    .attribute(NetworkInterfaceAttribute::Attachment)
                    .send()
                    .await?;
                same("ENI", found.network_interface_id(), Some(node.eni.as_str()))?;
                let attachment = found.attachment().need("attachment")?;
                same(
                    "id",
                    attachment.attachment_id(),
                    Some(node.attachment.as_str()),
                )?;
                same("device index", attachment.device_index(), Some(1))?;
                same("description", found.description().is_some(), false)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Modify.several attributes at once",
            "One call changes one attribute.",
            "D API_ModifyNetworkInterfaceAttribute: only one attribute at a time",
            |ec2| {
                let node = Node::run(ec2).await?;
                let description = AttributeValue::builder().value("x2").build();
                let asked = node
                    .modify(ec2)
                    .description(description)
                    .source_dest_check(no_check());
                asked
                    .send()
                    .await
                    .refused(&["InvalidParameterCombination"])?;
                same(
                    "sourceDestCheck",
                    ec2.described(&node.eni).await?.source_dest_check(),
                    Some(true),
                )?;
            }
        ),
        check!(
            "Modify.nothing",
            "A call that changes nothing is refused.",
            "S stackd",
            |ec2| {
                let node = Node::run(ec2).await?;
                let asked = node.modify(ec2).send().await;
                asked.refused_with("InvalidParameterCombination", "No attributes specified.")?;
            }
        ),
        check!(
            "Modify.ConnectionTrackingSpecification",
            "Idle timeouts of connections can be set, and Describe shows them.",
            "D API_ConnectionTrackingSpecificationRequest",
            |ec2| {
                let node = Node::run(ec2).await?;
                let spec = ConnectionTrackingSpecificationRequest::builder();
                let spec = spec
                    .tcp_established_timeout(600)
                    .udp_timeout(45)
                    .udp_stream_timeout(90)
                    .build();
                node.modify(ec2)
                    .connection_tracking_specification(spec)
                    .send()
                    .await?;
                let found = ec2.described(&node.eni).await?;
                let shown = found
                    .connection_tracking_configuration()
                    .need("connectionTrackingConfiguration")?;
                same("TCP", shown.tcp_established_timeout(), Some(600))?;
                same(
                    "UDP",
                    (shown.udp_timeout(), shown.udp_stream_timeout()),
                    (Some(45), Some(90)),
                )?;
            }
        ),
        check!(
            "Modify.ConnectionTrackingSpecification out of range",
            "A timeout that EC2 does not allow is refused.",
            "D API_ConnectionTrackingSpecificationRequest: 60 to 432000 s; R the code",
            |ec2| {
                let node = Node::run(ec2).await?;
                let spec = ConnectionTrackingSpecificationRequest::builder()
                    .tcp_established_timeout(59)
                    .build();
                let asked = node
                    .modify(ec2)
                    .connection_tracking_specification(spec)
                    .send()
                    .await;
                asked.refused(&["InvalidParameterValue"])?;
            }
        ),
        check!(
            "DescribeNetworkInterfaceAttribute.each attribute",
            "Description, groups and the source check are answered each alone.",
            "D API_DescribeNetworkInterfaceAttribute",
            |ec2| {
                let node = Node::run(ec2).await?;
                let ask = |attribute| {
                    let asked = ec2.sdk.describe_network_interface_attribute();
                    asked
                        .network_interface_id(&node.eni)
                        .attribute(attribute)
                        .send()
                };
                let found = ask(NetworkInterfaceAttribute::Description).await?;
                same("description", found.description().is_some(), true)?;
                let found = ask(NetworkInterfaceAttribute::GroupSet).await?;
                same("groups", found.groups().len(), 1)?;
                let found = ask(NetworkInterfaceAttribute::SourceDestCheck).await?;
                let check = found.source_dest_check().and_then(|check| check.value());
                same("sourceDestCheck", check, Some(true))?;
            }
        ),
        check!(
            "ResetNetworkInterfaceAttribute",
            "A reset switches the source check on again.",
            "D API_ResetNetworkInterfaceAttribute",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.modify(ec2)
                    .source_dest_check(no_check())
                    .send()
                    .await?;
                let reset = ec2
                    .sdk
                    .reset_network_interface_attribute()
                    .network_interface_id(&node.eni);
                reset.source_dest_check("sourceDestCheck").send().await?;
                same(
                    "sourceDestCheck",
                    ec2.described(&node.eni).await?.source_dest_check(),
                    Some(true),
                )?;
            }
        ),
    ]
}
