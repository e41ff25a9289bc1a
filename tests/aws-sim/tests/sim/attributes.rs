//! Attributes of an ENI: read, changed, reset; and who else may use it.

use crate::{Setup, all, first};

#[test]
fn attributes_change_one_at_a_time() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let mut modify = |params: &[(&str, &str)]| {
        let id = [("NetworkInterfaceId", eni.as_str())];
        let response = setup.call("ModifyNetworkInterfaceAttribute", &[&id, params].concat());
        (response.error, setup.eni(&eni))
    };
    let (error, body) = modify(&[("SourceDestCheck.Value", "false")]);
    assert_eq!(
        (error, first(&body, "sourceDestCheck").as_str()),
        (None, "false")
    );
    let (error, body) = modify(&[("Description.Value", "a (pod) & more")]);
    assert_eq!(
        (error, first(&body, "description").as_str()),
        (None, "a (pod) &amp; more")
    );
    for (refused, code) in [
        (vec![], "InvalidParameterCombination"),
        (
            vec![("SourceDestCheck.Value", "true"), ("Description.Value", "")],
            "InvalidParameterCombination",
        ),
        (
            vec![("SecurityGroupId.1", "sg-0123456789abcdef0")],
            "InvalidGroup.NotFound",
        ),
        (
            vec![("Attachment.DeleteOnTermination", "true")],
            "MissingParameter",
        ),
        (vec![("SourceDestCheck.Value", "")], "MissingParameter"),
    ] {
        assert_eq!(modify(&refused).0.as_deref(), Some(code), "{refused:?}");
    }
}

#[test]
fn idle_connections_are_remembered_for_as_long_as_is_asked() {
    let mut setup = Setup::new();
    let eni = setup.create(&[
        (
            "ConnectionTrackingSpecification.TcpEstablishedTimeout",
            "350",
        ),
        ("ConnectionTrackingSpecification.UdpTimeout", "45"),
    ]);
    let body = setup.eni(&eni);
    assert_eq!(first(&body, "tcpEstablishedTimeout"), "350");
    assert_eq!(first(&body, "udpTimeout"), "45");
    assert!(!body.contains("udpStreamTimeout"), "{body}");
    let id = ("NetworkInterfaceId", eni.as_str());
    let stream = "ConnectionTrackingSpecification.UdpStreamTimeout";
    setup.ok("ModifyNetworkInterfaceAttribute", &[id, (stream, "60")]);
    assert_eq!(first(&setup.eni(&eni), "udpStreamTimeout"), "60");
    for (name, values) in [
        ("TcpEstablishedTimeout", ["59", "432001"]),
        ("UdpStreamTimeout", ["59", "181"]),
        ("UdpTimeout", ["29", "61"]),
    ] {
        for value in values {
            let name = format!("ConnectionTrackingSpecification.{name}");
            let wrong = [id, (name.as_str(), value)];
            let (code, _) = setup.refused("ModifyNetworkInterfaceAttribute", &wrong);
            assert_eq!(code, "InvalidParameterValue", "{name} {value}");
        }
    }
    // Nobody asked: EC2's defaults are not shown.
    let plain = setup.create(&[]);
    assert!(!setup.eni(&plain).contains("connectionTracking"));
}

