#!/usr/bin/env python3
"""Writes instance-limits.csv: what EC2 lets each instance type have.

Source: EC2's own DescribeInstanceTypes, as carried by the moto project (Apache-2.0) in
moto/ec2/resources/instance_types.json.gz. Run it where moto is installed:

    python3 -m venv /tmp/moto && /tmp/moto/bin/pip install --no-deps moto==5.2.5
    /tmp/moto/bin/python instance-limits.py > instance-limits.csv
"""

import gzip
import importlib.metadata
import importlib.util
import json
import pathlib


def cards(network):
    """ENIs of each network card, by its index; types of one card may not list it."""
    listed = sorted(network.get("NetworkCards", []), key=lambda card: card["NetworkCardIndex"])
    return [card["MaximumNetworkInterfaces"] for card in listed] or [network["MaximumNetworkInterfaces"]]


def prefixes(kind):
    """Prefixes are for Nitro, also where there is no hypervisor."""
    return kind.get("Hypervisor") == "nitro" or kind["BareMetal"]


moto = pathlib.Path(importlib.util.find_spec("moto").origin).parent
with gzip.open(moto / "ec2/resources/instance_types.json.gz") as file:
    types = json.load(file)

print("# What EC2 lets an instance of each type have. Made by instance-limits.py")
print(f"# from DescribeInstanceTypes as carried by moto {importlib.metadata.version('moto')} (Apache-2.0).")
print("type,enis_per_card,ipv4_slots_per_eni,ipv6_slots_per_eni,prefixes")
for name in sorted(types):
    network = types[name]["NetworkInfo"]
    fields = (
        "|".join(str(enis) for enis in cards(network)),
        network["Ipv4AddressesPerInterface"],
        network["Ipv6AddressesPerInterface"],
        "true" if prefixes(types[name]) else "false",
    )
    print(",".join(str(field) for field in (name, *fields)))
