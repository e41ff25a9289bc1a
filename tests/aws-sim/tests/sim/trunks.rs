//! Branch interfaces on trunk interfaces.

use crate::{Setup, all, first};

/// A trunk, and two ENIs that can be branches.
fn trunk(setup: &mut Setup) -> (String, String, String) {
    let trunk = setup.create(&[("InterfaceType", "trunk")]);
    (trunk, setup.create(&[]), setup.create(&[]))
}

fn associate<'a>(trunk: &'a str, branch: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("TrunkInterfaceId", trunk), ("BranchInterfaceId", branch)]
}

#[test]
fn a_branch_is_in_use_until_it_is_taken_off_its_trunk() {
    let mut setup = Setup::new();
    let (trunk, branch, _) = trunk(&mut setup);
    let params = [associate(&trunk, &branch), vec![("VlanId", "7")]].concat();
    let body = setup.ok("AssociateTrunkInterface", &params);
    assert_eq!(first(&body, "interfaceProtocol"), "VLAN");
    assert_eq!(first(&body, "vlanId"), "7");
    let id = first(&body, "associationId");
    let shown = setup.eni(&branch);
    assert_eq!(first(&shown, "status"), "in-use");
    assert_eq!(first(&shown, "interfaceType"), "branch");

    for eni in [&branch, &trunk] {
        let (code, text) = setup.refused("DeleteNetworkInterface", &[("NetworkInterfaceId", eni)]);
        assert_eq!(code, "InvalidParameterValue");
        assert_eq!(
            text,
            format!("Network interface '{eni}' is currently in use.")
        );
    }
    setup.ok("DisassociateTrunkInterface", &[("AssociationId", &id)]);
    setup.refused("DisassociateTrunkInterface", &[("AssociationId", &id)]);
    setup.pass(std::time::Duration::from_secs(1));
    assert_eq!(first(&setup.eni(&branch), "status"), "available");
    // It stays a branch: it can't be attached.
    let instance = setup.instance.to_string();
    let attach = [
        ("NetworkInterfaceId", branch.as_str()),
        ("InstanceId", &instance),
        ("DeviceIndex", "1"),
    ];
    let (code, _) = setup.refused("AttachNetworkInterface", &attach);
    assert_eq!(code, "InvalidParameterValue");
    for eni in [&branch, &trunk] {
        setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", eni)]);
    }
}

#[test]
fn a_branch_hangs_on_one_trunk_with_a_key_of_its_own() {
    let mut setup = Setup::new();
    let (trunk, one, other) = trunk(&mut setup);
    let another = setup.create(&[("InterfaceType", "trunk")]);
    let far = setup.other_zone.to_string();
    let far = setup.ok("CreateNetworkInterface", &[("SubnetId", &far)]);
    let far = first(&far, "networkInterfaceId");
    let with = |trunk, branch, key| [associate(trunk, branch), vec![key]].concat();
    setup.ok(
        "AssociateTrunkInterface",
        &with(&trunk, &one, ("VlanId", "7")),
    );
    for (params, code) in [
        (
            with(&trunk, &other, ("VlanId", "7")),
            "InvalidParameterValue",
        ),
        (
            with(&trunk, &other, ("VlanId", "0")),
            "InvalidParameterValue",
        ),
        (
            with(&trunk, &other, ("VlanId", "4095")),
            "InvalidParameterValue",
        ),
        (
            with(&another, &one, ("VlanId", "8")),
            "InvalidParameterValue",
        ),
        (with(&one, &other, ("VlanId", "8")), "InvalidParameterValue"),
        (
            with(&trunk, &another, ("VlanId", "8")),
            "InvalidParameterValue",
        ),
        (
            with(&trunk, &far, ("VlanId", "8")),
            "InvalidParameterCombination",
        ),
        (associate(&trunk, &other), "MissingParameter"),
        (
            [with(&trunk, &other, ("VlanId", "8")), vec![("GreKey", "8")]].concat(),
            "InvalidParameterCombination",
        ),
        (
            with(&trunk, "eni-0123456789abcdef0", ("VlanId", "8")),
            "InvalidNetworkInterfaceID.NotFound",
        ),
    ] {
        let refused = setup.refused("AssociateTrunkInterface", &params);
        assert_eq!(refused.0, code, "{params:?}: {}", refused.1);
    }
    // The same number of another protocol is another key.
    setup.ok(
        "AssociateTrunkInterface",
        &with(&trunk, &other, ("GreKey", "7")),
    );
    let gre = [
        ("Filter.1.Name", "interface-protocol"),
        ("Filter.1.Value.1", "GRE"),
    ];
    let found = setup.ok("DescribeTrunkInterfaceAssociations", &gre);
    assert_eq!(all(&found, "branchInterfaceId"), [other.as_str()]);
    let all_of_them = setup.ok("DescribeTrunkInterfaceAssociations", &[]);
    assert_eq!(all(&all_of_them, "associationId").len(), 2);
}

#[test]
fn a_client_token_associates_and_disassociates_once() {
    let mut setup = Setup::new();
    let (trunk, branch, _) = trunk(&mut setup);
    let more = vec![("VlanId", "7"), ("ClientToken", "once")];
    let params = [associate(&trunk, &branch), more].concat();
    let body = setup.ok("AssociateTrunkInterface", &params);
    assert_eq!(first(&body, "clientToken"), "once");
    let id = first(&body, "associationId");
    assert_eq!(
        first(
            &setup.ok("AssociateTrunkInterface", &params),
            "associationId"
        ),
        id
    );
    let params = [("AssociationId", id.as_str()), ("ClientToken", "off")];
    setup.ok("DisassociateTrunkInterface", &params);
    setup.ok("DisassociateTrunkInterface", &params);
}

#[test]
fn a_trunk_that_goes_with_its_instance_lets_its_branches_go() {
    let mut setup = Setup::new();
    let (trunk, branch, _) = trunk(&mut setup);
    let attachment = setup.attach(&trunk, "1");
    setup.ok(
        "ModifyNetworkInterfaceAttribute",
        &[
            ("NetworkInterfaceId", &trunk),
            ("Attachment.AttachmentId", &attachment),
            ("Attachment.DeleteOnTermination", "true"),
        ],
    );
    let params = [associate(&trunk, &branch), vec![("VlanId", "7")]].concat();
    setup.ok("AssociateTrunkInterface", &params);
    let instance = setup.instance.clone();
    setup.world.terminate(setup.now, &instance).unwrap();
    setup.pass(std::time::Duration::from_secs(60));
    assert_eq!(first(&setup.eni(&branch), "status"), "available");
    let left = setup.ok("DescribeTrunkInterfaceAssociations", &[]);
    assert_eq!(all(&left, "associationId").len(), 0);
}
