//! Images and instance types.

use std::time::Duration;

use crate::{Setup, all, first};

#[test]
fn images_are_found_by_owner_name_and_architecture() {
    let mut setup = Setup::new();
    let ids = |setup: &mut Setup, params: &[(&str, &str)]| {
        all(&setup.ok("DescribeImages", params), "imageId")
    };
    assert_eq!(ids(&mut setup, &[])[0], "ami-03cf127a");
    assert_eq!(ids(&mut setup, &[("Owner.1", "amazon")]).len(), 4);
    assert!(ids(&mut setup, &[("Owner.1", "self")]).is_empty());
    assert!(ids(&mut setup, &[("ExecutableBy.1", "self")]).is_empty());
    assert_eq!(
        ids(&mut setup, &[("ImageId.1", "ami-12c6146b")]),
        ["ami-12c6146b"]
    );
    let arm = [
        ("Owner.1", "amazon"),
        ("Filter.1.Name", "name"),
        ("Filter.1.Value.1", "al2023-ami-2023.*"),
        ("Filter.2.Name", "architecture"),
        ("Filter.2.Value.1", "arm64"),
        ("Filter.3.Name", "state"),
        ("Filter.3.Value.1", "available"),
    ];
    assert_eq!(ids(&mut setup, &arm), ["ami-0d9a665f802ae6227"]);
    let unknown = [("ImageId.1", "ami-0123456789abcdef0")];
    assert_eq!(
        setup.refused("DescribeImages", &unknown).0,
        "InvalidAMIID.NotFound"
    );
}

#[test]
fn types_are_paged_and_say_what_their_cards_take() {
    let mut setup = Setup::new();
    let mut seen = 0;
    let mut token: Option<String> = None;
    loop {
        let mut params = vec![("MaxResults", "100")];
        params.extend(token.as_deref().map(|token| ("NextToken", token)));
        let body = setup.ok("DescribeInstanceTypes", &params);
        let page = all(&body, "instanceType").len();
        assert!(page <= 100);
        seen += page;
        token = all(&body, "nextToken").into_iter().next();
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, 1395);
    setup.pass(Duration::from_secs(5));
    let body = setup.ok(
        "DescribeInstanceTypes",
        &[("InstanceType.1", "p4d.24xlarge")],
    );
    for (name, value) in [
        ("maximumNetworkInterfaces", "60"),
        ("maximumNetworkCards", "4"),
        ("ipv4AddressesPerInterface", "50"),
        ("efaSupported", "true"),
        ("maximumEfaInterfaces", "4"),
        ("networkPerformance", "4x 100 Gigabit"),
        ("defaultVCpus", "96"),
        ("defaultThreadsPerCore", "2"),
        ("hypervisor", "nitro"),
    ] {
        assert_eq!(first(&body, name), value, "{name}");
    }
    assert_eq!(all(&body, "networkCardIndex"), ["0", "1", "2", "3"]);
    let efa = [
        ("Filter.1.Name", "network-info.efa-supported"),
        ("Filter.1.Value.1", "true"),
        ("Filter.2.Name", "instance-type"),
        ("Filter.2.Value.1", "m5.*"),
    ];
    assert!(all(&setup.ok("DescribeInstanceTypes", &efa), "instanceType").is_empty());
    let (code, text) = setup.refused("DescribeInstanceTypes", &[("InstanceType.1", "zz9.huge")]);
    assert_eq!(code, "InvalidInstanceType");
    assert_eq!(
        text,
        "The following supplied instance types do not exist: [zz9.huge]"
    );
    assert!(
        setup
            .call("DescribeInstanceTypes", &[("MaxResults", "4")])
            .error
            .is_some()
    );
    assert!(
        setup
            .call("DescribeInstanceTypes", &[("MaxResults", "101")])
            .error
            .is_some()
    );
}

#[test]
fn types_are_offered_in_the_region_and_in_each_zone() {
    let mut setup = Setup::new();
    let one = |kind, location| {
        [
            ("LocationType", kind),
            ("Filter.1.Name", "instance-type"),
            ("Filter.1.Value.1", "m5.large"),
            ("Filter.2.Name", "location"),
            ("Filter.2.Value.1", location),
        ]
    };
    for (kind, location) in [
        ("region", "us-east-1"),
        ("availability-zone", "us-east-1b"),
        ("availability-zone-id", "use1-az2"),
    ] {
        let body = setup.ok("DescribeInstanceTypeOfferings", &one(kind, location));
        assert_eq!(all(&body, "instanceType"), ["m5.large"], "{kind}");
        assert_eq!(all(&body, "location"), [location]);
    }
    let elsewhere = one("region", "eu-west-1");
    assert!(
        all(
            &setup.ok("DescribeInstanceTypeOfferings", &elsewhere),
            "location"
        )
        .is_empty()
    );
    let body = setup.ok("DescribeInstanceTypeOfferings", &[]);
    assert_eq!(all(&body, "instanceType").len(), 1000);
    assert_eq!(all(&body, "nextToken").len(), 1);
}
