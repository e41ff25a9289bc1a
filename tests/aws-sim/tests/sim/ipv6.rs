//! IPv6 addresses and /80 prefixes of ENIs.

use std::net::Ipv6Addr;
use std::time::Duration;

use aws_sim::subnet::Order;
use aws_sim::{LaunchSpec, WorldConfig};
use ipnet::Ipv6Net;

use crate::{Setup, all, first};

/// The setup, whose first subnet has an IPv6 block too.
pub(crate) fn dual_stack() -> (Setup, Ipv6Net) {
    dual_stack_with(WorldConfig::default())
}

fn dual_stack_with(config: WorldConfig) -> (Setup, Ipv6Net) {
    let mut setup = Setup::with(config);
    let vpc = setup.world.subnet(&setup.subnet).unwrap().vpc.clone();
    setup.world.add_vpc_ipv6(&vpc).unwrap();
    let block = setup.world.vpc(&vpc).unwrap().ipv6_cidrs()[0];
    let cidr = block.subnets(64).unwrap().nth(7).unwrap();
    let subnet = setup.subnet.clone();
    setup.world.add_subnet_ipv6(&subnet, cidr).unwrap();
    (setup, cidr)
}

fn within(cidr: Ipv6Net, tail: &str) -> String {
    let tail: Ipv6Addr = format!("::{tail}").parse().unwrap();
    Ipv6Addr::from(u128::from(cidr.network()) | u128::from(tail)).to_string()
}

#[test]
fn assigning_answers_only_what_is_new() {
    let (mut setup, cidr) = dual_stack();
    let eni = setup.create(&[("Ipv6AddressCount", "2")]);
    let had = all(&setup.eni(&eni), "ipv6Address");
    assert_eq!(had.len(), 2);
    let id = ("NetworkInterfaceId", eni.as_str());
    let body = setup.ok("AssignIpv6Addresses", &[id, ("Ipv6AddressCount", "3")]);
    let set = body.split("assignedIpv6Addresses>").nth(1).unwrap();
    let new = all(set, "item");
    assert_eq!(new.len(), 3, "{body}");
    for address in &new {
        assert!(
            cidr.contains(&address.parse::<Ipv6Addr>().unwrap()),
            "{address}"
        );
    }
    assert_eq!(all(&setup.eni(&eni), "ipv6Address"), [had, new].concat());

    let body = setup.ok("AssignIpv6Addresses", &[id, ("Ipv6PrefixCount", "1")]);
    let set = body.split("assignedIpv6PrefixSet>").nth(1).unwrap();
    let prefix: Ipv6Net = all(set, "item")[0].parse().unwrap();
    assert_eq!((prefix.prefix_len(), prefix.trunc()), (80, prefix));
    assert!(cidr.contains(&prefix));
    assert_eq!(all(&setup.eni(&eni), "ipv6Prefix"), [prefix.to_string()]);
}

#[test]
fn what_is_named_is_had_and_given_back() {
    let (mut setup, cidr) = dual_stack();
    let (address, prefix) = (within(cidr, "9"), format!("{}/80", within(cidr, "7:0:0:0")));
    let eni = setup.create(&[]);
    let other = setup.create(&[]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let named = [id, ("Ipv6Addresses.1", &address)];
    setup.ok("AssignIpv6Addresses", &named);
    let whole = [id, ("Ipv6Prefix.1", prefix.as_str())];
    setup.ok("AssignIpv6Addresses", &whole);
    let inside = within(cidr, "7:0:0:5");
    for taken in [&address, &inside] {
        let take = [
            ("NetworkInterfaceId", other.as_str()),
            ("Ipv6Addresses.1", taken),
        ];
        let (code, _) = setup.refused("AssignIpv6Addresses", &take);
        assert_eq!(code, "InvalidIPAddress.InUse", "{taken}");
    }
    let both = [id, ("Ipv6Addresses.1", &address), ("Ipv6Prefix.1", &prefix)];
    let body = setup.ok("UnassignIpv6Addresses", &both);
    assert_eq!(all(&body, "item"), [address.as_str(), &prefix]);
    assert_eq!(all(&setup.eni(&eni), "ipv6Address").len(), 0);
    for free in [&address, &inside] {
        let take = [
            ("NetworkInterfaceId", other.as_str()),
            ("Ipv6Addresses.1", free),
        ];
        setup.ok("AssignIpv6Addresses", &take);
    }
    // What an ENI has goes with it.
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &other)]);
    setup.create(&[("Ipv6Addresses.1.Ipv6Address", &address)]);
}

