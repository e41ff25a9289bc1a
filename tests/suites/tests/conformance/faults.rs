//! What goes wrong on purpose, as a client meets it, and the log of it. On aws-sim alone.

use std::time::{Duration, Instant};

use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::error::SdkError;
use aws_sim::{Ec2Error, Effect, Fault, ImdsEffect, ImdsFault, Refused, When};

use crate::check::{MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, filter};
use crate::http;
use crate::metadata::{Imds, TOKEN};
use crate::world::{Inside, as_is, with};

const ID: &str = "/latest/meta-data/instance-id";

/// How many ENIs a VPC has.
pub(crate) async fn count(ec2: &Ec2, vpc: &str) -> Outcome<usize> {
    let found = ec2
        .sdk
        .describe_network_interfaces()
        .filters(filter("vpc-id", vpc))
        .send()
        .await?;
    Ok(found.network_interfaces().len())
}

pub(crate) fn checks() -> Vec<Inside> {
    let mut all = calls();
    all.extend(metadata());
    all
}

/// A fault before the call is done leaves nothing; one after it leaves what was done.
macro_rules! lost {
    ($name:literal, $effect:expr, $done:literal) => {
        as_is(check!(
            $name,
            "The client gets no answer; what was asked was done, or was not, as the fault says.",
            "D Ensuring idempotency",
            |ec2| {
                let place = ec2.place().await?;
                ec2.sim()
                    .inject(Fault::on("CreateNetworkInterface", $effect).when(When::Nth(1)));
                let wait = TimeoutConfig::builder()
                    .operation_timeout(Duration::from_secs(1))
                    .build();
                let config = ec2.sdk.config().to_builder().timeout_config(wait).build();
                let sdk = aws_sdk_ec2::Client::from_conf(config);
                let asked = sdk
                    .create_network_interface()
                    .subnet_id(&place.subnet)
                    .send()
                    .await;
                let lost = matches!(
                    asked,
                    Err(SdkError::DispatchFailure(_)
                        | SdkError::ResponseError(_)
                        | SdkError::TimeoutError(_))
                );
                holds(lost, format!("an answer: {asked:?}"))?;
                same("ENIs", count(ec2, &place.vpc).await?, $done)?;
            }
        ))
    };
}

