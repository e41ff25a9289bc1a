"""EC2's refusals as botocore's exceptions."""

import check

GONE = "0123456789abcdef0"


def error_codes_arrive_as_exceptions():
    ec2 = check.ec2()
    instance, subnet = check.place(ec2)
    eni = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]

    error = check.refused("InvalidNetworkInterfaceID.NotFound", ec2.delete_network_interface, NetworkInterfaceId=f"eni-{GONE}")
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    # VPC CNI takes the id out of this text.
    assert error["Error"]["Message"] == f"The networkInterface ID 'eni-{GONE}' does not exist"
    assert error["ResponseMetadata"]["RequestId"], error

    check.refused("InvalidSubnetID.NotFound", ec2.create_network_interface, SubnetId=f"subnet-{GONE}")
    check.refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=[f"i-{GONE}"])
    check.refused("InvalidParameterValue", ec2.describe_subnets, Filters=[{"Name": "no-such-filter", "Values": ["x"]}])
    check.refused("InvalidAction", ec2.describe_conversion_tasks)
    check.refused(
        "InvalidParameterValue", ec2.assign_private_ip_addresses, NetworkInterfaceId=eni, PrivateIpAddresses=["192.0.2.1"]
    )
    check.refused(
        "InvalidParameterValue", ec2.attach_network_interface, NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=0
    )


def a_dry_run_tells_what_would_happen_and_changes_nothing():
    ec2 = check.ec2()
    _, subnet = check.place(ec2)
    count = lambda: len(ec2.describe_network_interfaces()["NetworkInterfaces"])
    before = count()
    error = check.refused("DryRunOperation", ec2.create_network_interface, SubnetId=subnet, DryRun=True)
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert count() == before


def retries_outlast_throttling():
    once = check.ec2(retries={"total_max_attempts": 1})
    for _ in range(200):
        try:
            once.describe_network_interfaces()
        except once.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "RequestLimitExceeded", error
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
            break
    else:
        raise AssertionError("200 requests in a row were not throttled")
    patient = check.ec2(retries={"mode": "standard", "total_max_attempts": 10})
    retried = [patient.describe_network_interfaces()["ResponseMetadata"]["RetryAttempts"] for _ in range(20)]
    assert sum(retried) > 0, "nothing was retried"


if __name__ == "__main__":
    check.main(globals())