#[test]
fn an_ipv6_address_or_a_prefix_takes_a_slot_of_the_type() {
    let (mut setup, _) = dual_stack();
    let eni = setup.create(&[]);
    setup.attach(&eni, "1");
    let mut assign = |what: &str, count: &str| {
        let params = [("NetworkInterfaceId", eni.as_str()), (what, count)];
        setup.call("AssignIpv6Addresses", &params).error
    };
    let limit = Some("PrivateIpAddressLimitExceeded".to_owned());
    assert_eq!(assign("Ipv6AddressCount", "11"), limit);
    assert_eq!(assign("Ipv6AddressCount", "7"), None);
    assert_eq!(assign("Ipv6PrefixCount", "4"), limit);
    assert_eq!(assign("Ipv6PrefixCount", "3"), None);
    assert_eq!(assign("Ipv6AddressCount", "1"), limit);
}

#[test]
fn a_full_eni_is_not_attached_to_a_smaller_instance() {
    let (mut setup, _) = dual_stack();
    let eni = setup.create(&[("Ipv6AddressCount", "11")]);
    setup.pass(Duration::from_secs(1));
    let instance = setup.instance.to_string();
    let attach = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", &instance),
        ("DeviceIndex", "1"),
    ];
    let (code, _) = setup.refused("AttachNetworkInterface", &attach);
    assert_eq!(code, "PrivateIpAddressLimitExceeded");
}

#[test]
fn what_can_not_be_had_is_refused_and_takes_nothing() {
    let (mut setup, cidr) = dual_stack();
    let eni = setup.create(&[]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let [kept, last, free, inside] =
        ["3", "ffff:ffff:ffff:ffff", "9", "9:0:0:1"].map(|tail| within(cidr, tail));
    let unaligned = format!("{inside}/80");
    let short = format!("{}/79", within(cidr, "8:0:0:0"));
    let first_block = format!("{}/80", cidr.network());
    for (params, code) in [
        (vec![], "MissingParameter"),
        (
            vec![("Ipv6Addresses.1", "2001:db8::1")],
            "InvalidParameterValue",
        ),
        (
            vec![("Ipv6Addresses.1", kept.as_str())],
            "InvalidParameterValue",
        ),
        (vec![("Ipv6Addresses.1", &last)], "InvalidParameterValue"),
        (
            vec![("Ipv6Addresses.1", "10.0.0.9")],
            "InvalidParameterValue",
        ),
        (vec![("Ipv6Prefix.1", &unaligned)], "InvalidParameterValue"),
        (vec![("Ipv6Prefix.1", &short)], "InvalidParameterValue"),
        (
            vec![("Ipv6Prefix.1", &first_block)],
            "InvalidParameterValue",
        ),
        (
            vec![("Ipv6Prefix.1", "2001:db8::/80")],
            "InvalidParameterValue",
        ),
        (vec![("Ipv6AddressCount", "0")], "InvalidParameterValue"),
        (
            vec![("Ipv6AddressCount", "1"), ("Ipv6PrefixCount", "1")],
            "InvalidParameterCombination",
        ),
        (
            vec![("Ipv6AddressCount", "1"), ("Ipv6Addresses.1", &free)],
            "InvalidParameterCombination",
        ),
        // The first could be had, but not the second.
        (
            vec![("Ipv6Addresses.1", &free), ("Ipv6Addresses.2", &kept)],
            "InvalidParameterValue",
        ),
        // There is no AllowReassignment for IPv6.
        (
            vec![("Ipv6Addresses.1", &free), ("AllowReassignment", "true")],
            "UnknownParameter",
        ),
    ] {
        let params = [vec![id], params].concat();
        let refused = setup.refused("AssignIpv6Addresses", &params);
        assert_eq!(refused.0, code, "{params:?}: {}", refused.1);
    }
    setup.ok("AssignIpv6Addresses", &[id, ("Ipv6Addresses.1", &free)]);
    for (params, code) in [
        (vec![], "MissingParameter"),
        (
            vec![("Ipv6Addresses.1", inside.as_str())],
            "InvalidParameterValue",
        ),
        (vec![("Ipv6Prefix.1", &unaligned)], "InvalidParameterValue"),
    ] {
        let params = [vec![id], params].concat();
        assert_eq!(
            setup.refused("UnassignIpv6Addresses", &params).0,
            code,
            "{params:?}"
        );
    }
}

#[test]
fn a_subnet_without_ipv6_has_none_to_give() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let free = setup.free();
    let (subnet, id) = (
        setup.subnet.to_string(),
        ("NetworkInterfaceId", eni.as_str()),
    );
    for what in ["Ipv6AddressCount", "Ipv6PrefixCount"] {
        let refused = setup.refused("AssignIpv6Addresses", &[id, (what, "1")]);
        assert_eq!(refused.0, "InvalidParameterValue");
        let create = [("SubnetId", subnet.as_str()), (what, "1")];
        let refused = setup.refused("CreateNetworkInterface", &create);
        assert_eq!(refused.0, "InvalidParameterValue");
    }
    assert_eq!(setup.free(), free);
}