#[test]
fn each_attribute_can_be_read_alone() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("Description", "of pods")]);
    let attachment = setup.attach(&eni, "1");
    let id = ("NetworkInterfaceId", eni.as_str());
    let mut read = |attribute: &str| {
        setup.ok(
            "DescribeNetworkInterfaceAttribute",
            &[id, ("Attribute", attribute)],
        )
    };
    assert_eq!(first(&read("attachment"), "attachmentId"), attachment);
    assert_eq!(first(&read("description"), "value"), "of pods");
    assert_eq!(first(&read("groupSet"), "groupName"), "default");
    assert_eq!(first(&read("sourceDestCheck"), "value"), "true");
    assert_eq!(
        first(
            &read("associatePublicIpAddress"),
            "associatePublicIpAddress"
        ),
        "false"
    );
    for (params, code) in [
        (vec![id], "InvalidParameterCombination"),
        (vec![id, ("Attribute", "color")], "InvalidParameterValue"),
        (
            vec![
                ("NetworkInterfaceId", "eni-0123456789abcdef0"),
                ("Attribute", "attachment"),
            ],
            "InvalidNetworkInterfaceID.NotFound",
        ),
    ] {
        let refused = setup.refused("DescribeNetworkInterfaceAttribute", &params);
        assert_eq!(refused.0, code, "{params:?}");
    }
}

#[test]
fn source_and_destination_are_checked_again_after_a_reset() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let off = [id, ("SourceDestCheck.Value", "false")];
    setup.ok("ModifyNetworkInterfaceAttribute", &off);
    setup.ok(
        "ResetNetworkInterfaceAttribute",
        &[id, ("SourceDestCheck", "")],
    );
    assert_eq!(first(&setup.eni(&eni), "sourceDestCheck"), "true");
    let (code, _) = setup.refused("ResetNetworkInterfaceAttribute", &[id]);
    assert_eq!(code, "InvalidParameterCombination");
}

#[test]
fn two_attributes_at_once_are_named_in_the_refusal() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let params = [
        ("NetworkInterfaceId", eni.as_str()),
        ("Description.Value", "x"),
        ("SourceDestCheck.Value", "true"),
    ];
    let (code, text) = setup.refused("ModifyNetworkInterfaceAttribute", &params);
    assert_eq!(code, "InvalidParameterCombination");
    assert_eq!(
        text,
        "Fields for multiple attribute types specified: sourceDestCheck, description"
    );
}

#[test]
fn another_account_may_be_let_use_an_eni() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let may = [
        id,
        ("AwsAccountId", "444455556666"),
        ("Permission", "INSTANCE-ATTACH"),
    ];
    let body = setup.ok("CreateNetworkInterfacePermission", &may);
    assert_eq!(first(&body, "state"), "granted");
    let permission = first(&body, "networkInterfacePermissionId");
    // Granting again is the same permission.
    let again = setup.ok("CreateNetworkInterfacePermission", &may);
    assert_eq!(first(&again, "networkInterfacePermissionId"), permission);
    for (name, value, count) in [
        (
            "network-interface-permission.network-interface-id",
            eni.as_str(),
            1,
        ),
        (
            "network-interface-permission.aws-account-id",
            "111122223333",
            0,
        ),
    ] {
        let filter = [("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        let found = setup.ok("DescribeNetworkInterfacePermissions", &filter);
        assert_eq!(all(&found, "awsAccountId").len(), count, "{name}");
    }
    for (wrong, code) in [
        (("AwsAccountId", "nobody"), "InvalidParameterValue"),
        (("Permission", "EVERYTHING"), "InvalidParameterValue"),
        (("AwsService", "x"), "UnknownParameter"),
    ] {
        let mut params: Vec<_> = may
            .iter()
            .copied()
            .filter(|(name, _)| *name != wrong.0)
            .collect();
        params.push(wrong);
        let refused = setup.refused("CreateNetworkInterfacePermission", &params);
        assert_eq!(refused.0, code, "{wrong:?}");
    }
    let delete = [("NetworkInterfacePermissionId", permission.as_str())];
    setup.ok("DeleteNetworkInterfacePermission", &delete);
    setup.refused("DeleteNetworkInterfacePermission", &delete);
    // What is left goes with the ENI.
    setup.ok("CreateNetworkInterfacePermission", &may);
    setup.ok("DeleteNetworkInterface", &[id]);
    let left = setup.ok("DescribeNetworkInterfacePermissions", &[]);
    assert_eq!(all(&left, "awsAccountId").len(), 0);
}
