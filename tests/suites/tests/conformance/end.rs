//! How things end: Detach, Delete and Terminate.

use std::time::Duration;

use aws_sdk_ec2::types::NetworkInterfaceAttachmentChanges;

use crate::check::{Check, MustFail as _, Need as _, Outcome, Refusal, check, same};
use crate::ec2::{Ec2, NO_ATTACHMENT, Place, filter};

/// An instance with a second ENI.
struct Node {
    place: Place,
    instance: String,
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
            instance,
            eni,
            attachment,
        })
    }

    async fn detach(&self, ec2: &Ec2) -> Outcome {
        ec2.sdk
            .detach_network_interface()
            .attachment_id(&self.attachment)
            .send()
            .await?;
        Ok(())
    }

    async fn terminate(&self, ec2: &Ec2) -> Outcome {
        ec2.sdk
            .terminate_instances()
            .instance_ids(&self.instance)
            .send()
            .await?;
        Ok(())
    }
}

async fn delete(ec2: &Ec2, eni: &str) -> Outcome {
    ec2.sdk
        .delete_network_interface()
        .network_interface_id(eni)
        .send()
        .await?;
    Ok(())
}

/// Waits until Describe no longer knows an ENI.
async fn gone(ec2: &Ec2, eni: &str) -> Outcome {
    ec2.until("an ENI that is gone", async || {
        match ec2
            .sdk
            .describe_network_interfaces()
            .network_interface_ids(eni)
            .send()
            .await
        {
            Ok(_) => Ok(None),
            Err(error) if Refusal::of(&error).code == "InvalidNetworkInterfaceID.NotFound" => {
                Ok(Some(()))
            }
            Err(error) => Err(error.into()),
        }
    })
    .await
}

pub(crate) fn table() -> Vec<Check> {
    let mut all = detaching();
    all.extend(terminating());
    all
}

fn detaching() -> Vec<Check> {
    vec![
        check!(
            "Delete.in-use",
            "An ENI that is in use is not deleted.",
            "I aws/amazon-vpc-cni-k8s#1399; S stackd",
            |ec2| {
                let node = Node::run(ec2).await?;
                let asked = ec2
                    .sdk
                    .delete_network_interface()
                    .network_interface_id(&node.eni)
                    .send()
                    .await;
                let text = format!("Network interface '{}' is currently in use.", node.eni);
                asked.refused_with("InvalidParameterValue", &text)?;
                same(
                    "status",
                    ec2.described(&node.eni)
                        .await?
                        .status
                        .map(|s| s.to_string()),
                    Some("in-use".to_owned()),
                )?;
            }
        ),
        check!(
            "Detach.*",
            "A detached ENI is available, and can be attached again.",
            "D API_DetachNetworkInterface",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.detach(ec2).await?;
                ec2.eni_is(&node.eni, "available").await?;
                ec2.attach(&node.eni, &node.instance, 1).await?;
            }
        ),
        check!(
            "Detach",
            "An ENI is detached by the id of its attachment.",
            "D API_DetachNetworkInterface",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.detach(ec2).await?;
                ec2.eni_is(&node.eni, "available").await?;
                same(
                    "attachment",
                    ec2.described(&node.eni).await?.attachment.is_some(),
                    false,
                )?;
                let shown = ec2.described_instance(&node.instance).await?;
                same("ENIs of the instance", shown.network_interfaces().len(), 1)?;
            }
        ),
        check!(
            "Detach.async detaching",
            "The ENI is in-use and detaching at first, available later.",
            "D API_NetworkInterfaceAttachment Status; I ansible amazon.aws#501: beyond 200 s",
            |ec2| {
                let node = Node::run(ec2).await?;
                ec2.takes(Duration::from_secs(2));
                node.detach(ec2).await?;
                let found = ec2.described(&node.eni).await?;
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
                    Some("detaching"),
                )?;
                ec2.eni_is(&node.eni, "available").await?;
            }
        ),
        check!(
            "Detach.unknown",
            "An attachment that is not there is refused.",
            "D Error codes InvalidAttachmentID.NotFound",
            |ec2| {
                let asked = ec2
                    .sdk
                    .detach_network_interface()
                    .attachment_id(NO_ATTACHMENT)
                    .send()
                    .await;
                asked.refused(&["InvalidAttachmentID.NotFound"])?;
            }
        ),
        check!(
            "Detach.primary",
            "The primary ENI stays for the instance's life.",
            "I getmoto/moto#7678, cloud-governance#950",
            |ec2| {
                let node = Node::run(ec2).await?;
                let primary = ec2
                    .primary_of(&node.instance)
                    .await?
                    .attachment
                    .and_then(|a| a.attachment_id);
                let asked = ec2
                    .sdk
                    .detach_network_interface()
                    .attachment_id(primary.need("attachment")?);
                let text = "The network interface at device index 0 and networkCard index 0 cannot be detached.";
                asked
                    .send()
                    .await
                    .refused_with("OperationNotPermitted", text)?;
            }
        ),
        check!(
            "Delete.after detach",
            "An ENI that was detached can be deleted, and is gone.",
            "D API_DeleteNetworkInterface",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.detach(ec2).await?;
                ec2.eni_is(&node.eni, "available").await?;
                delete(ec2, &node.eni).await?;
                gone(ec2, &node.eni).await?;
            }
        ),
        check!(
            "Delete.again",
            "An ENI that is gone can't be deleted again.",
            "S stackd; C amazon-vpc-cni-k8s takes the id from the text",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                delete(ec2, &eni).await?;
                let asked = ec2
                    .sdk
                    .delete_network_interface()
                    .network_interface_id(&eni)
                    .send()
                    .await;
                let text = format!("The networkInterface ID '{eni}' does not exist");
                asked.refused_with("InvalidNetworkInterfaceID.NotFound", &text)?;
            }
        ),
    ]
}