#[test]
fn an_eni_is_made_with_addresses_or_prefixes() {
    let (mut setup, cidr) = dual_stack();
    let prefix = format!("{}/80", within(cidr, "a:0:0:0"));
    let eni = setup.create(&[("Ipv6Prefix.1.Ipv6Prefix", &prefix)]);
    assert_eq!(all(&setup.eni(&eni), "ipv6Prefix"), [prefix.as_str()]);
    let eni = setup.create(&[("Ipv6PrefixCount", "2"), ("Ipv4PrefixCount", "1")]);
    let body = setup.eni(&eni);
    assert_eq!(
        (
            all(&body, "ipv6Prefix").len(),
            all(&body, "ipv4Prefix").len()
        ),
        (2, 1)
    );
    let subnet = setup.subnet.to_string();
    for (params, code) in [
        (
            vec![("Ipv6Prefix.1.Ipv6Prefix", prefix.as_str())],
            "InvalidParameterValue",
        ),
        (
            vec![("Ipv6PrefixCount", "1"), ("Ipv6AddressCount", "1")],
            "InvalidParameterCombination",
        ),
        (
            vec![("Ipv6AddressCount", "51")],
            "PrivateIpAddressLimitExceeded",
        ),
    ] {
        let params = [vec![("SubnetId", subnet.as_str())], params].concat();
        let free = setup.free();
        assert_eq!(
            setup.refused("CreateNetworkInterface", &params).0,
            code,
            "{params:?}"
        );
        assert_eq!(setup.free(), free);
    }
}