fn calls() -> Vec<Inside> {
    vec![
        as_is(check!(
            "Faults.an error for the nth call",
            "Only the second call is refused, with the code, text and status that were told.",
            "C the API of aws-sim",
            |ec2| {
                let error = Ec2Error::client("InternalError", "An internal error has occurred");
                let fault = Fault::on(
                    "DescribeVpcs",
                    Effect::Error(Ec2Error {
                        status: 500,
                        ..error
                    }),
                );
                ec2.sim().inject(fault.when(When::Nth(2)));
                ec2.sdk.describe_vpcs().send().await?;
                let asked = ec2.sdk.describe_vpcs().send().await;
                asked.refused_with("InternalError", "An internal error has occurred")?;
                ec2.sdk.describe_vpcs().send().await?;
            }
        )),
        lost!("Faults.reset before it is done", Effect::ResetBefore, 0),
        lost!("Faults.reset after it was done", Effect::ResetAfter, 1),
        lost!("Faults.hang before it is done", Effect::HangBefore, 0),
        lost!("Faults.hang after it was done", Effect::HangAfter, 1),
        as_is(check!(
            "Faults.truncated XML",
            "The answer ends in its middle, though all was done.",
            "C the API of aws-sim",
            |ec2| {
                let place = ec2.place().await?;
                ec2.sim()
                    .inject(Fault::on("CreateNetworkInterface", Effect::Truncated));
                let form = format!(
                    "Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={}",
                    place.subnet
                );
                let answer = ec2.raw(&form).await?;
                same("status", answer.status, 200)?;
                let whole = answer
                    .body
                    .trim_end()
                    .ends_with("</CreateNetworkInterfaceResponse>");
                holds(
                    !whole && !answer.body.is_empty(),
                    format!("the answer is {}", answer.body),
                )?;
                same("ENIs", count(ec2, &place.vpc).await?, 1)?;
            }
        )),
        as_is(check!(
            "Faults.a retry with its token makes one ENI",
            "When the answer was lost, the SDK asks again with the same token, and there is one ENI.",
            "D Ensuring idempotency; C aws-sdk-ec2 makes a token for each operation",
            |ec2| {
                let place = ec2.place().await?;
                ec2.sim().inject(
                    Fault::on("CreateNetworkInterface", Effect::ResetAfter).when(When::Nth(1)),
                );
                let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(20));
                let config = ec2.sdk.config().to_builder().retry_config(retry).build();
                let sdk = aws_sdk_ec2::Client::from_conf(config);
                sdk.create_network_interface()
                    .subnet_id(&place.subnet)
                    .send()
                    .await?;
                let asked = ec2
                    .sim()
                    .calls()
                    .into_iter()
                    .filter(|call| call.action == "CreateNetworkInterface");
                same("requests", asked.count(), 2)?;
                same("ENIs", count(ec2, &place.vpc).await?, 1)?;
            }
        )),
        as_is(check!(
            "Faults.latency",
            "The answer comes later, and the call was done.",
            "C the API of aws-sim",
            |ec2| {
                let late = Duration::from_millis(300);
                ec2.sim()
                    .inject(Fault::on("Describe*", Effect::Latency(late)));
                let began = Instant::now();
                ec2.sdk.describe_vpcs().send().await?;
                holds(
                    began.elapsed() >= late,
                    format!("after {:?}", began.elapsed()),
                )?;
            }
        )),
        as_is(check!(
            "Faults.credentials that are refused",
            "Keys that EC2 does not know are AuthFailure, 401; expired ones RequestExpired, 400.",
            "I quoted in logs",
            |ec2| {
                ec2.sim()
                    .inject(Fault::on_all(Effect::Credentials(Refused::Unknown)));
                let text = "AWS was not able to validate the provided access credentials";
                ec2.sdk
                    .describe_vpcs()
                    .send()
                    .await
                    .refused_with("AuthFailure", text)?;
                ec2.sim().clear_faults();
                ec2.sim()
                    .inject(Fault::on_all(Effect::Credentials(Refused::Expired)));
                ec2.sdk
                    .describe_vpcs()
                    .send()
                    .await
                    .refused_with("RequestExpired", "Request has expired.")?;
                ec2.sim().clear_faults();
                ec2.sdk.describe_vpcs().send().await?;
            }
        )),
        as_is(check!(
            "Faults.throttled by others",
            "RequestLimitExceeded, as when others have emptied the bucket.",
            "I quoted in logs with HTTP 503",
            |ec2| {
                ec2.sim()
                    .inject(Fault::on_all(Effect::Throttled).when(When::First(2)));
                for _ in 0..2 {
                    ec2.sdk
                        .describe_vpcs()
                        .send()
                        .await
                        .refused(&["RequestLimitExceeded"])?;
                }
                ec2.sdk.describe_vpcs().send().await?;
            }
        )),
        as_is(check!(
            "Faults.with a chance, in a window",
            "About half of the calls of a window fail, and none after it.",
            "C the API of aws-sim",
            |ec2| {
                let now = ec2.sim().now();
                let fault = Fault::on("DescribeVpcs", Effect::Throttled).when(When::Chance(0.5));
                ec2.sim()
                    .inject(fault.during(now, now.plus(Duration::from_secs(60))));
                let mut failed = 0;
                for _ in 0..60 {
                    failed += usize::from(ec2.sdk.describe_vpcs().send().await.is_err());
                }
                holds((10..50).contains(&failed), format!("{failed} of 60 failed"))?;
                ec2.sim().skip(Duration::from_secs(61));
                for _ in 0..10 {
                    ec2.sdk.describe_vpcs().send().await?;
                }
            }
        )),
        as_is(check!(
            "Log.what was asked and what it cost",
            "The log has each request with its time, who asked, its parameters, what it got and what it cost.",
            "C the API of aws-sim",
            |ec2| {
                let place = ec2.place().await?;
                let asked = ec2
                    .sdk
                    .create_network_interface()
                    .subnet_id("subnet-0123456789abcdef0")
                    .send()
                    .await;
                asked.refused(&["InvalidSubnetID.NotFound"])?;
                let calls = ec2.sim().calls();
                let actions: Vec<_> = calls.iter().map(|call| call.action.as_str()).collect();
                same(
                    "actions",
                    actions,
                    ["CreateVpc", "CreateSubnet", "CreateNetworkInterface"],
                )?;
                let last = calls.last().need("call")?;
                same(
                    "error",
                    last.error.as_deref(),
                    Some("InvalidSubnetID.NotFound"),
                )?;
                same("cost", last.cost, 1)?;
                same(
                    "key",
                    last.access_key.as_deref(),
                    Some("AKIAIOSFODNN7EXAMPLE"),
                )?;
                same(
                    "parameter",
                    last.params.get("SubnetId").map(String::as_str),
                    Some("subnet-0123456789abcdef0"),
                )?;
                holds(
                    calls.windows(2).all(|pair| pair[0].at <= pair[1].at),
                    "times go back",
                )?;
                holds(
                    ec2.sim().story().contains("CreateSubnet"),
                    "the story does not tell it",
                )?;
                drop(place);
            }
        )),
    ]
}

