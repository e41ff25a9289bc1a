//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses: slots, addresses and prefixes.

use aws_sdk_ec2::operation::assign_private_ip_addresses::AssignPrivateIpAddressesOutput as Assigned;
use aws_sdk_ec2::operation::assign_private_ip_addresses::builders::AssignPrivateIpAddressesFluentBuilder as Assign;
use aws_sdk_ec2::operation::unassign_private_ip_addresses::builders::UnassignPrivateIpAddressesFluentBuilder as Unassign;

use crate::check::{Check, Difference, MustFail as _, Need as _, check, holds, same};
use crate::create::{NO_ADDRESSES, NO_BLOCKS};
use crate::ec2::{Ec2, NO_ENI, addresses, last_octet, prefixes};

pub(crate) fn assign(ec2: &Ec2, eni: &str) -> Assign {
    ec2.sdk
        .assign_private_ip_addresses()
        .network_interface_id(eni)
}

fn unassign(ec2: &Ec2, eni: &str) -> Unassign {
    ec2.sdk
        .unassign_private_ip_addresses()
        .network_interface_id(eni)
}

/// The addresses that an answer lists.
fn answered(answer: &Assigned) -> Vec<String> {
    let all = answer.assigned_private_ip_addresses().iter();
    all.filter_map(|address| address.private_ip_address().map(str::to_owned))
        .collect()
}

pub(crate) fn answered_prefixes(answer: &Assigned) -> Vec<String> {
    let all = answer.assigned_ipv4_prefixes().iter();
    all.filter_map(|prefix| prefix.ipv4_prefix().map(str::to_owned))
        .collect()
}

pub(crate) const LIMIT: &str = "Number of private addresses will exceed limit.";

pub(crate) fn table() -> Vec<Check> {
    let mut all = assigning();
    all.extend(refusals());
    all.extend(unassigning());
    all
}

