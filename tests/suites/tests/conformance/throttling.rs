//! Token buckets, with the figures that EC2's developer guide gives. On aws-sim alone, which logs what was left.

use std::time::Duration;

use aws_sdk_ec2::config::retry::RetryConfig;

use crate::check::{Difference, Need as _, Outcome, check, holds, same};
use crate::ec2::{self, Ec2, NO_ENI, NO_INSTANCE, filter};
use crate::world::{Inside, as_is, with};

/// Action, parameters, what its bucket holds, and what comes back each second.
type Bucket = (&'static str, &'static str, f64, f64);

const BUCKETS: &[Bucket] = &[
    ("DescribeSubnets", "", 100.0, 20.0),
    ("DescribeVpcs", "", 100.0, 20.0),
    (
        "DescribeInstanceTypes",
        "&InstanceType.1=m5.large",
        100.0,
        20.0,
    ),
    (
        "GetSubnetCidrReservations",
        "&SubnetId=subnet-0123456789abcdef0",
        100.0,
        20.0,
    ),
    ("DescribeInstances", "", 50.0, 10.0),
    ("DescribeNetworkInterfaces", "", 50.0, 10.0),
    ("DescribeSecurityGroups", "", 50.0, 10.0),
    ("DescribeNetworkInterfaces", "&MaxResults=5", 100.0, 20.0),
    (
        "CreateNetworkInterface",
        "&SubnetId=subnet-0123456789abcdef0",
        100.0,
        5.0,
    ),
    (
        "DeleteNetworkInterface",
        "&NetworkInterfaceId=eni-0123456789abcdef0",
        100.0,
        5.0,
    ),
    (
        "ModifyNetworkInterfaceAttribute",
        "&NetworkInterfaceId=eni-0123456789abcdef0",
        100.0,
        5.0,
    ),
    (
        "AssignPrivateIpAddresses",
        "&NetworkInterfaceId=eni-0123456789abcdef0",
        100.0,
        5.0,
    ),
    (
        "UnassignPrivateIpAddresses",
        "&NetworkInterfaceId=eni-0123456789abcdef0",
        100.0,
        5.0,
    ),
    (
        "AssignIpv6Addresses",
        "&NetworkInterfaceId=eni-0123456789abcdef0",
        100.0,
        5.0,
    ),
    (
        "TerminateInstances",
        "&InstanceId.1=i-0123456789abcdef0",
        100.0,
        5.0,
    ),
    (
        "AttachNetworkInterface",
        "&NetworkInterfaceId=eni-0123456789abcdef0",
        50.0,
        5.0,
    ),
    (
        "DetachNetworkInterface",
        "&AttachmentId=eni-attach-0123456789abcdef0",
        50.0,
        5.0,
    ),
    (
        "UnassignIpv6Addresses",
        "&NetworkInterfaceId=eni-0123456789abcdef0",
        50.0,
        5.0,
    ),
    (
        "CreateTags",
        "&ResourceId.1=eni-0123456789abcdef0&Tag.1.Key=a",
        100.0,
        10.0,
    ),
    (
        "DeleteTags",
        "&ResourceId.1=eni-0123456789abcdef0&Tag.1.Key=a",
        100.0,
        10.0,
    ),
    (
        "CreateSubnetCidrReservation",
        "&SubnetId=subnet-0123456789abcdef0",
        5.0,
        1.0,
    ),
    (
        "DeleteSubnetCidrReservation",
        "&SubnetCidrReservationId=scr-0123456789abcdef0",
        5.0,
        1.0,
    ),
    ("RunInstances", "&MinCount=1&MaxCount=1", 5.0, 2.0),
];

/// What was left in the bucket of the latest request, and when that was, in seconds.
fn left(ec2: &Ec2) -> Outcome<(f64, f64)> {
    let calls = ec2.sim().calls();
    let last = calls.last().need("call")?;
    Ok((
        last.tokens_left.need("tokens")?,
        last.at.as_millis() as f64 / 1000.0,
    ))
}

/// Whether two figures are one but for rounding.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

