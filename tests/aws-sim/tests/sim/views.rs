//! What readers see lags behind what was written: Describe and IMDS, each by its own.

use std::time::Duration;

use aws_sim::{Latencies, WorldConfig};

use crate::{Setup, first};

fn lagging(config: WorldConfig) -> Setup {
    let mut setup = Setup::with(WorldConfig {
        latencies: Latencies::NONE,
        ..config
    });
    // So that what was there at the beginning has been seen by all.
    setup.pass(Duration::from_secs(600));
    setup
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn every_describe_honours_the_lag() {
    let mut setup = lagging(WorldConfig {
        describe_lag: seconds(10),
        ..WorldConfig::default()
    });
    let instance = setup.instance.to_string();
    let free = setup.free();
    let eni = setup.create(&[("Ipv4PrefixCount", "1")]);
    let params = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", instance.as_str()),
        ("DeviceIndex", "1"),
    ];
    setup.ok("AttachNetworkInterface", &params);
    for (passed, visible) in [(0, false), (9, false), (10, true)] {
        let mut setup = Setup {
            world: setup.world.clone(),
            subnet: setup.subnet.clone(),
            other_zone: setup.other_zone.clone(),
            instance: setup.instance.clone(),
            now: setup.now.plus(seconds(passed)),
        };
        assert_eq!(
            setup.free(),
            if visible { free - 17 } else { free },
            "{passed}"
        );
        let ids = [("NetworkInterfaceId.1", eni.as_str())];
        let found = setup
            .call("DescribeNetworkInterfaces", &ids)
            .error
            .is_none();
        assert_eq!(found, visible, "{passed}");
        let body = setup.ok("DescribeInstances", &[("InstanceId.1", &instance)]);
        assert_eq!(body.contains(&eni), visible, "{passed}");
        let attribute = [
            ("NetworkInterfaceId", eni.as_str()),
            ("Attribute", "description"),
        ];
        let found = setup.call("DescribeNetworkInterfaceAttribute", &attribute);
        assert_eq!(found.error.is_none(), visible, "{passed}");
    }
}

#[test]
fn a_deleted_eni_is_still_described_for_the_lag() {
    let mut setup = lagging(WorldConfig {
        describe_lag: seconds(10),
        ..WorldConfig::default()
    });
    let eni = setup.create(&[]);
    setup.pass(seconds(60));
    let free = setup.free();
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    setup.pass(seconds(9));
    assert_eq!(first(&setup.eni(&eni), "networkInterfaceId"), eni);
    assert_eq!(setup.free(), free);
    setup.pass(seconds(1));
    assert_eq!(setup.free(), free + 1);
    setup.refused(
        "DescribeNetworkInterfaces",
        &[("NetworkInterfaceId.1", &eni)],
    );
}

#[test]
fn reads_may_go_backwards_but_never_further_than_the_lag() {
    let run = |seed| {
        let mut setup = lagging(WorldConfig {
            describe_lag: seconds(10),
            imds_lag: seconds(10),
            reads_go_backwards: true,
            seed,
            ..WorldConfig::default()
        });
        let eni = setup.create(&[]);
        let instance = setup.instance.to_string();
        let params = [
            ("NetworkInterfaceId", eni.as_str()),
            ("InstanceId", instance.as_str()),
            ("DeviceIndex", "1"),
        ];
        setup.ok("AttachNetworkInterface", &params);
        let mut seen = Vec::new();
        for _ in 0..40 {
            setup.pass(Duration::from_millis(500));
            let ids = [("NetworkInterfaceId.1", eni.as_str())];
            let described = setup
                .call("DescribeNetworkInterfaces", &ids)
                .error
                .is_none();
            seen.push((described, setup.macs().len() == 2));
        }
        (seen, eni)
    };
    let (seen, eni) = run(7);
    assert_eq!(run(7), (seen.clone(), eni));
    let backwards = |view: fn(&(bool, bool)) -> bool| {
        let view: Vec<bool> = seen.iter().map(view).collect();
        assert!(view[20..].iter().all(|seen| *seen), "{view:?}");
        view.windows(2).filter(|two| two[0] && !two[1]).count()
    };
    assert!(
        backwards(|seen| seen.0) > 0 && backwards(|seen| seen.1) > 0,
        "{seen:?}"
    );
}

#[test]
fn drawing_lags_shifts_no_ids() {
    let run = |reads_go_backwards| {
        let mut setup = lagging(WorldConfig {
            describe_lag: seconds(10),
            reads_go_backwards,
            ..WorldConfig::default()
        });
        for _ in 0..5 {
            setup.call("DescribeNetworkInterfaces", &[]);
        }
        setup.create(&[])
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn calls_on_a_new_eni_may_find_it_missing_for_a_while() {
    let mut setup = lagging(WorldConfig {
        write_lag: seconds(5),
        ..WorldConfig::default()
    });
    let mut missing = 0;
    for _ in 0..20 {
        let eni = setup.create(&[]);
        let before = setup.world.revision();
        let params = [
            ("ResourceId.1", eni.as_str()),
            ("Tag.1.Key", "a"),
            ("Tag.1.Value", "b"),
        ];
        let response = setup.call("CreateTags", &params);
        if response.error.is_some() {
            missing += 1;
            assert_eq!(
                response.error.as_deref(),
                Some("InvalidNetworkInterfaceID.NotFound")
            );
            let expected = format!("The networkInterface ID '{eni}' does not exist");
            assert_eq!(first(&response.body, "Message"), expected);
            assert_eq!(setup.world.revision(), before);
        }
        setup.pass(seconds(5));
        setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    }
    assert!((4..=16).contains(&missing), "{missing} of 20");
}

#[test]
fn a_lag_that_grows_shows_nothing_older_than_what_could_be_seen() {
    let mut setup = lagging(WorldConfig {
        imds_lag: seconds(1),
        ..WorldConfig::default()
    });
    let eni = setup.create(&[]);
    setup.attach(&eni, "1");
    setup.pass(seconds(30));
    assert_eq!(setup.macs().len(), 2);
    setup.world.config.imds_lag = seconds(300);
    assert_eq!(setup.macs().len(), 1);
    setup.pass(seconds(300));
    assert_eq!(setup.macs().len(), 2);

    // Of several versions that are gone the oldest that is left is shown, and not the newest.
    let mac = setup.metadata("meta-data/mac").unwrap();
    let leaf = format!("meta-data/network/interfaces/macs/{mac}");
    let id = setup.metadata(&format!("{leaf}/interface-id")).unwrap();
    setup.world.config.imds_lag = seconds(1);
    for _ in 0..3 {
        setup.pass(seconds(600));
        let params = [
            ("NetworkInterfaceId", id.as_str()),
            ("SecondaryPrivateIpAddressCount", "1"),
        ];
        setup.ok("AssignPrivateIpAddresses", &params);
    }
    setup.pass(seconds(2));
    let held = |setup: &mut Setup| {
        let list = setup.metadata(&format!("{leaf}/local-ipv4s"));
        list.unwrap().lines().count()
    };
    assert_eq!(held(&mut setup), 4);
    setup.world.config.imds_lag = seconds(3600);
    assert_eq!(held(&mut setup), 3);
}
