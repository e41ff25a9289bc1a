//! AttachNetworkInterface: states, places, limits.

use std::time::Duration;

use aws_sdk_ec2::operation::attach_network_interface::builders::AttachNetworkInterfaceFluentBuilder as Attach;

use crate::check::{Check, MustFail as _, Need as _, check, holds, same};
use crate::ec2::{Ec2, NO_ENI, NO_INSTANCE, OTHER_ZONE};

fn attach(ec2: &Ec2, eni: &str, instance: &str, index: i32) -> Attach {
    let asked = ec2.sdk.attach_network_interface().network_interface_id(eni);
    asked.instance_id(instance).device_index(index)
}

pub(crate) fn table() -> Vec<Check> {
    let mut all = attached();
    all.extend(refused());
    all
}

fn attached() -> Vec<Check> {
    vec![
        check!(
            "AttachNetworkInterface",
            "It answers an attachment id and the network card.",
            "M AttachNetworkInterfaceResult",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2.eni(&place.subnet).await?;
                let made = attach(ec2, &eni, &instance, 1).send().await?;
                let id = made.attachment_id().need("attachmentId")?;
                holds(id.starts_with("eni-attach-"), id)?;
                same("card", made.network_card_index(), Some(0))?;
            }
        ),
        check!(
            "Attach.async status attaching",
            "The ENI is in-use and attaching at first, attached later.",
            "D API_NetworkInterfaceAttachment Status; C amazon-vpc-cni-k8s waits after attach",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2.eni(&place.subnet).await?;
                ec2.takes(Duration::from_secs(2));
                attach(ec2, &eni, &instance, 1).send().await?;
                let found = ec2.described(&eni).await?;
                same(
                    "status",
                    found.status().map(|status| status.as_str()),
                    Some("in-use"),
                )?;
                let status = found
                    .attachment()
                    .and_then(|attachment| attachment.status());
                same(
                    "attachment",
                    status.map(|status| status.as_str()),
                    Some("attaching"),
                )?;
                ec2.until("attached", async || {
                    let attachment = ec2.described(&eni).await?.attachment;
                    let status = attachment.and_then(|attachment| attachment.status);
                    Ok(status
                        .is_some_and(|status| status.as_str() == "attached")
                        .then_some(()))
                })
                .await?;
            }
        ),
        check!(
            "Attach.DeviceIndex recorded",
            "The attachment has the device index, the instance, its owner and a time.",
            "M NetworkInterfaceAttachment",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let (eni, id) = ec2.attached(&place.subnet, &instance, 1).await?;
                let found = ec2.described(&eni).await?;
                let attachment = found.attachment().need("attachment")?;
                same("device index", attachment.device_index(), Some(1))?;
                same("id", attachment.attachment_id(), Some(id.as_str()))?;
                same(
                    "instance",
                    attachment.instance_id(),
                    Some(instance.as_str()),
                )?;
                same("owner", attachment.instance_owner_id(), found.owner_id())?;
                holds(attachment.attach_time().is_some(), "no attachTime")?;
            }
        ),
        check!(
            "Attach.DeleteOnTermination default",
            "An ENI that is attached later stays when the instance goes.",
            "D Delete on termination",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let (eni, _) = ec2.attached(&place.subnet, &instance, 1).await?;
                let attachment = ec2.described(&eni).await?.attachment.need("attachment")?;
                same(
                    "deleteOnTermination",
                    attachment.delete_on_termination(),
                    Some(false),
                )?;
            }
        ),
        check!(
            "Attach.OwnGroups unchanged",
            "An ENI keeps its own groups when it is attached.",
            "D Elastic network interfaces",
            |ec2| {
                let place = ec2.place().await?;
                let group = ec2.group(&place.vpc, "g1").await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let made = ec2
                    .sdk
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .groups(&group);
                let eni = made
                    .send()
                    .await?
                    .network_interface
                    .and_then(|eni| eni.network_interface_id);
                let eni = eni.need("ENI")?;
                ec2.eni_is(&eni, "available").await?;
                ec2.attach(&eni, &instance, 1).await?;
                let found = ec2.described(&eni).await?;
                let groups: Vec<_> = found
                    .groups()
                    .iter()
                    .filter_map(|group| group.group_id())
                    .collect();
                same("groups", groups, [group.as_str()])?;
            }
        ),
        check!(
            "Attach.visible in DescribeInstances",
            "DescribeInstances shows both ENIs of the instance.",
            "M Instance networkInterfaceSet",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                ec2.attached(&place.subnet, &instance, 1).await?;
                let found = ec2.described_instance(&instance).await?;
                let enis = found.network_interfaces().iter();
                let mut indexes: Vec<_> = enis
                    .filter_map(|eni| eni.attachment()?.device_index())
                    .collect();
                indexes.sort_unstable();
                same("device indexes", indexes, [0, 1])?;
            }
        ),
    ]
}

