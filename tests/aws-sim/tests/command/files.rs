//! World files, scenario files and stories, right and wrong.

use std::process::{Command, Output};

use crate::process::{Served, file};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aws-sim"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const NETWORK: &str = "\
[[vpc]]
name = \"vpc\"
cidrs = [\"10.0.0.0/16\"]
[[subnet]]
name = \"pods\"
zone = \"a\"
cidr = \"10.0.0.0/24\"
[[instance]]
name = \"node\"
type = \"m5.large\"
subnet = \"pods\"
";

#[test]
fn the_example_is_a_world_that_is_served() {
    let example = run(&["world", "--example"]);
    let path = file("example.toml", &String::from_utf8(example.stdout).unwrap());
    let served = Served::start("example", &["--world", path.to_str().unwrap()]);
    assert_eq!(served.said["instances"].as_object().unwrap().len(), 4);
    assert_eq!(served.said["imds"].as_object().unwrap().len(), 4);

    let node = served.id("instances", "node-1");
    let (_, enis) = served.ec2(&format!(
        "Action=DescribeNetworkInterfaces&Filter.1.Name=attachment.instance-id&Filter.1.Value.1={node}"
    ));
    assert_eq!(enis.matches("<networkInterfaceId>").count(), 2, "{enis}");
    assert_eq!(enis.matches("<ipv4Prefix>").count(), 1, "{enis}");
    assert_eq!(
        enis.matches("<status>attached</status>").count(),
        2,
        "{enis}"
    );
    let (_, subnet) =
        served.ec2("Action=DescribeSubnets&Filter.1.Name=tag:Name&Filter.1.Value.1=nodes-a");
    assert!(subnet.contains("<ipv6CidrBlock>"), "{subnet}");
    let (_, group) =
        served.ec2("Action=DescribeSecurityGroups&Filter.1.Name=group-name&Filter.1.Value.1=nodes");
    assert!(group.contains("<toPort>32767</toPort>"), "{group}");
    let (status, denied) =
        served.ec2("Action=ModifySubnetAttribute&SubnetId=any&MapPublicIpOnLaunch.Value=true");
    assert_eq!(status, 403, "{denied}");
}

#[test]
fn a_mistake_is_shown_with_its_file_line_rule_and_remedy() {
    for (added, line, parts) in [
        (
            "[[subnets]]\nname = \"x\"\n",
            12,
            ["no `subnets`", "security-group"],
        ),
        (
            "[[subnet]]\nname = \"x\"\nzone = \"a\"\ncidr = \"10.0.0.128/25\"\n",
            15,
            ["InvalidSubnet.Conflict", "must not overlap"],
        ),
        (
            "[[subnet]]\nname = \"x\"\nvpc = \"vcp\"\nzone = \"a\"\ncidr = \"10.0.1.0/24\"\n",
            14,
            ["no VPC is called \"vcp\"", "there are \"vpc\""],
        ),
        (
            "[[subnet]]\nname = \"x\"\nzone = \"z\"\ncidr = \"10.0.1.0/24\"\n",
            14,
            ["availabilityZone", "subnet \"x\""],
        ),
        (
            "[[subnet]]\nname = \"x\"\nzone = \"a\"\ncidr = \"10.0.1.0/33\"\n",
            15,
            ["subnet 2", "10.0.1.0/33"],
        ),
        (
            "[[instance]]\nname = \"x\"\ntype = \"m5.lrage\"\nsubnet = \"pods\"\n",
            14,
            ["InvalidInstanceType", "m5.lrage"],
        ),
        (
            "[[instance]]\nname = \"x\"\ntype = \"m5.large\"\nsubnet = \"pods\"\naddresses = 10\n",
            16,
            ["PrivateIpAddressLimitExceeded", "fewer addresses"],
        ),
        (
            "[[instance]]\nname = \"x\"\ntype = \"m5.large\"\nsubnet = \"pods\"\naddresses = -1\n",
            16,
            ["instance 2", "below 0"],
        ),
        (
            "[[instance]]\nname = \"node\"\ntype = \"m5.large\"\nsubnet = \"pods\"\n",
            13,
            ["another instance", "used once"],
        ),
        (
            "[[instance]]\nname = \"x\"\ntype = \"m5.large\"\nsubnet = \"pods\"\nprefixs = 1\n",
            16,
            ["`prefixs`", "`prefixes`"],
        ),
        (
            "[[eni]]\nsubnet = \"pods\"\n",
            12,
            ["`name` is missing", "eni 1"],
        ),
        (
            "[[fault]]\naction = \"CreateNetworkInterfce\"\neffect = \"throttled\"\n",
            13,
            ["no action matches", "aws-sim actions"],
        ),
        (
            "[[fault]]\neffect = \"explode\"\n",
            13,
            ["explode", "reset-after"],
        ),
        (
            "[[event]]\nwhen = { at = \"soon\" }\nevent = \"clear-faults\"\n",
            13,
            ["\"soon\"", "duration"],
        ),
        (
            "[[event]]\nwhen = { at = \"1m\" }\nevent = { delete-eni = { eni = \"$nod.eni\" } }\n",
            14,
            ["nothing is called $nod.eni", "pods, vpc"],
        ),
        (
            "[world]\nimds-lags = \"1s\"\n",
            13,
            ["imds-lags", "`imds-lag`"],
        ),
        ("x = [\n", 12, ["", ""]),
    ] {
        let path = file("mistake.toml", &format!("{NETWORK}{added}"));
        let path = path.to_str().unwrap();
        let output = run(&["world", path]);
        let said = stderr(&output);
        assert!(!output.status.success(), "{added}: {said}");
        assert!(
            said.contains(&format!("{path}:{line}: ")),
            "{added}: not line {line}: {said}"
        );
        for part in parts {
            assert!(said.contains(part), "{added}: {part:?} is not in {said}");
        }
    }
}

#[test]
fn a_scenario_without_a_network_happens_in_the_usual_world() {
    let path = file(
        "denied.toml",
        "[[deny]]\naction = \"CreateTags\"\n[[fault]]\naction = \"DescribeVpcs\"\neffect = \"throttled\"\n",
    );
    let served = Served::start("denied", &["--scenario", path.to_str().unwrap()]);
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 503);
    assert_eq!(served.ec2("Action=DescribeSubnets").0, 200);
    let eni = served.id("instances", "node-1");
    let (status, _) = served.ec2(&format!(
        "Action=CreateTags&ResourceId.1={eni}&Tag.1.Key=a&Tag.1.Value=b"
    ));
    assert_eq!(status, 403);
}

