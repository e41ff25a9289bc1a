//! What goes over the wire, byte by byte; throttling as any client meets it; actions that EC2 has besides.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::check::{Check, Difference, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, NO_ENI};
use crate::http;

const VPCS: &str = "Action=DescribeVpcs&Version=2016-11-15";

fn of_no_eni() -> String {
    format!("Action=DescribeNetworkInterfaces&Version=2016-11-15&NetworkInterfaceId.1={NO_ENI}")
}

pub(crate) fn table() -> Vec<Check> {
    let mut all = wire();
    all.push(throttle());
    all.extend(others());
    all
}

fn wire() -> Vec<Check> {
    vec![
        check!(
            "Wire.error XML",
            "An error is Response, Errors, Error, Code and Message, then RequestID.",
            "D Query responses; S stackd",
            |ec2| {
                let answer = ec2.raw(&of_no_eni()).await?;
                same("status", answer.status, 400)?;
                let body: String = answer.body.split('\n').map(str::trim).collect();
                let mut rest = body.as_str();
                for tag in [
                    "<Response",
                    "<Errors>",
                    "<Error>",
                    "<Code>",
                    "</Code>",
                    "<Message>",
                    "</Message>",
                    "</Error>",
                    "</Errors>",
                    "<RequestID>",
                    "</RequestID>",
                    "</Response>",
                ] {
                    rest = rest.split_once(tag).need(tag)?.1;
                }
            }
        ),
        check!(
            "Wire.error root has no xmlns",
            "The root of an error has no namespace.",
            "S stackd",
            |ec2| {
                let answer = ec2.raw(&of_no_eni()).await?;
                same("root", answer.root(), "<Response")?;
            }
        ),
        check!(
            "Wire.request-id header",
            "Each answer has its id in x-amzn-requestid.",
            "D Request ids; C the SDKs log it",
            |ec2| {
                let answer = ec2.raw(VPCS).await?;
                answer.header("x-amzn-requestid").need("x-amzn-requestid")?;
            }
        ),
        check!(
            "Wire.requestId unique per call",
            "Each call has an id of its own.",
            "D Request ids",
            |ec2| {
                let mut seen = BTreeSet::new();
                for _ in 0..3 {
                    let answer = ec2.raw(VPCS).await?;
                    seen.insert(answer.text("requestId").need("requestId")?.to_owned());
                }
                same("different ids", seen.len(), 3)?;
            }
        ),
        check!(
            "Wire.unknown action",
            "An action that there is not is InvalidAction.",
            "I quoted in logs with HTTP 400",
            |ec2| {
                let answer = ec2.raw("Action=MakeCoffee&Version=2016-11-15").await?;
                answer.refused(400, &["InvalidAction"])?;
                let text = "The action MakeCoffee is not valid for this web service.";
                same("text", answer.text("Message"), Some(text))?;
            }
        ),
        check!(
            "Wire.no action",
            "A request without an action is MissingAction.",
            "D Error codes MissingAction",
            |ec2| {
                ec2.raw("Version=2016-11-15")
                    .await?
                    .refused(400, &["MissingAction"])?;
            }
        ),
        check!(
            "Wire.missing SubnetId",
            "A parameter that must be there and is not is MissingParameter.",
            "D Error codes MissingParameter; S stackd",
            |ec2| {
                let answer = ec2
                    .raw("Action=CreateNetworkInterface&Version=2016-11-15")
                    .await?;
                answer.refused(400, &["MissingParameter"])?;
            }
        ),
        check!(
            "Wire.unsigned request",
            "A request that nobody signed is refused.",
            "I a live answer of ec2.us-east-1: MissingParameter AWSAccessKeyId; D Common errors",
            |ec2| {
                let answer = ec2.unsigned(VPCS).await?;
                holds(
                    [400, 401, 403].contains(&answer.status),
                    format!("HTTP {}", answer.status),
                )?;
                let codes = [
                    "MissingParameter",
                    "MissingAuthenticationToken",
                    "AuthFailure",
                ];
                answer.refused(answer.status, &codes)?;
            }
        ),
        check!(
            "Wire.bad version",
            "A version of the API that there is not is refused.",
            "R NoSuchVersion",
            |ec2| {
                let answer = ec2.raw("Action=DescribeVpcs&Version=1999-01-01").await?;
                answer.refused(400, &["NoSuchVersion"])?;
            }
        ),
        check!(
            "Wire.MaxResults=2 (<5)",
            "A page smaller than five is refused.",
            "M MaxResults 5 to 1000; S mulgadc/spinifex",
            |ec2| {
                let answer = ec2
                    .raw("Action=DescribeNetworkInterfaces&Version=2016-11-15&MaxResults=2")
                    .await?;
                answer.refused(400, &["InvalidParameterValue"])?;
            }
        ),
    ]
}

