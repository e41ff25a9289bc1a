//! Subnet CIDR reservations.

use aws_sim::WorldConfig;
use ipnet::Ipv4Net;

use crate::networks::filter;
use crate::{Setup, addresses, all, first};

impl Setup {
    /// Reserves a part of the first subnet; the reservation's id.
    fn reserve(&mut self, cidr: &str, kind: &str) -> String {
        let subnet = self.subnet.to_string();
        let params = [
            ("SubnetId", subnet.as_str()),
            ("Cidr", cidr),
            ("ReservationType", kind),
            ("Description", "for pods"),
        ];
        let made = self.ok("CreateSubnetCidrReservation", &params);
        first(&made, "subnetCidrReservationId")
    }

    /// The one prefix of a new ENI, or why it has none.
    fn new_prefix(&mut self) -> Result<Ipv4Net, String> {
        let subnet = self.subnet.to_string();
        let params = [("SubnetId", subnet.as_str()), ("Ipv4PrefixCount", "1")];
        let made = self.call("CreateNetworkInterface", &params);
        match made.error {
            None => Ok(first(&made.body, "ipv4Prefix").parse().unwrap()),
            Some(code) => Err(code),
        }
    }
}

fn part(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn reservations_are_made_listed_and_deleted() {
    let mut setup = Setup::new();
    let subnet = setup.subnet.to_string();
    let prefix = setup.reserve("10.0.0.128/26", "prefix");
    let explicit = setup.reserve("10.0.0.64/27", "explicit");
    let asked = [("SubnetId", subnet.as_str())];
    let found = setup.ok("GetSubnetCidrReservations", &asked);
    let mut both = [prefix.clone(), explicit.clone()];
    both.sort();
    assert_eq!(all(&found, "subnetCidrReservationId"), both);
    assert_eq!(all(&found, "ownerId"), ["111122223333"; 2]);
    assert_eq!(all(&found, "description"), ["for pods"; 2]);
    let only = [&asked[..], &filter("reservationType", "explicit")].concat();
    let found = setup.ok("GetSubnetCidrReservations", &only);
    assert_eq!(all(&found, "cidr"), ["10.0.0.64/27"]);
    setup.ok(
        "CreateTags",
        &[
            ("ResourceId.1", &prefix),
            ("Tag.1.Key", "a"),
            ("Tag.1.Value", "b"),
        ],
    );
    let tagged = [&asked[..], &filter("tag:a", "b")].concat();
    let found = setup.ok("GetSubnetCidrReservations", &tagged);
    assert_eq!(all(&found, "subnetCidrReservationId"), [prefix.as_str()]);
    let gone = setup.ok(
        "DeleteSubnetCidrReservation",
        &[("SubnetCidrReservationId", &prefix)],
    );
    assert_eq!(first(&gone, "cidr"), "10.0.0.128/26");
    let again = setup.refused(
        "DeleteSubnetCidrReservation",
        &[("SubnetCidrReservationId", &prefix)],
    );
    assert_eq!(again.0, "InvalidSubnetCidrReservationID.NotFound");
}

#[test]
fn a_reservation_outside_the_subnet_or_over_another_is_refused() {
    let mut setup = Setup::unthrottled();
    let subnet = setup.subnet.to_string();
    setup.reserve("10.0.0.128/26", "prefix");
    for (cidr, kind) in [
        ("10.0.1.0/26", "prefix"),
        ("10.0.0.0/16", "prefix"),
        ("10.0.0.144/28", "explicit"),
        ("10.0.0.128/25", "explicit"),
        ("10.0.0.0/28", "other"),
        ("bogus", "prefix"),
    ] {
        let params = [
            ("SubnetId", subnet.as_str()),
            ("Cidr", cidr),
            ("ReservationType", kind),
        ];
        let code = setup.refused("CreateSubnetCidrReservation", &params).0;
        assert_eq!(code, "InvalidParameterValue", "{cidr}");
    }
}

#[test]
fn addresses_by_number_are_never_of_a_reservation() {
    for kind in ["prefix", "explicit"] {
        let mut setup = Setup::new();
        setup.reserve("10.0.0.128/25", kind);
        let held: Vec<String> = addresses(&setup.ok("DescribeNetworkInterfaces", &[]));
        let mut given = 0;
        loop {
            let subnet = setup.subnet.to_string();
            let params = [
                ("SubnetId", subnet.as_str()),
                ("SecondaryPrivateIpAddressCount", "5"),
            ];
            let made = setup.call("CreateNetworkInterface", &params);
            if let Some(code) = made.error {
                assert_eq!(code, "InsufficientFreeAddressesInSubnet");
                break;
            }
            for address in addresses(&made.body) {
                given += 1;
                let address = address.parse().unwrap();
                assert!(
                    !part("10.0.0.128/25").contains::<&std::net::Ipv4Addr>(&address),
                    "{address}"
                );
            }
        }
        // The instance's own may be in the reservation: it was there before.
        let own: std::net::Ipv4Addr = held[0].parse().unwrap();
        let open = if part("10.0.0.128/25").contains(&own) {
            124
        } else {
            123
        };
        assert_eq!(given, open / 6 * 6, "{kind}");
    }
}

#[test]
fn prefixes_by_number_come_from_a_prefix_reservation_first_and_then_from_the_rest() {
    let mut setup = Setup::with(WorldConfig {
        order: aws_sim::subnet::Order::Lowest,
        ..WorldConfig::default()
    });
    setup.reserve("10.0.0.64/27", "prefix");
    setup.reserve("10.0.0.192/27", "prefix");
    setup.reserve("10.0.0.128/26", "explicit");
    let reserved = [part("10.0.0.64/27"), part("10.0.0.192/27")];
    for _ in 0..4 {
        let prefix = setup.new_prefix().unwrap();
        assert!(
            reserved.iter().any(|part| part.contains(&prefix)),
            "{prefix}"
        );
    }
    let rest = loop {
        match setup.new_prefix() {
            Ok(prefix) => assert!(!part("10.0.0.128/26").contains(&prefix), "{prefix}"),
            Err(code) => break code,
        }
    };
    assert_eq!(rest, "InsufficientCidrBlocks");
    // What is named may be of any reservation.
    let named = setup.create(&[("Ipv4Prefix.1.Ipv4Prefix", "10.0.0.128/28")]);
    assert_eq!(all(&setup.eni(&named), "ipv4Prefix"), ["10.0.0.128/28"]);
    let named = setup.create(&[("PrivateIpAddress", "10.0.0.150")]);
    assert_eq!(addresses(&setup.eni(&named)), ["10.0.0.150"]);
}

#[test]
fn the_choice_among_prefix_reservations_is_random() {
    let parts = [part("10.0.0.64/26"), part("10.0.0.192/27")];
    let mut seen = [0; 2];
    for seed in 0..20 {
        let mut setup = Setup::with(WorldConfig {
            seed,
            ..WorldConfig::default()
        });
        parts
            .iter()
            .for_each(|part| drop(setup.reserve(&part.to_string(), "prefix")));
        let prefix = setup.new_prefix().unwrap();
        let from = parts
            .iter()
            .position(|part| part.contains(&prefix))
            .unwrap();
        seen[from] += 1;
    }
    assert!(seen.iter().all(|count| *count > 2), "{seen:?}");
}

#[test]
fn what_is_taken_stays_when_a_reservation_comes_and_goes() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("PrivateIpAddress", "10.0.0.140")]);
    let before = setup.free();
    let id = setup.reserve("10.0.0.128/26", "explicit");
    assert_eq!(setup.free(), before);
    assert_eq!(addresses(&setup.eni(&eni)), ["10.0.0.140"]);
    setup.ok(
        "DeleteSubnetCidrReservation",
        &[("SubnetCidrReservationId", &id)],
    );
    assert_eq!(setup.free(), before);
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    assert_eq!(setup.free(), before + 1);
}

#[test]
fn a_knob_takes_reservations_out_of_the_count() {
    let mut setup = Setup::with(WorldConfig {
        reservations_lower_count: true,
        order: aws_sim::subnet::Order::Lowest,
        ..WorldConfig::default()
    });
    let before = setup.free();
    let id = setup.reserve("10.0.0.128/26", "prefix");
    assert_eq!(setup.free(), before - 64);
    setup.ok(
        "DeleteSubnetCidrReservation",
        &[("SubnetCidrReservationId", &id)],
    );
    assert_eq!(setup.free(), before);
}
