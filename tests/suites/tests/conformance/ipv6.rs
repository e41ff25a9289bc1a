//! AssignIpv6Addresses and UnassignIpv6Addresses.

use aws_sdk_ec2::operation::assign_ipv6_addresses::builders::AssignIpv6AddressesFluentBuilder as Assign;
use aws_sdk_ec2::types::NetworkInterface;

use crate::check::{Check, MustFail as _, Need as _, check, holds, same};
use crate::create::within_64;
use crate::ec2::Ec2;

fn assign(ec2: &Ec2, eni: &str) -> Assign {
    ec2.sdk.assign_ipv6_addresses().network_interface_id(eni)
}

fn ipv6(eni: &NetworkInterface) -> Vec<String> {
    let all = eni.ipv6_addresses().iter();
    all.filter_map(|address| address.ipv6_address().map(str::to_owned))
        .collect()
}

pub(crate) fn table() -> Vec<Check> {
    vec![
        check!(
            "AssignIpv6Addresses.count",
            "Two addresses of the subnet's /64 are answered, and on the ENI.",
            "D API_AssignIpv6Addresses",
            |ec2| {
                let (place, cidr) = ec2.dual_place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let answer = assign(ec2, &eni).ipv6_address_count(2).send().await?;
                let mut new = answer.assigned_ipv6_addresses().to_vec();
                same("answered", new.len(), 2)?;
                holds(
                    new.iter().all(|it| within_64(it, &cidr)),
                    format!("{new:?} are not of {cidr}"),
                )?;
                let mut there = ipv6(&ec2.described(&eni).await?);
                new.sort_unstable();
                there.sort_unstable();
                same("on the ENI", there, new)?;
            }
        ),
        check!(
            "AssignIpv6Addresses.returns only new",
            "The answer lists the new addresses, not those that were there.",
            "D AssignedIpv6Addresses: the new IPv6 addresses; existing ones are not listed",
            |ec2| {
                let (place, _) = ec2.dual_place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                assign(ec2, &eni).ipv6_address_count(2).send().await?;
                let answer = assign(ec2, &eni).ipv6_address_count(1).send().await?;
                same("answered", answer.assigned_ipv6_addresses().len(), 1)?;
            }
        ),
        check!(
            "AssignIpv6Addresses.Ipv6PrefixCount",
            "A prefix is a /80 of the subnet's /64.",
            "D Prefix delegation for EC2 network interfaces",
            |ec2| {
                let (place, cidr) = ec2.dual_place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let answer = assign(ec2, &eni).ipv6_prefix_count(1).send().await?;
                let new = answer.assigned_ipv6_prefixes();
                same(
                    "prefixes and addresses",
                    (new.len(), answer.assigned_ipv6_addresses().len()),
                    (1, 0),
                )?;
                holds(
                    new[0].ends_with("/80") && within_64(&new[0], &cidr),
                    format!("{} of {cidr}", new[0]),
                )?;
                let found = ec2.described(&eni).await?;
                let there: Vec<_> = found
                    .ipv6_prefixes()
                    .iter()
                    .filter_map(|prefix| prefix.ipv6_prefix())
                    .collect();
                same("on the ENI", there, [new[0].as_str()])?;
            }
        ),
        check!(
            "UnassignIpv6Addresses",
            "An address that is unassigned is answered, and gone.",
            "M UnassignIpv6AddressesResult",
            |ec2| {
                let (place, _) = ec2.dual_place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let answer = assign(ec2, &eni).ipv6_address_count(2).send().await?;
                let gone = answer
                    .assigned_ipv6_addresses()
                    .first()
                    .need("address")?
                    .clone();
                let asked = ec2.sdk.unassign_ipv6_addresses().network_interface_id(&eni);
                let answer = asked.ipv6_addresses(&gone).send().await?;
                same(
                    "answered",
                    answer.unassigned_ipv6_addresses(),
                    [gone.clone()],
                )?;
                let left = ipv6(&ec2.described(&eni).await?);
                same("left", (left.len(), left.contains(&gone)), (1, false))?;
            }
        ),
        check!(
            "AssignIpv6Addresses.no v6 subnet",
            "A subnet without an IPv6 CIDR has no such address.",
            "R the code",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni).ipv6_address_count(1).send().await;
                asked.refused(&["InvalidParameterValue", "InvalidSubnet"])?;
            }
        ),
        check!(
            "AssignIpv6Addresses.outside",
            "An address that is not of the subnet's /64 is refused.",
            "R the code",
            |ec2| {
                let (place, _) = ec2.dual_place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let asked = assign(ec2, &eni).ipv6_addresses("2001:db8::5").send().await;
                asked.refused(&["InvalidParameterValue"])?;
                same("addresses", ipv6(&ec2.described(&eni).await?).len(), 0)?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "AssignIpv6Addresses.limit of the type",
            "An ENI on a t3.medium has room for six IPv6 addresses or prefixes.",
            "D IP addresses per network interface; R the code",
            |ec2| {
                let (place, _) = ec2.dual_place().await?;
                let instance = ec2.instance(&place.subnet, "t3.medium").await?;
                let (eni, _) = ec2.attached(&place.subnet, &instance, 1).await?;
                assign(ec2, &eni).ipv6_address_count(5).send().await?;
                assign(ec2, &eni).ipv6_prefix_count(1).send().await?;
                assign(ec2, &eni)
                    .ipv6_address_count(1)
                    .send()
                    .await
                    .refusal()?;
                same("addresses", ipv6(&ec2.described(&eni).await?).len(), 5)?;
            }
        ),
        check!(
            "AssignIpv6Addresses.by address",
            "A free address that is asked for is given; on a second ENI it is refused.",
            "M Ipv6Addresses.N",
            |ec2| {
                let (place, cidr) = ec2.dual_place().await?;
                let (one, two) = (ec2.eni(&place.subnet).await?, ec2.eni(&place.subnet).await?);
                let address = cidr.replace("::/64", "::abcd");
                let answer = assign(ec2, &one).ipv6_addresses(&address).send().await?;
                same(
                    "answered",
                    answer.assigned_ipv6_addresses(),
                    [address.clone()],
                )?;
                assign(ec2, &two)
                    .ipv6_addresses(&address)
                    .send()
                    .await
                    .refusal()?;
                same("addresses", ipv6(&ec2.described(&two).await?).len(), 0)?;
            }
        ),
    ]
}
