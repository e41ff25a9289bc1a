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


def card_zero(network):
    """ENIs of network card 0; types of one card may not list it."""
    for card in network.get("NetworkCards", []):
        if card["NetworkCardIndex"] == 0:
            return card["MaximumNetworkInterfaces"]
    return network["MaximumNetworkInterfaces"]


moto = pathlib.Path(importlib.util.find_spec("moto").origin).parent
with gzip.open(moto / "ec2/resources/instance_types.json.gz") as file:
    types = json.load(file)

print("# What EC2 lets an instance of each type have, on network card 0. Made by instance-limits.py")
print(f"# from DescribeInstanceTypes as carried by moto {importlib.metadata.version('moto')} (Apache-2.0).")
print("type,max_enis,ipv4_slots_per_eni")
for name in sorted(types):
    network = types[name]["NetworkInfo"]
    print(f"{name},{card_zero(network)},{network['Ipv4AddressesPerInterface']}")