#[test]
fn the_primary_ipv6_address_stays_until_the_eni_is_detached() {
    let (mut setup, cidr) = dual_stack();
    let eni = setup.create(&[("EnablePrimaryIpv6", "true")]);
    let body = setup.eni(&eni);
    assert_eq!(all(&body, "isPrimaryIpv6"), ["true"]);
    let (address, id) = (
        first(&body, "ipv6Address"),
        ("NetworkInterfaceId", eni.as_str()),
    );
    let unassign = [id, ("Ipv6Addresses.1", address.as_str())];
    let (code, _) = setup.refused("UnassignIpv6Addresses", &unassign);
    assert_eq!(code, "InvalidParameterValue");
    let disable = [id, ("EnablePrimaryIpv6", "false")];
    let (code, _) = setup.refused("ModifyNetworkInterfaceAttribute", &disable);
    assert_eq!(code, "InvalidParameterValue");
    let attachment = setup.attach(&eni, "1");
    setup.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    setup.pass(Duration::from_secs(5));
    setup.ok("UnassignIpv6Addresses", &unassign);

    // An ENI that has none gets one; one that has some keeps its first.
    let enable = [id, ("EnablePrimaryIpv6", "true")];
    setup.ok("ModifyNetworkInterfaceAttribute", &enable);
    assert_eq!(all(&setup.eni(&eni), "isPrimaryIpv6"), ["true"]);
    let named = within(cidr, "77");
    let other = setup.create(&[
        ("Ipv6Addresses.1.Ipv6Address", within(cidr, "78").as_str()),
        ("Ipv6Addresses.2.Ipv6Address", &named),
        ("Ipv6Addresses.2.IsPrimaryIpv6", "true"),
    ]);
    let body = setup.eni(&other);
    assert_eq!(all(&body, "isPrimaryIpv6"), ["true", "false"]);
    assert_eq!(first(&body, "ipv6Address"), named);
}

#[test]
fn a_subnet_may_give_every_new_eni_an_ipv6_address() {
    let (mut setup, _) = dual_stack();
    let subnet = setup.subnet.to_string();
    setup.ok(
        "ModifySubnetAttribute",
        &[
            ("SubnetId", &subnet),
            ("AssignIpv6AddressOnCreation.Value", "true"),
        ],
    );
    for (params, count) in [
        (vec![], 1),
        (vec![("Ipv6AddressCount", "0")], 0),
        (vec![("Ipv6AddressCount", "3")], 3),
    ] {
        let eni = setup.create(&params);
        let body = setup.eni(&eni);
        assert_eq!(all(&body, "ipv6Address").len(), count, "{params:?}");
    }
}

#[test]
fn the_lowest_address_and_prefix_come_first_where_the_knob_says_so() {
    let (mut setup, cidr) = dual_stack_with(WorldConfig {
        order: Order::Lowest,
        ..WorldConfig::default()
    });
    let eni = setup.create(&[("Ipv6AddressCount", "2")]);
    let held = all(&setup.eni(&eni), "ipv6Address");
    assert_eq!(held, [within(cidr, "4"), within(cidr, "5")]);
    let eni = setup.create(&[("Ipv6PrefixCount", "1")]);
    let held = all(&setup.eni(&eni), "ipv6Prefix");
    // The first block has addresses that EC2 keeps.
    assert_eq!(held, [format!("{}/80", within(cidr, "1:0:0:0"))]);
}

#[test]
fn xen_takes_no_ipv6_prefix() {
    let (mut setup, _) = dual_stack();
    let spec = LaunchSpec::new("t2.micro", &setup.subnet);
    let xen = setup.world.launch_instance(setup.now, spec).unwrap();
    let eni = setup.world.primary_eni(&xen).unwrap().id.to_string();
    let id = ("NetworkInterfaceId", eni.as_str());
    let refused = setup.refused("AssignIpv6Addresses", &[id, ("Ipv6PrefixCount", "1")]);
    assert_eq!(refused.0, "InvalidParameterValue");
    setup.ok("AssignIpv6Addresses", &[id, ("Ipv6AddressCount", "1")]);
}

#[test]
fn filters_find_an_ipv6_address() {
    let (mut setup, _) = dual_stack();
    let eni = setup.create(&[("Ipv6AddressCount", "2")]);
    setup.create(&[("Ipv6AddressCount", "2")]);
    let held = all(&setup.eni(&eni), "ipv6Address");
    let filter = [
        ("Filter.1.Name", "ipv6-addresses.ipv6-address"),
        ("Filter.1.Value.1", held[1].as_str()),
    ];
    let found = setup.ok("DescribeNetworkInterfaces", &filter);
    assert_eq!(all(&found, "networkInterfaceId"), [eni]);
}