fn refused() -> Vec<Check> {
    vec![
        check!(
            "Attach.same device index",
            "A device index holds one ENI.",
            "I hashicorp/terraform-provider-aws#906, cilium/cilium#42512",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                ec2.attached(&place.subnet, &instance, 1).await?;
                let eni = ec2.eni(&place.subnet).await?;
                let text = format!(
                    "Instance '{instance}' already has an interface attached at device index '1'."
                );
                attach(ec2, &eni, &instance, 1)
                    .send()
                    .await
                    .refused_with("InvalidParameterValue", &text)?;
                ec2.eni_is(&eni, "available").await?;
            }
        ),
        check!(
            "Attach.already in use",
            "An ENI that is in use is refused.",
            "D Error codes InvalidNetworkInterface.InUse, InvalidParameterValue",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let (eni, _) = ec2.attached(&place.subnet, &instance, 1).await?;
                let asked = attach(ec2, &eni, &instance, 2).send().await;
                asked.refused(&["InvalidParameterValue", "InvalidNetworkInterface.InUse"])?;
                let attachment = ec2.described(&eni).await?.attachment.need("attachment")?;
                same("device index", attachment.device_index(), Some(1))?;
            }
        ),
        check!(
            "Attach.other AZ",
            "An ENI can only be attached within its zone.",
            "I the CLI, quoted in public terraform code",
            |ec2| {
                let place = ec2.place().await?;
                let elsewhere = ec2.subnet_in(&place.vpc, "10.0.2.0/24", OTHER_ZONE).await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2.eni(&elsewhere).await?;
                let text = "You may not attach a network interface to an instance if they are not in the same \
                            availability zone";
                attach(ec2, &eni, &instance, 1)
                    .send()
                    .await
                    .refused_with("InvalidParameterCombination", text)?;
            }
        ),
        check!(
            "Attach.network card 5",
            "A network card that the type does not have is refused.",
            "D API_AttachNetworkInterface NetworkCardIndex; R the code",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = attach(ec2, &eni, &instance, 1)
                    .network_card_index(5)
                    .send()
                    .await;
                asked.refused(&["InvalidParameterValue"])?;
            }
        ),
        check!(
            "Attach.AttachmentLimitExceeded on t3.medium (max 3)",
            "A t3.medium has room for three ENIs.",
            "I cilium/cilium#15877, chef/knife-ec2#375",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "t3.medium").await?;
                ec2.attached(&place.subnet, &instance, 1).await?;
                ec2.attached(&place.subnet, &instance, 2).await?;
                let eni = ec2.eni(&place.subnet).await?;
                let text = "Interface count 4 exceeds the limit for t3.medium";
                attach(ec2, &eni, &instance, 3)
                    .send()
                    .await
                    .refused_with("AttachmentLimitExceeded", text)?;
            }
        ),
        check!(
            "Attach.bad instance",
            "An instance that is not there is refused by its id.",
            "D Error codes InvalidInstanceID.NotFound",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let text = format!("The instance ID '{NO_INSTANCE}' does not exist");
                let asked = attach(ec2, &eni, NO_INSTANCE, 1).send().await;
                asked.refused_with("InvalidInstanceID.NotFound", &text)?;
            }
        ),
        check!(
            "Attach.bad eni",
            "An ENI that is not there is refused by its id.",
            "S stackd; C amazon-vpc-cni-k8s takes the id from the text",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let text = format!("The networkInterface ID '{NO_ENI}' does not exist");
                let asked = attach(ec2, NO_ENI, &instance, 1).send().await;
                asked.refused_with("InvalidNetworkInterfaceID.NotFound", &text)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Attach.each card has its own device indexes",
            "The same device index may be used on two network cards.",
            "D API_AttachNetworkInterface NetworkCardIndex; I cilium/cilium#42512",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "p4d.24xlarge").await?;
                for card in [0, 1] {
                    let eni = ec2.eni(&place.subnet).await?;
                    let made = attach(ec2, &eni, &instance, 1)
                        .network_card_index(card)
                        .send()
                        .await?;
                    same("card", made.network_card_index(), Some(card))?;
                }
                let eni = ec2.eni(&place.subnet).await?;
                let again = attach(ec2, &eni, &instance, 1)
                    .network_card_index(1)
                    .send()
                    .await;
                again.refused(&["InvalidParameterValue"])?;
            }
        ),
        check!(
            "Attach.each card has its own limit",
            "A card of a p5.48xlarge has room for two ENIs, though the instance has room for 64.",
            "C amazon-vpc-cni-k8s vpc_ip_resource_limit.go",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "p5.48xlarge").await?;
                for index in [1, 2] {
                    let eni = ec2.eni(&place.subnet).await?;
                    attach(ec2, &eni, &instance, index)
                        .network_card_index(1)
                        .send()
                        .await?;
                }
                let eni = ec2.eni(&place.subnet).await?;
                let third = attach(ec2, &eni, &instance, 3)
                    .network_card_index(1)
                    .send()
                    .await;
                third.refused(&["AttachmentLimitExceeded"])?;
            }
        ),
        check!(
            "Attach.more addresses than the type has slots",
            "An ENI with more addresses than the type allows can't be attached.",
            "I aws/amazon-vpc-cni-k8s#989 for the text; R that Attach gives it",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "t3.medium").await?;
                let made = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let made = made.secondary_private_ip_address_count(6).send().await?;
                let eni = made
                    .network_interface
                    .and_then(|eni| eni.network_interface_id)
                    .need("ENI")?;
                ec2.eni_is(&eni, "available").await?;
                attach(ec2, &eni, &instance, 1)
                    .send()
                    .await
                    .refused(&["PrivateIpAddressLimitExceeded"])?;
            }
        ),
        check!(
            "Attach.a terminated instance",
            "Nothing is attached to an instance that is gone.",
            "D Instance lifecycle; R the code",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2.eni(&place.subnet).await?;
                ec2.sdk
                    .terminate_instances()
                    .instance_ids(&instance)
                    .send()
                    .await?;
                let asked = attach(ec2, &eni, &instance, 1).send().await;
                asked.refused(&[
                    "IncorrectState",
                    "IncorrectInstanceState",
                    "InvalidInstanceID.NotFound",
                ])?;
            }
        ),
    ]
}
