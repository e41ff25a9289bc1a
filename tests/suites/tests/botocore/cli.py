"""The AWS CLI."""

import json
import subprocess
import sys

import check


def aws(*arguments):
    """What `aws ec2` prints, read as JSON."""
    command = [sys.executable, "-m", "awscli", "ec2", *arguments, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"aws ec2 {' '.join(arguments)}: {done.returncode}\n{done.stderr}"
    return json.loads(done.stdout or "null")


def the_aws_cli_makes_tags_finds_and_deletes_an_eni():
    subnet = aws("describe-subnets", "--query", "Subnets[0].SubnetId")
    tags = "ResourceType=network-interface,Tags=[{Key=made-by,Value=cli}]"
    eni = aws(
        "create-network-interface", "--subnet-id", subnet, "--ipv4-prefix-count", "1", "--tag-specifications", tags,
        "--query", "NetworkInterface.NetworkInterfaceId",
    )
    found = aws("describe-network-interfaces", "--filters", "Name=tag:made-by,Values=cl?", "--query", "NetworkInterfaces")
    assert [item["NetworkInterfaceId"] for item in found] == [eni]
    assert len(found[0]["Ipv4Prefixes"]) == 1
    aws("delete-network-interface", "--network-interface-id", eni)
    left = aws("describe-network-interfaces", "--filters", "Name=tag:made-by,Values=cli", "--query", "NetworkInterfaces")
    assert left == [], left


def the_aws_cli_pages():
    subnet = aws("describe-subnets", "--query", "Subnets[0].SubnetId")
    ec2 = check.ec2()
    for _ in range(7):
        ec2.create_network_interface(SubnetId=subnet)
    whole = aws("describe-network-interfaces", "--no-paginate", "--query", "NetworkInterfaces[].NetworkInterfaceId")
    pages = aws("describe-network-interfaces", "--page-size", "5", "--query", "NetworkInterfaces[].NetworkInterfaceId")
    assert len(whole) >= 9 and sorted(pages) == sorted(whole), (pages, whole)


if __name__ == "__main__":
    check.main(globals())