fn metadata() -> Vec<Inside> {
    vec![
        as_is(check!(
            "Faults.IMDS answers 503, hangs, resets, and comes back",
            "Each is met as such, and all is well afterwards.",
            "D Instance metadata: 503; R",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                ec2.sim()
                    .inject_imds(ImdsFault::new(ImdsEffect::Status(503)).at("meta-data/*"));
                same("status", imds.get(ID).await?.status, 503)?;
                ec2.sim().clear_faults();
                ec2.sim().inject_imds(ImdsFault::new(ImdsEffect::Reset));
                holds(imds.get(ID).await.is_err(), "an answer where there is none")?;
                ec2.sim().clear_faults();
                ec2.sim().inject_imds(ImdsFault::new(ImdsEffect::Hang));
                let asked = tokio::time::timeout(Duration::from_millis(300), imds.get(ID)).await;
                holds(asked.is_err(), "an answer where it hangs")?;
                ec2.sim().clear_faults();
                same("instance", imds.text(ID).await?, imds.instance.clone())?;
            }
        )),
        with(
            check!(
                "Faults.IMDS is frozen",
                "An ENI that was attached since is not in it, however late it is.",
                "C the API of aws-sim",
                |ec2| {
                    let imds = Imds::start(ec2).await?;
                    ec2.sim().inject_imds(ImdsFault::new(ImdsEffect::Frozen));
                    let subnet = ec2
                        .described_instance(&imds.instance)
                        .await?
                        .subnet_id
                        .need("subnet")?;
                    ec2.attached(&subnet, &imds.instance, 1).await?;
                    ec2.sim().skip(Duration::from_secs(3600));
                    let macs = "/latest/meta-data/network/interfaces/macs/";
                    let token =
                        crate::metadata::put_token(imds.address, &[(crate::metadata::TTL, "60")])
                            .await?
                            .body;
                    let ask = async || {
                        http::send(imds.address, "GET", macs, &[(TOKEN, &token)], "").await
                    };
                    same("MACs", ask().await?.body.lines().count(), 1)?;
                    ec2.sim().clear_faults();
                    same(
                        "MACs when it is mended",
                        ask().await?.body.lines().count(),
                        2,
                    )?;
                }
            ),
            |_| {},
        ),
        as_is(check!(
            "Faults.IMDS is flapping",
            "It is there in the first half of each period, and not in the second.",
            "C the API of aws-sim",
            |ec2| {
                let imds = Imds::start(ec2).await?;
                let fault = ImdsFault::new(ImdsEffect::Status(503))
                    .when(When::Flapping(Duration::from_secs(100)));
                let now = ec2.sim().now();
                ec2.sim()
                    .inject_imds(fault.during(now, now.plus(Duration::from_secs(1000))));
                let mut seen = Vec::new();
                for _ in 0..4 {
                    seen.push(imds.get(ID).await?.status);
                    ec2.sim().skip(Duration::from_secs(50));
                }
                same("statuses", seen, [503, 200, 503, 200])?;
            }
        )),
    ]
}