fn throttle() -> Check {
    check!(
        "Throttle.150 rapid DescribeNetworkInterfaces",
        "Unfiltered requests come from a bucket of 50, 10 a second; the others are RequestLimitExceeded, HTTP 503.",
        "D Request throttling for the EC2 API",
        |ec2| {
            let (mut answered, mut refused) = (0, 0);
            for _ in 0..10 {
                let mut calls = JoinSet::new();
                for _ in 0..15 {
                    let address = ec2.address;
                    calls.spawn(async move {
                        http::post(
                            address,
                            "Action=DescribeNetworkInterfaces&Version=2016-11-15",
                        )
                        .await
                    });
                }
                while let Some(call) = calls.join_next().await {
                    let answer = call.map_err(|error| Difference(error.to_string()))??;
                    match answer.status {
                        200 => answered += 1,
                        _ => {
                            answer.refused(503, &["RequestLimitExceeded"])?;
                            let text = answer.text("Message").unwrap_or_default();
                            holds(text.starts_with("Request limit exceeded."), text)?;
                            refused += 1;
                        }
                    }
                }
            }
            holds(refused > 0, "none of 150 requests was throttled")?;
            holds(
                answered >= 50,
                format!("{answered} were answered, of a bucket of 50"),
            )?;
        }
    )
}

/// EC2 has more actions than any simulator. One that is lacking must be refused in EC2's form.
macro_rules! other {
    ($action:literal, $rest:literal) => {
        check!(
            concat!("Other.", $action),
            "EC2 has this action. Who lacks it says so as EC2 does, in XML with a code.",
            "D EC2 API reference: actions",
            |ec2| {
                answers_in_form(ec2, $action, $rest).await?;
            }
        )
    };
}

async fn answers_in_form(ec2: &Ec2, action: &str, rest: &str) -> Outcome {
    let answer = ec2
        .raw(&format!("Action={action}&Version=2016-11-15{rest}"))
        .await?;
    match answer.status {
        200 => holds(
            answer.root().starts_with(&format!("<{action}Response ")),
            answer.root(),
        ),
        status => {
            holds(
                answer.root().starts_with("<Response"),
                format!("HTTP {status}, not an error of EC2"),
            )?;
            answer.text("Code").need("code").map(drop)
        }
    }
}

