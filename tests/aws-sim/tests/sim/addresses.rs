//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses.

use aws_sim::{LaunchSpec, WorldConfig};

use crate::{Setup, addresses, all, first};

#[test]
fn the_reply_has_only_what_is_new() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("SecondaryPrivateIpAddressCount", "2")]);
    let before = addresses(&setup.eni(&eni));
    let params = [
        ("NetworkInterfaceId", eni.as_str()),
        ("SecondaryPrivateIpAddressCount", "3"),
    ];
    let new = all(
        &setup.ok("AssignPrivateIpAddresses", &params),
        "privateIpAddress",
    );
    assert_eq!(new.len(), 3);
    assert_eq!(addresses(&setup.eni(&eni)), [before, new].concat());
}

#[test]
fn an_address_or_a_prefix_takes_a_slot_and_a_prefix_sixteen_addresses() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    setup.attach(&eni, "1");
    let free = setup.free();
    let mut assign = |what: &str, count: &str| {
        let params = [("NetworkInterfaceId", eni.as_str()), (what, count)];
        let response = setup.call("AssignPrivateIpAddresses", &params);
        (response.error, free - setup.free())
    };
    assert_eq!(assign("Ipv4PrefixCount", "2"), (None, 32));
    assert_eq!(assign("SecondaryPrivateIpAddressCount", "6"), (None, 38));
    let limit = Some("PrivateIpAddressLimitExceeded".to_owned());
    assert_eq!(
        assign("SecondaryPrivateIpAddressCount", "2"),
        (limit.clone(), 38)
    );
    assert_eq!(assign("Ipv4PrefixCount", "1"), (None, 54));
    assert_eq!(assign("Ipv4PrefixCount", "1"), (limit.clone(), 54));
    assert_eq!(assign("SecondaryPrivateIpAddressCount", "1"), (limit, 54));
}

#[test]
fn a_whole_subnet_without_a_whole_block_has_no_prefix() {
    let mut setup = Setup::new();
    // One address in each /28 of the /24 is enough.
    for block in 1..15 {
        let address = format!("10.0.0.{}", block * 16 + 5);
        // The instance may have this one.
        let params = [("SubnetId", "x"), ("PrivateIpAddress", address.as_str())];
        let subnet = setup.subnet.to_string();
        setup.call(
            "CreateNetworkInterface",
            &[("SubnetId", subnet.as_str()), params[1]],
        );
    }
    assert!(setup.free() > 200);
    let eni = setup.create(&[]);
    let params = [
        ("NetworkInterfaceId", eni.as_str()),
        ("Ipv4PrefixCount", "1"),
    ];
    let (code, text) = setup.refused("AssignPrivateIpAddresses", &params);
    assert_eq!(code, "InsufficientCidrBlocks");
    assert_eq!(
        text,
        "The specified subnet does not have enough free cidr blocks to satisfy the request."
    );
}

#[test]
fn exhaustion_has_two_codes_as_in_ec2() {
    for (vague, expected) in [
        (false, "InsufficientFreeAddressesInSubnet"),
        (true, "InvalidParameterValue"),
    ] {
        let mut setup = Setup::with(WorldConfig {
            vague_subnet_errors: vague,
            ..WorldConfig::default()
        });
        for _ in 0..5 {
            setup.create(&[("SecondaryPrivateIpAddressCount", "49")]);
        }
        assert_eq!(setup.free(), 0);
        let subnet = setup.subnet.to_string();
        let (code, _) = setup.refused("CreateNetworkInterface", &[("SubnetId", &subnet)]);
        assert_eq!(code, expected);
    }
}

#[test]
fn an_address_moves_only_when_it_may_and_never_a_primary() {
    let mut setup = Setup::new();
    let from = setup.create(&[("SecondaryPrivateIpAddressCount", "1")]);
    let to = setup.create(&[]);
    let held = addresses(&setup.eni(&from));
    let mut assign = |address: &str, may: &str| {
        let what = [("PrivateIpAddress.1", address), ("AllowReassignment", may)];
        let params = [&[("NetworkInterfaceId", to.as_str())], what.as_slice()].concat();
        setup.call("AssignPrivateIpAddresses", &params)
    };
    let refused = assign(&held[1], "false");
    assert_eq!(refused.error.as_deref(), Some("InvalidParameterValue"));
    let text = first(&refused.body, "Message");
    assert_eq!(
        text,
        format!("[{}] assigned, but move is not allowed.", held[1])
    );
    assert_eq!(
        assign(&held[0], "true").error.as_deref(),
        Some("InvalidParameterValue")
    );
    assert_eq!(assign(&held[1], "true").error, None);
    assert_eq!(addresses(&setup.eni(&from)), held[..1]);
    assert_eq!(addresses(&setup.eni(&to))[1], held[1]);
}

