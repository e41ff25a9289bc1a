"""EC2's refusals as botocore's exceptions."""

from botocore.exceptions import ClientError

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
    # Five at once, then one a second; what is refused for another reason counts too.
    request = {"SubnetCidrReservationId": f"scr-{GONE}"}
    missing = "InvalidSubnetCidrReservationID.NotFound"
    hasty = check.ec2(retries={"total_max_attempts": 1})
    answers = (answer(hasty.delete_subnet_cidr_reservation, **request) for _ in range(30))
    throttled = next(error for error in answers if error["Error"]["Code"] != missing)
    assert throttled["Error"]["Code"] == "RequestLimitExceeded", throttled
    assert throttled["ResponseMetadata"]["HTTPStatusCode"] == 503, throttled

    patient = check.ec2(retries={"mode": "standard", "total_max_attempts": 10})
    retried = [
        check.refused(missing, patient.delete_subnet_cidr_reservation, **request)["ResponseMetadata"]["RetryAttempts"]
        for _ in range(3)
    ]
    assert sum(retried) > 0, "nothing was retried"


def answer(call, **parameters):
    """What a call is refused with."""
    try:
        call(**parameters)
    except ClientError as error:
        return error.response
    raise AssertionError("it was done")


if __name__ == "__main__":
    check.main(globals())
