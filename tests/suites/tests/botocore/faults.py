"""What botocore does when requests go wrong, as the simulator's control port makes them."""

import json
import os
import urllib.request

import boto3
from botocore.parsers import ResponseParserError

import check


def control(path, body, method="POST"):
    request = urllib.request.Request(os.environ["AWS_SIM_CONTROL"] + path, json.dumps(body).encode(), method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status < 300, answer.read()


def a_reset_after_the_effect_leaves_one_eni():
    ec2 = check.ec2(retries={"mode": "standard"})
    _, subnet = check.place(ec2)
    found = lambda: ec2.describe_network_interfaces(Filters=[{"Name": "description", "Values": ["lost"]}])["NetworkInterfaces"]
    control("/faults", {"action": "CreateNetworkInterface", "when": {"nth": 1}, "effect": "reset-after"})
    # botocore makes a client token and sends it again.
    made = ec2.create_network_interface(SubnetId=subnet, Description="lost")
    assert made["ResponseMetadata"]["RetryAttempts"] == 1, made["ResponseMetadata"]
    assert [eni["NetworkInterfaceId"] for eni in found()] == [made["NetworkInterface"]["NetworkInterfaceId"]]


def a_truncated_answer_is_an_error_and_not_a_short_list():
    # Not a strict one: this is about what botocore itself makes of it.
    ec2 = boto3.client("ec2")
    control("/faults", {"action": "DescribeNetworkInterfaces", "effect": "truncated"})
    try:
        answer = ec2.describe_network_interfaces()
    except ResponseParserError:
        return
    raise AssertionError(f"{len(answer['NetworkInterfaces'])} ENIs were read from a truncated answer")


def a_waiter_outlasts_a_describe_that_lags():
    ec2 = check.ec2()
    _, subnet = check.place(ec2)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    control("/config", {"describe-lag": "3s"}, "PATCH")
    launched = ec2.run_instances(ImageId=image, InstanceType="t3.medium", MinCount=1, MaxCount=1, SubnetId=subnet)
    instance = [launched["Instances"][0]["InstanceId"]]
    check.refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=instance)
    ec2.get_waiter("instance_exists").wait(InstanceIds=instance, WaiterConfig={"Delay": 1})
    assert ec2.describe_instances(InstanceIds=instance)["Reservations"]


def what_iam_denies_is_unauthorized():
    ec2 = check.ec2()
    _, subnet = check.place(ec2)
    control("/deny", {"action": "CreateNetworkInterface"})
    error = check.refused("UnauthorizedOperation", ec2.create_network_interface, SubnetId=subnet)
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    check.refused("UnauthorizedOperation", ec2.create_network_interface, SubnetId=subnet, DryRun=True)


if __name__ == "__main__":
    check.main(globals())