#[test]
fn exactly_one_kind_of_thing_is_assigned() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    for (params, code) in [
        (vec![], "MissingParameter"),
        (
            vec![
                ("PrivateIpAddress.1", "10.0.0.9"),
                ("SecondaryPrivateIpAddressCount", "1"),
            ],
            "InvalidParameterCombination",
        ),
        (
            vec![
                ("Ipv4PrefixCount", "1"),
                ("SecondaryPrivateIpAddressCount", "1"),
            ],
            "InvalidParameterCombination",
        ),
        (
            vec![("SecondaryPrivateIpAddressCount", "0")],
            "InvalidParameterValue",
        ),
        (
            vec![("SecondaryPrivateIpAddressCount", "-1")],
            "InvalidParameterValue",
        ),
        (vec![("PrivateIpAddress.1", "ten")], "InvalidParameterValue"),
        (
            vec![("Ipv4Prefix.1", "10.0.0.16/27")],
            "InvalidParameterValue",
        ),
    ] {
        let params = [vec![("NetworkInterfaceId", eni.as_str())], params].concat();
        assert_eq!(
            setup.refused("AssignPrivateIpAddresses", &params).0,
            code,
            "{params:?}"
        );
    }
}

#[test]
fn unassigning_gives_back_what_is_held_and_nothing_else() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let free = setup.free();
    let id = ("NetworkInterfaceId", eni.as_str());
    setup.ok(
        "AssignPrivateIpAddresses",
        &[id, ("PrivateIpAddress.1", "10.0.0.9")],
    );
    setup.ok(
        "AssignPrivateIpAddresses",
        &[id, ("Ipv4Prefix.1", "10.0.0.32/28")],
    );
    assert_eq!(setup.free(), free - 17);
    let primary = addresses(&setup.eni(&eni))[0].clone();
    for what in [
        ("PrivateIpAddress.1", primary.as_str()),
        ("PrivateIpAddress.1", "10.0.0.200"),
        ("PrivateIpAddress.1", "10.0.0.33"),
        ("Ipv4Prefix.1", "10.0.0.48/28"),
    ] {
        let (code, _) = setup.refused("UnassignPrivateIpAddresses", &[id, what]);
        assert_eq!(code, "InvalidParameterValue", "{what:?}");
    }
    assert_eq!(
        setup.refused("UnassignPrivateIpAddresses", &[id]).0,
        "MissingParameter"
    );
    let both = [
        id,
        ("PrivateIpAddress.1", "10.0.0.9"),
        ("Ipv4Prefix.1", "10.0.0.32/28"),
    ];
    setup.ok("UnassignPrivateIpAddresses", &both);
    assert_eq!(setup.free(), free);
}

#[test]
fn xen_takes_no_prefixes() {
    let mut setup = Setup::new();
    let spec = LaunchSpec::new("t2.micro", &setup.subnet);
    let xen = setup.world.launch_instance(setup.now, spec).unwrap();
    let eni = setup.world.primary_eni(&xen).unwrap().id.to_string();
    let params = [
        ("NetworkInterfaceId", eni.as_str()),
        ("Ipv4PrefixCount", "1"),
    ];
    assert_eq!(
        setup.refused("AssignPrivateIpAddresses", &params).0,
        "InvalidParameterValue"
    );
}

#[test]
fn what_an_eni_has_already_is_answered_again_and_takes_no_slot() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    setup.attach(&eni, "1");
    let id = ("NetworkInterfaceId", eni.as_str());
    let take = [
        id,
        ("PrivateIpAddress.1", "10.0.0.9"),
        ("PrivateIpAddress.2", "10.0.0.9"),
    ];
    setup.ok("AssignPrivateIpAddresses", &take);
    let eight = [id, ("SecondaryPrivateIpAddressCount", "8")];
    setup.ok("AssignPrivateIpAddresses", &eight);
    let free = setup.free();
    let again = setup.ok("AssignPrivateIpAddresses", &take[..2]);
    assert_eq!(all(&again, "privateIpAddress"), ["10.0.0.9"]);
    assert_eq!(
        (setup.free(), addresses(&setup.eni(&eni)).len()),
        (free, 10)
    );
}

