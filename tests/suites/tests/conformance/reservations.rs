//! Subnet CIDR reservations.

use std::net::Ipv4Addr;

use aws_sdk_ec2::operation::create_subnet_cidr_reservation::builders::CreateSubnetCidrReservationFluentBuilder as Reserve;
use aws_sdk_ec2::types::SubnetCidrReservationType as Kind;

use crate::check::{Check, Difference, MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, addresses, last_octet, prefixes};

fn reserve(ec2: &Ec2, subnet: &str, cidr: &str, kind: Kind) -> Reserve {
    let asked = ec2.sdk.create_subnet_cidr_reservation().subnet_id(subnet);
    asked.cidr(cidr).reservation_type(kind)
}

/// How many of so many new ENIs have an address in the upper half of 10.0.1.128/25's first /26.
async fn in_the_reserved_quarter(ec2: &Ec2, subnet: &str, enis: usize) -> Outcome<usize> {
    let mut inside = 0;
    for _ in 0..enis {
        let made = ec2
            .sdk
            .create_network_interface()
            .subnet_id(subnet)
            .send()
            .await?;
        let eni = made.network_interface.need("ENI")?;
        for address in addresses(&eni) {
            inside += usize::from((128..192).contains(&last_octet(&address)?));
        }
    }
    Ok(inside)
}