fn assigning() -> Vec<Check> {
    vec![
        check!(
            "AssignPrivateIpAddresses.count returns only new",
            "The answer lists the new addresses, not those that were there.",
            "M AssignedPrivateIpAddresses; R that those before it are not listed",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                assign(ec2, &eni)
                    .secondary_private_ip_address_count(3)
                    .send()
                    .await?;
                let before = addresses(&ec2.described(&eni).await?);
                let answer = assign(ec2, &eni)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await?;
                let new = answered(&answer);
                same("addresses answered", new.len(), 1)?;
                holds(
                    !before.contains(&new[0]),
                    "an old address is answered as new",
                )?;
                let after = addresses(&ec2.described(&eni).await?);
                same("addresses", (before.len(), after.len()), (4, 5))?;
                holds(after.contains(&new[0]), "the new address is not on the ENI")?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.free -1",
            "An address that is assigned is free no more.",
            "D API_Subnet AvailableIpAddressCount",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                assign(ec2, &eni)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await?;
                same("free", ec2.free(&place.subnet).await?, 249)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.by address",
            "A free address that is asked for is given.",
            "M PrivateIpAddress.N",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                // The ENI's own address is EC2's choice.
                let own = addresses(&ec2.described(&eni).await?);
                let wanted = if own == ["10.0.1.200"] {
                    "10.0.1.201"
                } else {
                    "10.0.1.200"
                };
                let answer = assign(ec2, &eni)
                    .private_ip_addresses(wanted)
                    .send()
                    .await?;
                holds(
                    answered(&answer) == [wanted],
                    "answers other addresses besides",
                )?;
                holds(
                    addresses(&ec2.described(&eni).await?).contains(&wanted.to_owned()),
                    "it is not there",
                )?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.AllowReassignment moves",
            "With AllowReassignment an address moves: it is on the new ENI and not on the old.",
            "D API_AssignPrivateIpAddresses AllowReassignment",
            |ec2| {
                let place = ec2.place().await?;
                let (old, new) = (ec2.eni(&place.subnet).await?, ec2.eni(&place.subnet).await?);
                let answer = assign(ec2, &old)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await?;
                let address = answered(&answer).first().need("address")?.clone();
                let moved = assign(ec2, &new)
                    .private_ip_addresses(&address)
                    .allow_reassignment(true);
                moved.send().await?;
                let has = async |eni: &str| -> Result<bool, Difference> {
                    Ok(addresses(&ec2.described(eni).await?).contains(&address))
                };
                same(
                    "on old and new",
                    (has(&old).await?, has(&new).await?),
                    (false, true),
                )?;
                same("free", ec2.free(&place.subnet).await?, 248)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.Ipv4PrefixCount",
            "A prefix is answered as such, is an aligned /28, and takes 16 addresses.",
            "D Prefix delegation for EC2 network interfaces",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let answer = assign(ec2, &eni).ipv4_prefix_count(1).send().await?;
                let new = answered_prefixes(&answer);
                same(
                    "prefixes and addresses answered",
                    (new.len(), answered(&answer).len()),
                    (1, 0),
                )?;
                let address = new[0].strip_suffix("/28").need("/28")?;
                same("alignment", last_octet(address)? % 16, 0)?;
                same("prefixes", prefixes(&ec2.described(&eni).await?), new)?;
                same("free", ec2.free(&place.subnet).await?, 251 - 1 - 16)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.Ipv4Prefixes",
            "A free prefix that is asked for is given.",
            "M Ipv4Prefix.N",
            |ec2| {
                // The ENI's own address is in a subnet of its own /28, so that the other is free.
                let place = ec2.place_of("10.0.1.0/26").await?;
                let made = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let made = made.private_ip_address("10.0.1.10").send().await?;
                let eni = made
                    .network_interface
                    .and_then(|eni| eni.network_interface_id)
                    .need("ENI")?;
                let answer = assign(ec2, &eni)
                    .ipv4_prefixes("10.0.1.32/28")
                    .send()
                    .await?;
                same("answered", answered_prefixes(&answer), ["10.0.1.32/28"])?;
                same(
                    "prefixes",
                    prefixes(&ec2.described(&eni).await?),
                    ["10.0.1.32/28"],
                )?;
            }
        ),
    ]
}

fn refusals() -> Vec<Check> {
    vec![
        check!(
            "AssignPrivateIpAddresses.limit t3.medium=6",
            "An ENI on a t3.medium has room for six addresses; a seventh is refused, and nothing is taken.",
            "I aws/amazon-vpc-cni-k8s#989",
            |ec2| {
                let place = ec2.place().await?;
                let instance = ec2.instance(&place.subnet, "t3.medium").await?;
                let (eni, _) = ec2.attached(&place.subnet, &instance, 1).await?;
                assign(ec2, &eni)
                    .secondary_private_ip_address_count(5)
                    .send()
                    .await?;
                let asked = assign(ec2, &eni)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await;
                asked.refused_with("PrivateIpAddressLimitExceeded", LIMIT)?;
                same("addresses", addresses(&ec2.described(&eni).await?).len(), 6)?;
                same("free", ec2.free(&place.subnet).await?, 251 - 1 - 6)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.taken, no AllowReassignment",
            "An address of another ENI is refused without AllowReassignment.",
            "I ansible amazon.aws ec2_eni; DataDog/cilium matches the text",
            |ec2| {
                let place = ec2.place().await?;
                let (one, two) = (ec2.eni(&place.subnet).await?, ec2.eni(&place.subnet).await?);
                let answer = assign(ec2, &one)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await?;
                let address = answered(&answer).first().need("address")?.clone();
                let asked = assign(ec2, &two)
                    .private_ip_addresses(&address)
                    .send()
                    .await;
                let text = format!("[{address}] assigned, but move is not allowed.");
                asked.refused_with("InvalidParameterValue", &text)?;
                same("addresses", addresses(&ec2.described(&two).await?).len(), 1)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.outside subnet",
            "An address that is not of the subnet is refused.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni)
                    .private_ip_addresses("10.0.9.9")
                    .send()
                    .await;
                let text = "Address does not fall within the subnet's address range";
                asked.refused_with("InvalidParameterValue", text)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.count+addresses",
            "A count and addresses exclude each other.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni).secondary_private_ip_address_count(1);
                let asked = asked.private_ip_addresses("10.0.1.200").send().await;
                let text = "You may specify one and only one of privateIpAddressSet or \
                            secondaryPrivateIpAddressCount or ipv4Prefixes or ipv4PrefixCount, but not more than \
                            one of them.";
                asked.refused_with("InvalidParameterCombination", text)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.none",
            "A call that asks for nothing is refused.",
            "S stackd: InvalidParameter; R MissingParameter",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                assign(ec2, &eni)
                    .send()
                    .await
                    .refused(&["InvalidParameter", "MissingParameter"])?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.notfound",
            "An ENI that is not there is refused by its id.",
            "S stackd; C amazon-vpc-cni-k8s takes the id from the text",
            |ec2| {
                let asked = assign(ec2, NO_ENI)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await;
                let text = format!("The networkInterface ID '{NO_ENI}' does not exist");
                asked.refused_with("InvalidNetworkInterfaceID.NotFound", &text)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.InsufficientCidrBlocks on /28",
            "A /28 subnet has no whole /28 to give.",
            "I aws/amazon-vpc-cni-k8s#1836; D EKS prefix mode",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/28").await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni).ipv4_prefix_count(1).send().await;
                asked.refused_with("InsufficientCidrBlocks", NO_BLOCKS)?;
                same("free", ec2.free(&place.subnet).await?, 10)?;
            }
        ),
        check!(
            "AssignPrivateIpAddresses.InsufficientFreeAddressesInSubnet",
            "More than the subnet has is refused, and nothing is taken.",
            "I aws/amazon-vpc-cni-k8s#1773",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/28").await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni)
                    .secondary_private_ip_address_count(11)
                    .send()
                    .await;
                asked.refused_with("InsufficientFreeAddressesInSubnet", NO_ADDRESSES)?;
                same("free", ec2.free(&place.subnet).await?, 10)?;
            }
        ),
    ]
}

fn unassigning() -> Vec<Check> {
    vec![
        check!(
            "UnassignPrivateIpAddresses",
            "An address that is unassigned is gone from the ENI, and free.",
            "D API_UnassignPrivateIpAddresses",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let answer = assign(ec2, &eni)
                    .secondary_private_ip_address_count(2)
                    .send()
                    .await?;
                let gone = answered(&answer).first().need("address")?.clone();
                unassign(ec2, &eni)
                    .private_ip_addresses(&gone)
                    .send()
                    .await?;
                let left = addresses(&ec2.described(&eni).await?);
                same("left", (left.len(), left.contains(&gone)), (2, false))?;
                same("free", ec2.free(&place.subnet).await?, 249)?;
            }
        ),
        check!(
            "UnassignPrivateIpAddresses.primary",
            "The primary address stays for the ENI's life.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let own = ec2
                    .described(&eni)
                    .await?
                    .private_ip_address
                    .need("address")?;
                let asked = unassign(ec2, &eni).private_ip_addresses(&own).send().await;
                let text = format!(
                    "Value ({own}) for parameter privateIpAddress is invalid. The primary IP address of an \
                     interface cannot be unassigned."
                );
                asked.refused_with("InvalidParameterValue", &text)?;
            }
        ),
        check!(
            "UnassignPrivateIpAddresses.not assigned",
            "An address that is not there is refused, and those beside it stay.",
            "S stackd; C Netflix titus matches the text",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let answer = assign(ec2, &eni)
                    .secondary_private_ip_address_count(1)
                    .send()
                    .await?;
                let there = answered(&answer).first().need("address")?.clone();
                let own = addresses(&ec2.described(&eni).await?);
                let stranger = (4..255)
                    .map(|last| format!("10.0.1.{last}"))
                    .find(|it| !own.contains(it));
                let asked = unassign(ec2, &eni).private_ip_addresses(&there);
                let asked = asked
                    .private_ip_addresses(stranger.need("stranger")?)
                    .send()
                    .await;
                let text =
                    format!("Some of the specified addresses are not assigned to interface {eni}");
                asked.refused_with("InvalidParameterValue", &text)?;
                same("addresses", addresses(&ec2.described(&eni).await?).len(), 2)?;
            }
        ),
        check!(
            "UnassignPrivateIpAddresses.Ipv4Prefixes",
            "A prefix that is unassigned is gone, and its 16 addresses are free.",
            "M Ipv4Prefix.N",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let answer = assign(ec2, &eni).ipv4_prefix_count(2).send().await?;
                let new = answered_prefixes(&answer);
                same("prefixes", new.len(), 2)?;
                unassign(ec2, &eni).ipv4_prefixes(&new[0]).send().await?;
                same(
                    "left",
                    prefixes(&ec2.described(&eni).await?),
                    [new[1].clone()],
                )?;
                same("free", ec2.free(&place.subnet).await?, 251 - 1 - 16)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Assign.an address that EC2 keeps",
            "The subnet's reserved addresses are refused.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni)
                    .private_ip_addresses("10.0.1.1")
                    .send()
                    .await;
                asked.refused_with(
                    "InvalidParameterValue",
                    "Address 10.0.1.1 is in subnet's reserved range.",
                )?;
            }
        ),
        check!(
            "Assign.a count of 0",
            "A count is positive.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni)
                    .secondary_private_ip_address_count(0)
                    .send()
                    .await;
                let text = "Value (0) for parameter secondaryPrivateIpAddressCount is invalid. Value must be a \
                            positive number.";
                asked.refused_with("InvalidParameterValue", text)?;
            }
        ),
        check!(
            "Unassign.nothing",
            "A call that names nothing is refused.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = unassign(ec2, &eni).send().await;
                asked.refused_with(
                    "MissingParameter",
                    "One of privateIpAddresses or ipv4Prefixes must be specified.",
                )?;
            }
        ),
        check!(
            "Assign.AllowReassignment leaves primaries where they are",
            "The primary address of another ENI does not move.",
            "S stackd: InvalidParameterValue",
            |ec2| {
                let place = ec2.place().await?;
                let (one, two) = (ec2.eni(&place.subnet).await?, ec2.eni(&place.subnet).await?);
                let own = ec2
                    .described(&one)
                    .await?
                    .private_ip_address
                    .need("address")?;
                let asked = assign(ec2, &two)
                    .private_ip_addresses(&own)
                    .allow_reassignment(true)
                    .send()
                    .await;
                asked.refused(&["InvalidParameterValue"])?;
                same(
                    "primary",
                    ec2.described(&one).await?.private_ip_address(),
                    Some(own.as_str()),
                )?;
            }
        ),
    ]
}