pub(crate) fn checks() -> Vec<Inside> {
    vec![
        as_is(check!(
            "Throttling.each action's bucket",
            "Each bucket begins full, gives one token a request, also a refused one, and refills at its rate.",
            "D Request throttling for the EC2 API: tables",
            |ec2| {
                for (action, rest, capacity, refill) in BUCKETS {
                    let form = format!("Action={action}&Version=2016-11-15{rest}");
                    ec2.raw(&form).await?;
                    let (first, began) = left(ec2)?;
                    holds(
                        near(first, capacity - 1.0),
                        format!("{form}: {first} left of {capacity}"),
                    )?;
                    ec2.raw(&form).await?;
                    ec2.raw(&form).await?;
                    ec2.sim().skip(Duration::from_millis(250));
                    ec2.raw(&form).await?;
                    let (fourth, ended) = left(ec2)?;
                    let wanted = (first - 3.0 + (ended - began) * refill).min(capacity - 1.0);
                    // What was refilled above the brim between two requests is lost.
                    let close = fourth <= wanted + 1e-6 && fourth >= wanted - 0.2;
                    holds(
                        close,
                        format!("{form}: {fourth} left, at {refill} a second {wanted}"),
                    )?;
                }
            }
        )),
        as_is(check!(
            "Throttling.a bucket runs dry and refills",
            "RunInstances: five at once, none after them, and two more after a second.",
            "D Request throttling for the EC2 API: RunInstances 5 and 2 a second",
            |ec2| {
                let form = "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=1";
                let burst = async || -> Outcome<usize> {
                    for number in 0..20 {
                        let answer = ec2.raw(form).await?;
                        if answer.status == 503 {
                            answer.refused(503, &["RequestLimitExceeded"])?;
                            return Ok(number);
                        }
                    }
                    Err(Difference("20 requests and none throttled".to_owned()))
                };
                same("at once", burst().await?, 5)?;
                ec2.sim().skip(Duration::from_secs(1));
                same("after a second", burst().await?, 2)?;
                ec2.sim().skip(Duration::from_secs(600));
                same("after ten minutes", burst().await?, 5)?;
            }
        )),
        as_is(check!(
            "Throttling.all nodes of an account share its buckets",
            "Requests with different keys of one account take from one bucket; another account has its own.",
            "D Request throttling for the EC2 API: for each account and Region",
            |ec2| {
                for (key, wanted) in [
                    ("AKIAIOSFODNN7EXAMPLE", 99.0),
                    ("AKIAI44QH8DHBEXAMPLE", 98.0),
                    ("444455556666", 99.0),
                ] {
                    let sdk = ec2::client(ec2.address, key);
                    drop(
                        sdk.delete_network_interface()
                            .network_interface_id(NO_ENI)
                            .send()
                            .await,
                    );
                    let (left, _) = left(ec2)?;
                    holds(
                        (left - wanted).abs() < 0.9,
                        format!("{key}: {left} left, not {wanted}"),
                    )?;
                }
            }
        )),
        as_is(check!(
            "Throttling.ids are no filter",
            "A Describe by ids takes from the small bucket, one with a filter from the large.",
            "D Request throttling for the EC2 API: unfiltered and unpaginated",
            |ec2| {
                drop(
                    ec2.sdk
                        .describe_instances()
                        .instance_ids(NO_INSTANCE)
                        .send()
                        .await,
                );
                holds(near(left(ec2)?.0, 49.0), "ids are taken for a filter")?;
                drop(
                    ec2.sdk
                        .describe_instances()
                        .filters(filter("instance-id", NO_INSTANCE))
                        .send()
                        .await,
                );
                holds(near(left(ec2)?.0, 99.0), "a filter is not taken for one")?;
            }
        )),
        with(
            check!(
                "Throttling.the SDK's retries outlast it",
                "A client with standard retries gets through a bucket of one.",
                "C aws-sdk-ec2: RequestLimitExceeded is retried",
                |ec2| {
                    let retry = RetryConfig::standard()
                        .with_max_attempts(12)
                        .with_initial_backoff(Duration::from_millis(100));
                    let config = ec2.sdk.config().to_builder().retry_config(retry).build();
                    let sdk = aws_sdk_ec2::Client::from_conf(config);
                    for _ in 0..3 {
                        sdk.describe_vpcs().send().await?;
                    }
                    let refused = ec2
                        .sim()
                        .calls()
                        .iter()
                        .filter(|call| call.error.is_some())
                        .count();
                    holds(refused > 0, "nothing was throttled")?;
                }
            ),
            |config| {
                let one = aws_sim::Size::new(1, 1.0);
                config.throttling =
                    aws_sim::Throttling::Custom([("DescribeVpcs".to_owned(), one)].into());
            },
        ),
    ]
}
