#!/usr/bin/env python3
"""Writes instance-types.csv from EC2's own DescribeInstanceTypes answers.

The answers come with moto 5.2.5 (https://pypi.org/project/moto/, Apache-2.0), which records them from
EC2: moto/ec2/resources/instance_types.json.gz. Only facts are taken. To run:

    python3 -m venv /tmp/types && /tmp/types/bin/pip install --no-deps moto==5.2.5
    /tmp/types/bin/python data/generate.py > data/instance-types.csv
"""

import gzip
import importlib.util
import json
import pathlib

COLUMNS = (
    "type", "enis", "ipv4_per_eni", "ipv6_per_eni", "enis_per_card", "default_card",
    "hypervisor", "bare_metal", "vcpus", "memory_mib", "architecture",
)


def main():
    package = pathlib.Path(importlib.util.find_spec("moto").origin).parent
    with gzip.open(package / "ec2/resources/instance_types.json.gz") as file:
        types = json.load(file)
    print("# EC2's limits by instance type; source: moto 5.2.5 (Apache-2.0), written by generate.py")
    print(",".join(COLUMNS))
    for name in sorted(types):
        fact = types[name]
        network = fact["NetworkInfo"]
        cards = sorted(network["NetworkCards"], key=lambda card: card["NetworkCardIndex"])
        architectures = fact["ProcessorInfo"]["SupportedArchitectures"]
        print(",".join(str(field) for field in (
            name,
            network["MaximumNetworkInterfaces"],
            network["Ipv4AddressesPerInterface"],
            network["Ipv6AddressesPerInterface"],
            "|".join(str(card["MaximumNetworkInterfaces"]) for card in cards),
            network.get("DefaultNetworkCardIndex", 0),
            fact.get("Hypervisor", ""),
            "true" if fact["BareMetal"] else "false",
            fact["VCpuInfo"]["DefaultVCpus"],
            fact["MemoryInfo"]["SizeInMiB"],
            next(a for a in ("x86_64", "arm64", "x86_64_mac", "arm64_mac", "i386") if a in architectures),
        )))


main()