#[test]
fn a_story_that_goes_otherwise_fails_and_says_where() {
    for (steps, line, parts) in [
        (
            "[[step]]\nas = \"node\"\ncall = \"DescribeNetworkInterfaces\"\nhas = { status = \"available\" }\n",
            15,
            [
                "expected a status that is \"available\"",
                "there is in-use, attached",
            ],
        ),
        (
            "[[step]]\ncall = \"DeleteSubnet\"\nwith = { SubnetId = \"$pods\" }\nexpect = \"ok\"\n",
            15,
            ["expected ok, but got DependencyViolation", "step 1"],
        ),
        (
            "[[step]]\ncall = \"DescribeVpcs\"\nsave = { x = \"subnetId\" }\n",
            14,
            ["has no \"subnetId\"", "step 1"],
        ),
        (
            "[[step]]\nas = \"node\"\nimds = \"meta-data/mac\"\nshows = [\"00:00:00:00:00:00\"]\n",
            15,
            ["expected the line \"00:00:00:00:00:00\"", "it shows"],
        ),
        (
            "[[step]]\nwait = \"1s\"\nas = \"node\"\n",
            14,
            ["`as` means nothing", "leave it out"],
        ),
        (
            "[[step]]\nas = \"nobody\"\ncall = \"DescribeVpcs\"\n",
            13,
            ["no instance is called \"nobody\"", "\"node\""],
        ),
        (
            "[[step]]\ncall = \"DescribeVpc\"\n",
            13,
            ["no action matches", "aws-sim actions"],
        ),
        (
            "[[step]]\nexpect = \"ok\"\n",
            12,
            ["it does nothing", "`call`, `imds`, `event`"],
        ),
        (
            "[[step]]\nevent = { delete-eni = { eni = \"eni-0123456789abcdef0\" } }\n",
            13,
            ["eni-0123456789abcdef0", "ENI"],
        ),
    ] {
        let path = file("failing.toml", &format!("{NETWORK}{steps}"));
        let output = run(&["replay", path.to_str().unwrap()]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{steps}: {said}");
        assert!(
            said.contains(&format!(":{line}: ")),
            "{steps}: not line {line}: {said}"
        );
        for part in parts {
            assert!(said.contains(part), "{steps}: {part:?} is not in {said}");
        }
    }
}