#[test]
fn an_address_moves_between_instances_but_not_out_of_a_prefix() {
    let mut setup = Setup::new();
    let from = setup.create(&[]);
    setup.attach(&from, "1");
    let assign = |setup: &mut Setup, eni: &str, what: (&str, &str)| {
        let params = [
            ("NetworkInterfaceId", eni),
            what,
            ("AllowReassignment", "true"),
        ];
        setup.call("AssignPrivateIpAddresses", &params).error
    };
    let prefix = ("Ipv4Prefix.1", "10.0.0.32/28");
    assert_eq!(assign(&mut setup, &from, prefix), None);
    assert_eq!(
        assign(&mut setup, &from, ("PrivateIpAddress.1", "10.0.0.9")),
        None
    );
    let spec = LaunchSpec::new("m5.large", &setup.subnet);
    let other = setup.world.launch_instance(setup.now, spec).unwrap();
    let to = setup.world.primary_eni(&other).unwrap().id.to_string();
    let free = setup.free();
    assert_eq!(
        assign(&mut setup, &to, ("PrivateIpAddress.1", "10.0.0.9")),
        None
    );
    assert_eq!(setup.free(), free);
    assert!(addresses(&setup.eni(&to)).contains(&"10.0.0.9".to_owned()));
    assert_eq!(addresses(&setup.eni(&from)).len(), 1);
    let inside = assign(&mut setup, &to, ("PrivateIpAddress.1", "10.0.0.33"));
    assert_eq!(inside.as_deref(), Some("InvalidParameterValue"));
    assert_eq!(all(&setup.eni(&from), "ipv4Prefix"), ["10.0.0.32/28"]);
}

#[test]
fn of_several_addresses_all_are_assigned_or_none() {
    let mut setup = Setup::new();
    let (eni, other) = (setup.create(&[]), setup.create(&[]));
    let taken = addresses(&setup.eni(&other))[0].clone();
    let free = setup.free();
    let id = ("NetworkInterfaceId", eni.as_str());
    for second in [taken.as_str(), "10.0.0.3", "10.0.1.9"] {
        let params = [
            id,
            ("PrivateIpAddress.1", "10.0.0.9"),
            ("PrivateIpAddress.2", second),
            ("AllowReassignment", "true"),
        ];
        let (code, _) = setup.refused("AssignPrivateIpAddresses", &params);
        assert_eq!(code, "InvalidParameterValue", "{second}");
        assert_eq!(setup.free(), free, "{second}");
    }
}

#[test]
fn what_is_refused_is_said_in_the_words_of_ec2() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let primary = addresses(&setup.eni(&eni))[0].clone();
    let id = ("NetworkInterfaceId", eni.as_str());
    for (action, params, text) in [
        (
            "AssignPrivateIpAddresses",
            vec![("PrivateIpAddress.1", "10.0.0.1")],
            "Address 10.0.0.1 is in subnet's reserved range.".to_owned(),
        ),
        (
            "AssignPrivateIpAddresses",
            vec![("PrivateIpAddress.1", "10.9.9.9")],
            "Address does not fall within the subnet's address range".to_owned(),
        ),
        (
            "AssignPrivateIpAddresses",
            vec![],
            "One of privateIpAddressSet or privateIpAddressCount or ipv4PrefixSet or \
             ipv4PrefixCount must be specified."
                .to_owned(),
        ),
        (
            "UnassignPrivateIpAddresses",
            vec![("PrivateIpAddress.1", primary.as_str())],
            format!(
                "Value ({primary}) for parameter privateIpAddress is invalid. The primary IP \
                 address of an interface cannot be unassigned."
            ),
        ),
        (
            "UnassignPrivateIpAddresses",
            vec![("PrivateIpAddress.1", "10.0.0.200")],
            format!("Some of the specified addresses are not assigned to interface {eni}"),
        ),
    ] {
        let params = [vec![id], params].concat();
        assert_eq!(
            setup.refused(action, &params).1,
            text,
            "{action} {params:?}"
        );
    }
}
