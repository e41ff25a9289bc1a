"""All of each answer is in botocore's model of EC2; `strict` says so of every answer that the checks get."""

from botocore import xform_name

import check


def each_describe_answers_in_the_words_of_the_model():
    ec2 = check.ec2()
    model = ec2.meta.service_model
    plain = [
        name
        for name in model.operation_names
        if name.startswith("Describe") and not model.operation_model(name).input_shape.required_members
    ]
    known = check.served(plain)
    assert {"DescribeAvailabilityZones", "DescribeNetworkInterfaces", "DescribeSubnets"} <= known, known
    for name in sorted(known):
        getattr(ec2, xform_name(name))()


def each_attribute_is_named_as_in_the_model():
    ec2 = check.ec2()
    instance, subnet = check.place(ec2)
    eni = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["NetworkInterfaces"][0]
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    for attribute in ("description", "groupSet", "sourceDestCheck", "attachment"):
        answer = ec2.describe_network_interface_attribute(NetworkInterfaceId=eni["NetworkInterfaceId"], Attribute=attribute)
        assert len(without_metadata(answer)) == 2, answer
    for attribute in ("enableDnsSupport", "enableDnsHostnames"):
        answer = ec2.describe_vpc_attribute(VpcId=vpc, Attribute=attribute)
        assert len(without_metadata(answer)) == 2, answer


def without_metadata(answer):
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


if __name__ == "__main__":
    check.main(globals())
