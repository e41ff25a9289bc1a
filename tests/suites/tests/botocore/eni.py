"""The life of an ENI through boto3."""

import check

TAG = "node.k8s.amazonaws.com/instance_id"


def an_eni_lives_from_create_to_delete():
    ec2 = check.ec2()
    instance, subnet = check.place(ec2)
    free = lambda: ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]
    before = free()

    tags = [{"ResourceType": "network-interface", "Tags": [{"Key": TAG, "Value": instance}]}]
    made = ec2.create_network_interface(SubnetId=subnet, Ipv4PrefixCount=2, Description="of a check", TagSpecifications=tags)
    eni = made["NetworkInterface"]["NetworkInterfaceId"]
    assert made["NetworkInterface"]["Status"] == "pending", made
    prefixes = [item["Ipv4Prefix"] for item in made["NetworkInterface"]["Ipv4Prefixes"]]
    assert len(prefixes) == 2 and all(prefix.endswith("/28") for prefix in prefixes), made
    assert free() == before - 1 - 2 * 16
    ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[eni], WaiterConfig={"Delay": 1})

    attachment = ec2.attach_network_interface(NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=1)["AttachmentId"]
    check.eventually("attached", lambda: check.eni(ec2, eni)["Attachment"]["Status"] == "attached")
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni, Attachment={"AttachmentId": attachment, "DeleteOnTermination": True}
    )
    assert check.eni(ec2, eni)["Attachment"]["DeleteOnTermination"] is True
    check.refused("InvalidParameterValue", ec2.delete_network_interface, NetworkInterfaceId=eni)

    given = ec2.assign_private_ip_addresses(NetworkInterfaceId=eni, SecondaryPrivateIpAddressCount=3)
    addresses = [item["PrivateIpAddress"] for item in given["AssignedPrivateIpAddresses"]]
    assert len(addresses) == 3
    held = [item["PrivateIpAddress"] for item in check.eni(ec2, eni)["PrivateIpAddresses"]]
    assert set(addresses) < set(held) and len(held) == 4, held

    ec2.create_tags(Resources=[eni], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    ec2.delete_tags(Resources=[eni], Tags=[{"Key": "a"}])
    found = ec2.describe_network_interfaces(Filters=[{"Name": f"tag:{TAG}", "Values": [instance]}])["NetworkInterfaces"]
    assert [item["NetworkInterfaceId"] for item in found] == [eni]
    assert {tag["Key"]: tag["Value"] for tag in found[0]["TagSet"]} == {TAG: instance, "b": ""}, found[0]["TagSet"]

    ec2.unassign_private_ip_addresses(NetworkInterfaceId=eni, PrivateIpAddresses=addresses)
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=eni, Ipv4Prefixes=prefixes)
    bare = check.eni(ec2, eni)
    assert len(bare["PrivateIpAddresses"]) == 1 and not bare.get("Ipv4Prefixes"), bare
    assert free() == before - 1

    ec2.detach_network_interface(AttachmentId=attachment)
    assert check.eni(ec2, eni)["Attachment"]["Status"] == "detaching"
    ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[eni], WaiterConfig={"Delay": 1})
    ec2.delete_network_interface(NetworkInterfaceId=eni)
    check.refused("InvalidNetworkInterfaceID.NotFound", ec2.describe_network_interfaces, NetworkInterfaceIds=[eni])
    assert free() == before


def a_client_token_makes_one_eni_of_two_requests():
    ec2 = check.ec2()
    _, subnet = check.place(ec2)
    request = {"SubnetId": subnet, "ClientToken": "once"}
    first = ec2.create_network_interface(**request)["NetworkInterface"]["NetworkInterfaceId"]
    again = ec2.create_network_interface(**request)["NetworkInterface"]["NetworkInterfaceId"]
    assert first == again
    check.refused("IdempotentParameterMismatch", ec2.create_network_interface, Description="another", **request)


def ipv6_addresses_and_prefixes_come_and_go():
    ec2 = check.ec2()
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]

    def block():
        sets = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0].get("Ipv6CidrBlockAssociationSet", [])
        return next((item["Ipv6CidrBlock"] for item in sets if item["Ipv6CidrBlockState"]["State"] == "associated"), None)

    cidr = check.eventually("the VPC's IPv6 block is associated", block).replace("/56", "/64")
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24", Ipv6CidrBlock=cidr)["Subnet"]["SubnetId"]
    ec2.get_waiter("subnet_available").wait(SubnetIds=[subnet], WaiterConfig={"Delay": 1})
    made = ec2.create_network_interface(SubnetId=subnet, Ipv6PrefixCount=1)["NetworkInterface"]
    eni = made["NetworkInterfaceId"]
    assert made["Ipv6Prefixes"][0]["Ipv6Prefix"].endswith("/80"), made

    first = ec2.assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6AddressCount=2)["AssignedIpv6Addresses"]
    more = ec2.assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6AddressCount=1)["AssignedIpv6Addresses"]
    assert len(first) == 2 and len(more) == 1 and not set(first) & set(more)
    gone = ec2.unassign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6Addresses=first)["UnassignedIpv6Addresses"]
    assert sorted(gone) == sorted(first)
    assert [item["Ipv6Address"] for item in check.eni(ec2, eni)["Ipv6Addresses"]] == more


if __name__ == "__main__":
    check.main(globals())