fn others() -> Vec<Check> {
    vec![
        other!(
            "CreateNetworkInterfacePermission",
            "&NetworkInterfaceId=eni-0123456789abcdef0&Permission=INSTANCE-ATTACH&AwsAccountId=444455556666"
        ),
        other!(
            "AssociateTrunkInterface",
            "&BranchInterfaceId=eni-0123456789abcdef0&TrunkInterfaceId=eni-0123456789abcdef1&VlanId=1"
        ),
        other!("DescribeTrunkInterfaceAssociations", ""),
        other!(
            "ResetNetworkInterfaceAttribute",
            "&NetworkInterfaceId=eni-0123456789abcdef0&SourceDestCheck=sourceDestCheck"
        ),
        other!(
            "AssignPrivateNatGatewayAddress",
            "&NatGatewayId=nat-0123456789abcdef0&PrivateIpAddressCount=1"
        ),
        other!(
            "DeleteSubnetCidrReservation",
            "&SubnetCidrReservationId=scr-0123456789abcdef0"
        ),
        other!("DescribeInstanceTypeOfferings", ""),
        other!(
            "GetInstanceTypesFromInstanceRequirements",
            "&ArchitectureType.1=x86_64&VirtualizationType.1=hvm&InstanceRequirements.VCpuCount.Min=2\
             &InstanceRequirements.MemoryMiB.Min=1024"
        ),
    ]
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Wire.success",
            "An answer is named after its action, in EC2's namespace, with a final slash, and text/xml.",
            "S stackd",
            |ec2| {
                let answer = ec2.raw_ok(VPCS).await?;
                let root =
                    r#"<DescribeVpcsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/""#;
                same("root", answer.root(), root)?;
                same(
                    "content type",
                    answer.header("content-type"),
                    Some("text/xml;charset=UTF-8"),
                )?;
                holds(
                    !answer.body.contains("ResponseMetadata"),
                    "a ResponseMetadata",
                )?;
            }
        ),
        check!(
            "Wire.request id in header and body",
            "Header and body have the same id, in answers and in errors.",
            "D Request ids",
            |ec2| {
                let answer = ec2.raw(VPCS).await?;
                let of_answer = answer.header("x-amzn-requestid") == answer.text("requestId");
                holds(of_answer, "the header has another id than the answer")?;
                let error = ec2.raw(&of_no_eni()).await?;
                let of_error = error.header("x-amzn-requestid") == error.text("RequestID");
                holds(of_error, "the header has another id than the error")?;
                holds(error.text("RequestID").is_some(), "no RequestID")?;
            }
        ),
        check!(
            "Wire.GET",
            "A request may come by GET, with its parameters in the URL.",
            "D Query requests",
            |ec2| {
                let answer = ec2.raw_get(VPCS).await?;
                same("status", answer.status, 200)?;
                holds(
                    answer.root().starts_with("<DescribeVpcsResponse"),
                    answer.root(),
                )?;
            }
        ),
        check!(
            "Wire.what is done is true",
            "An action with nothing to tell answers <return>true</return>.",
            "S stackd",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let form = format!(
                    "Action=DeleteNetworkInterface&Version=2016-11-15&NetworkInterfaceId={eni}"
                );
                same(
                    "return",
                    ec2.raw_ok(&form).await?.text("return"),
                    Some("true"),
                )?;
            }
        ),
        check!(
            "Wire.unknown parameter",
            "A parameter that the action does not have is refused.",
            "I boto/boto#933, pulumi/pulumi-aws#5503",
            |ec2| {
                let answer = ec2.raw(&format!("{VPCS}&Colour=blue")).await?;
                answer.refused(400, &["UnknownParameter"])?;
                same(
                    "text",
                    answer.text("Message"),
                    Some("The parameter Colour is not recognized"),
                )?;
            }
        ),
        check!(
            "Wire.list indexes may have gaps",
            "The elements of a list need not be numbered one by one.",
            "S stackd",
            |ec2| {
                let (one, two) = (ec2.vpc().await?, ec2.vpc().await?);
                let answer = ec2
                    .raw_ok(&format!("{VPCS}&VpcId.1={one}&VpcId.7={two}"))
                    .await?;
                same("VPCs", answer.body.matches("<vpcId>").count(), 2)?;
            }
        ),
        check!(
            "Wire.signed for another Region",
            "A request that was signed for another Region is refused.",
            "D Common errors; R the code",
            |ec2| {
                let signed = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-west-1/ec2/aws4_request, \
                              SignedHeaders=host, Signature=0";
                let headers = [
                    ("Content-Type", "application/x-www-form-urlencoded"),
                    ("Authorization", signed),
                ];
                let answer = http::send(ec2.address, "POST", "/", &headers, VPCS).await?;
                holds(
                    answer.status >= 400 && answer.text("Code").is_some(),
                    format!("HTTP {}", answer.status),
                )?;
            }
        ),
    ]
}