fn terminating() -> Vec<Check> {
    vec![
        check!(
            "Terminate.state",
            "TerminateInstances answers where the instance goes and where it was.",
            "M InstanceStateChange",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let answer = ec2
                    .sdk
                    .terminate_instances()
                    .instance_ids(&instance)
                    .send()
                    .await?;
                let change = answer.terminating_instances().first().need("instance")?;
                let name = |state: Option<&aws_sdk_ec2::types::InstanceState>| {
                    state
                        .and_then(|state| state.name())
                        .map(|name| name.as_str().to_owned())
                };
                same(
                    "current",
                    name(change.current_state()).as_deref(),
                    Some("shutting-down"),
                )?;
                same(
                    "previous",
                    name(change.previous_state()).as_deref(),
                    Some("running"),
                )?;
            }
        ),
        check!(
            "Terminate.keeps DeleteOnTermination=false ENI (available)",
            "An ENI that does not go with its instance is available and detached afterwards.",
            "D Delete on termination",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.terminate(ec2).await?;
                ec2.instance_is(&node.instance, "terminated").await?;
                ec2.eni_is(&node.eni, "available").await?;
                same(
                    "attachment",
                    ec2.described(&node.eni).await?.attachment.is_some(),
                    false,
                )?;
            }
        ),
        check!(
            "Terminate.removes primary ENI",
            "The primary ENI goes with its instance, and its address is free.",
            "D Delete on termination",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "m5.large").await?;
                let eni = ec2
                    .primary_of(&instance)
                    .await?
                    .network_interface_id
                    .need("ENI")?;
                ec2.sdk
                    .terminate_instances()
                    .instance_ids(&instance)
                    .send()
                    .await?;
                ec2.instance_is(&instance, "terminated").await?;
                gone(ec2, &eni).await?;
                same("free", ec2.free(&place.subnet).await?, 251)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Terminate.removes an ENI that is told to go",
            "An ENI with DeleteOnTermination goes with its instance.",
            "D Delete on termination",
            |ec2| {
                let node = Node::run(ec2).await?;
                let changes =
                    NetworkInterfaceAttachmentChanges::builder().attachment_id(&node.attachment);
                let asked = ec2
                    .sdk
                    .modify_network_interface_attribute()
                    .network_interface_id(&node.eni);
                asked
                    .attachment(changes.delete_on_termination(true).build())
                    .send()
                    .await?;
                node.terminate(ec2).await?;
                gone(ec2, &node.eni).await?;
                ec2.instance_is(&node.instance, "terminated").await?;
                same("free", ec2.free(&node.place.subnet).await?, 251)?;
            }
        ),
        check!(
            "Terminate.again",
            "Terminating what is terminated is no error.",
            "D API_TerminateInstances: idempotent",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.terminate(ec2).await?;
                node.terminate(ec2).await?;
                ec2.instance_is(&node.instance, "terminated").await?;
                node.terminate(ec2).await?;
            }
        ),
        check!(
            "Detach.the place is free again when it is done",
            "A device index is taken until its ENI is available.",
            "R",
            |ec2| {
                let node = Node::run(ec2).await?;
                let other = ec2.eni(&node.place.subnet).await?;
                ec2.takes(Duration::from_secs(2));
                node.detach(ec2).await?;
                let asked = ec2
                    .sdk
                    .attach_network_interface()
                    .network_interface_id(&other);
                let asked = asked
                    .instance_id(&node.instance)
                    .device_index(1)
                    .send()
                    .await;
                asked.refused(&["InvalidParameterValue"])?;
                ec2.eni_is(&node.eni, "available").await?;
                ec2.attach(&other, &node.instance, 1).await?;
            }
        ),
        check!(
            "Terminate.a filter by instance finds nothing left",
            "ENIs that stay are no longer found by the instance they were on.",
            "D API_DescribeNetworkInterfaces attachment.instance-id",
            |ec2| {
                let node = Node::run(ec2).await?;
                node.terminate(ec2).await?;
                ec2.until("no ENI on the instance", async || {
                    let asked = ec2.sdk.describe_network_interfaces();
                    let found = asked
                        .filters(filter("attachment.instance-id", &node.instance))
                        .send()
                        .await?;
                    Ok(found.network_interfaces().is_empty().then_some(()))
                })
                .await?;
            }
        ),
    ]
}
