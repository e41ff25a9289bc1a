"""boto3's paginators, each walked to its end in small pages."""

import json

from botocore import xform_name

import check

# The smallest page where it is not 5. There are 1395 instance types: pages of 5 would be throttled, as EC2 would.
PAGE = {"DescribeInstanceTypes": 100, "DescribeInstanceTypeOfferings": 100}
# What CNIs, controllers and tools page through. That the simulator stops knowing one of these would be a regression.
NEEDED = {
    "DescribeImages",
    "DescribeInstanceStatus",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeTags",
    "DescribeVpcs",
}
# Of these there are several pages: not of images, and five VPCs are all that an account may have.
SEVERAL = NEEDED - {"DescribeImages", "DescribeVpcs"}


def every_paginator_walks_to_the_end():
    ec2 = check.ec2()
    populate(ec2)
    model = ec2.meta.service_model
    known = check.served(name for name in model.operation_names if ec2.can_paginate(xform_name(name)))
    assert NEEDED <= known, f"not served: {NEEDED - known}"
    for operation in sorted(known):
        paginator = ec2.get_paginator(xform_name(operation))
        pages = list(paginator.paginate(PaginationConfig={"PageSize": PAGE.get(operation, 5)}))
        assert not pages[-1].get("NextToken"), operation
        key = paginator.result_keys[0]
        walked = contents(item for page in pages for item in key.search(page) or [])
        whole = contents(paginator.paginate().build_full_result().get(key.expression, []))
        assert walked == whole, f"{operation}: {len(walked)} in pages, {len(whole)} at once"
        assert operation not in SEVERAL or len(pages) > 1, f"{operation}: {len(whole)} on one page"
        print(f"{operation}: {len(whole)} on {len(pages)} pages")


def a_walk_shows_each_eni_once():
    ec2 = check.ec2()
    _, subnet = check.place(ec2)
    made = [ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"] for _ in range(12)]
    walk = ec2.get_paginator("describe_network_interfaces").paginate(
        Filters=[{"Name": "subnet-id", "Values": [subnet]}], PaginationConfig={"PageSize": 5}
    )
    seen = [eni["NetworkInterfaceId"] for page in walk for eni in page["NetworkInterfaces"]]
    assert len(seen) == len(set(seen)) and set(made) < set(seen), seen
    check.refused("InvalidParameterValue", ec2.describe_network_interfaces, MaxResults=5, NextToken="made-up")
    # botocore itself would refuse a page so small.
    check.refused("InvalidParameterValue", check.ec2(parameter_validation=False).describe_network_interfaces, MaxResults=4)


def populate(ec2):
    """More than one page of most that can be listed."""
    image = ec2.describe_images()["Images"][0]["ImageId"]
    _, subnet = check.place(ec2)
    instances = [
        ec2.run_instances(ImageId=image, InstanceType="t3.medium", MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]
        for _ in range(5)
    ]
    ec2.get_waiter("instance_running").wait(
        InstanceIds=[instance["InstanceId"] for instance in instances], WaiterConfig={"Delay": 1}
    )
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    for number in range(6):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{number}.0/24")["Subnet"]["SubnetId"]
        ec2.create_security_group(GroupName=f"group-{number}", Description="of a check", VpcId=vpc)
        eni = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        ec2.create_tags(Resources=[eni], Tags=[{"Key": "number", "Value": str(number)}])
        check.eventually("available", lambda: check.eni(ec2, eni)["Status"] == "available")


def contents(items):
    """Items in an order of their own: EC2 promises none."""
    return sorted(json.dumps(item, sort_keys=True, default=str) for item in items)


if __name__ == "__main__":
    check.main(globals())
