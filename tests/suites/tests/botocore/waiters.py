"""boto3's waiters."""

import check

# Seconds between two looks; the default is 15.
QUICK = {"Delay": 1, "MaxAttempts": 30}
WAITERS = {
    "ImageAvailable",
    "ImageExists",
    "InstanceExists",
    "InstanceRunning",
    "InstanceStatusOk",
    "InstanceStopped",
    "InstanceTerminated",
    "NetworkInterfaceAvailable",
    "SecurityGroupExists",
    "SubnetAvailable",
    "SystemStatusOk",
    "VpcAvailable",
    "VpcExists",
}
# The simulated VPCs have no internet gateways: this one has nothing to wait for.
WITHOUT_END = {"InternetGatewayExists"}


def wait(ec2, name, **arguments):
    ec2.get_waiter(name).wait(WaiterConfig=QUICK, **arguments)


def the_waiter_for_an_eni_finishes():
    ec2 = check.ec2()
    _, subnet = check.place(ec2)
    eni = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    wait(ec2, "network_interface_available", NetworkInterfaceIds=[eni])
    assert check.eni(ec2, eni)["Status"] == "available"


def the_waiters_for_a_vpc_and_what_is_in_it_finish():
    ec2 = check.ec2()
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    wait(ec2, "vpc_exists", VpcIds=[vpc])
    wait(ec2, "vpc_available", VpcIds=[vpc])
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24")["Subnet"]["SubnetId"]
    wait(ec2, "subnet_available", SubnetIds=[subnet])
    group = ec2.create_security_group(GroupName="web", Description="of a check", VpcId=vpc)["GroupId"]
    wait(ec2, "security_group_exists", GroupIds=[group])


def the_waiters_for_an_instance_finish():
    ec2 = check.ec2()
    _, subnet = check.place(ec2)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    launched = ec2.run_instances(ImageId=image, InstanceType="t3.medium", MinCount=1, MaxCount=1, SubnetId=subnet)
    instance = [launched["Instances"][0]["InstanceId"]]
    wait(ec2, "instance_exists", InstanceIds=instance)
    wait(ec2, "instance_running", InstanceIds=instance)
    wait(ec2, "instance_status_ok", InstanceIds=instance)
    wait(ec2, "system_status_ok", InstanceIds=instance)
    ec2.stop_instances(InstanceIds=instance)
    wait(ec2, "instance_stopped", InstanceIds=instance)
    ec2.terminate_instances(InstanceIds=instance)
    wait(ec2, "instance_terminated", InstanceIds=instance)


def the_waiters_for_an_image_finish():
    ec2 = check.ec2()
    image = [ec2.describe_images()["Images"][0]["ImageId"]]
    wait(ec2, "image_exists", ImageIds=image)
    wait(ec2, "image_available", ImageIds=image)


def no_waiter_is_forgotten():
    ec2 = check.ec2()
    asks = {waiter.name: waiter.config.operation for waiter in map(ec2.get_waiter, ec2.waiter_names)}
    known = check.served(set(asks.values()))
    can_wait = {name for name, operation in asks.items() if operation in known} - WITHOUT_END
    assert can_wait == WAITERS, f"no check waits with {can_wait - WAITERS}; not served: {WAITERS - can_wait}"


if __name__ == "__main__":
    check.main(globals())