pub(crate) fn table() -> Vec<Check> {
    vec![
        check!(
            "CreateSubnetCidrReservation",
            "It answers the reservation with id, subnet, CIDR, type and owner.",
            "M SubnetCidrReservation",
            |ec2| {
                let place = ec2.place().await?;
                let made = reserve(ec2, &place.subnet, "10.0.1.128/26", Kind::Prefix)
                    .send()
                    .await?;
                let made = made.subnet_cidr_reservation().need("reservation")?;
                holds(
                    made.subnet_cidr_reservation_id()
                        .is_some_and(|id| id.starts_with("scr-")),
                    "no id",
                )?;
                same("subnet", made.subnet_id(), Some(place.subnet.as_str()))?;
                same("CIDR", made.cidr(), Some("10.0.1.128/26"))?;
                same(
                    "type",
                    made.reservation_type().map(|kind| kind.as_str()),
                    Some("prefix"),
                )?;
                same("owner", made.owner_id().map(str::len), Some(12))?;
            }
        ),
        check!(
            "GetSubnetCidrReservations",
            "It lists the reservations of a subnet.",
            "D API_GetSubnetCidrReservations",
            |ec2| {
                let place = ec2.place().await?;
                reserve(ec2, &place.subnet, "10.0.1.128/26", Kind::Explicit)
                    .send()
                    .await?;
                let found = ec2
                    .sdk
                    .get_subnet_cidr_reservations()
                    .subnet_id(&place.subnet)
                    .send()
                    .await?;
                let all = found.subnet_ipv4_cidr_reservations();
                let cidrs: Vec<_> = all
                    .iter()
                    .filter_map(|reservation| reservation.cidr())
                    .collect();
                same("reservations", cidrs, ["10.0.1.128/26"])?;
            }
        ),
        check!(
            "Reservation.prefix keeps auto-assign out (60 ENIs)",
            "Addresses that EC2 chooses are not of a range that is reserved for prefixes.",
            "D Subnet CIDR reservations: type prefix",
            |ec2| {
                let place = ec2.place().await?;
                reserve(ec2, &place.subnet, "10.0.1.128/26", Kind::Prefix)
                    .send()
                    .await?;
                let inside = in_the_reserved_quarter(ec2, &place.subnet, 60).await?;
                holds(inside == 0, "gives addresses of the reserved range")?;
            }
        ),
        check!(
            "CreateSubnetCidrReservation.outside",
            "A range that is not of the subnet is refused.",
            "R the code; moto has it too",
            |ec2| {
                let place = ec2.place().await?;
                let asked = reserve(ec2, &place.subnet, "10.0.9.0/26", Kind::Prefix)
                    .send()
                    .await;
                asked.refused(&["InvalidParameterValue"])?;
            }
        ),
        check!(
            "CreateSubnetCidrReservation.overlap",
            "A range that another reservation has is refused.",
            "D Subnet CIDR reservations; R the code",
            |ec2| {
                let place = ec2.place().await?;
                reserve(ec2, &place.subnet, "10.0.1.128/26", Kind::Prefix)
                    .send()
                    .await?;
                let asked = reserve(ec2, &place.subnet, "10.0.1.144/28", Kind::Prefix)
                    .send()
                    .await;
                asked.refused(&["InvalidParameterValue", "InvalidParameter"])?;
            }
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Reservation.explicit keeps everything automatic out",
            "An explicit range is used for what is asked by address only.",
            "D Subnet CIDR reservations: type explicit",
            |ec2| {
                let place = ec2.place().await?;
                reserve(ec2, &place.subnet, "10.0.1.128/26", Kind::Explicit)
                    .send()
                    .await?;
                let inside = in_the_reserved_quarter(ec2, &place.subnet, 60).await?;
                holds(inside == 0, "gives addresses of the reserved range")?;
                let made = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                made.private_ip_address("10.0.1.130").send().await?;
            }
        ),
        check!(
            "Reservation.prefix serves automatic prefixes",
            "Prefixes that EC2 chooses come from a range that is reserved for them.",
            "D Subnet CIDR reservations; I aws/amazon-vpc-cni-k8s#2749: the reservation first",
            |ec2| {
                let place = ec2.place().await?;
                reserve(ec2, &place.subnet, "10.0.1.128/27", Kind::Prefix)
                    .send()
                    .await?;
                let made = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let eni = made
                    .ipv4_prefix_count(2)
                    .send()
                    .await?
                    .network_interface
                    .need("ENI")?;
                let mut given = prefixes(&eni);
                given.sort_unstable();
                same("prefixes", given, ["10.0.1.128/28", "10.0.1.144/28"])?;
            }
        ),
        check!(
            "Reservation.may cover addresses in use",
            "A reservation leaves those who have an address of it alone.",
            "D Subnet CIDR reservations",
            |ec2| {
                let place = ec2.place().await?;
                let made = ec2.sdk.create_network_interface().subnet_id(&place.subnet);
                let made = made.private_ip_address("10.0.1.130").send().await?;
                let id = made
                    .network_interface
                    .and_then(|eni| eni.network_interface_id)
                    .need("ENI")?;
                reserve(ec2, &place.subnet, "10.0.1.128/26", Kind::Explicit)
                    .send()
                    .await?;
                same(
                    "addresses",
                    addresses(&ec2.described(&id).await?),
                    ["10.0.1.130"],
                )?;
            }
        ),
        check!(
            "Reservation.deleted",
            "A range whose reservation is deleted serves everyone again.",
            "D API_DeleteSubnetCidrReservation",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/27").await?;
                let made = reserve(ec2, &place.subnet, "10.0.1.16/28", Kind::Explicit)
                    .send()
                    .await?;
                let id = made
                    .subnet_cidr_reservation
                    .and_then(|made| made.subnet_cidr_reservation_id);
                let id = id.need("id")?;
                // Twelve of the lower half are free, and no other.
                for _ in 0..12 {
                    ec2.sdk
                        .create_network_interface()
                        .subnet_id(&place.subnet)
                        .send()
                        .await?;
                }
                let asked = ec2
                    .sdk
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .send()
                    .await;
                asked.refused(&["InsufficientFreeAddressesInSubnet"])?;
                ec2.sdk
                    .delete_subnet_cidr_reservation()
                    .subnet_cidr_reservation_id(&id)
                    .send()
                    .await?;
                let made = ec2
                    .sdk
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .send()
                    .await?;
                let address = made
                    .network_interface
                    .and_then(|eni| eni.private_ip_address)
                    .need("address")?;
                let address: Ipv4Addr = address.parse().map_err(|_| Difference(address.clone()))?;
                holds(
                    address.octets()[3] >= 16,
                    format!("{address} was free before"),
                )?;
            }
        ),
    ]
}
