#!/usr/bin/env python3
"""Writes instance-types.csv from EC2's own DescribeInstanceTypes answers.

The answers come with moto 5.2.5 (from PyPI, Apache-2.0), which records them from
EC2: moto/ec2/resources/instance_types.json.gz. Only facts are taken. To run:

    python3 -m venv /tmp/types && /tmp/types/bin/pip install --no-deps moto==5.2.5
    /tmp/types/bin/python data/generate.py > data/instance-types.csv
"""

import gzip
import importlib.util
import itertools
import json
import pathlib


def card(fact):
    """A network card: ENIs, speed, and what it takes."""
    return "/".join(str(part) for part in (
        fact["MaximumNetworkInterfaces"],
        fact["NetworkPerformance"],
        fact["BaselineBandwidthInGbps"],
        fact["PeakBandwidthInGbps"],
        fact["DefaultEnaQueueCountPerInterface"],
        "+".join(fact["InterfaceTypes"]),
    ))


def cards(facts):
    """All of them in their order; cards in a row that are alike are written once: 3*card."""
    facts = sorted(facts, key=lambda fact: fact["NetworkCardIndex"])
    return "|".join(f"{len(list(run))}*{text}" for text, run in itertools.groupby(map(card, facts)))


# Name of the column, and what of DescribeInstanceTypes is in it. Lists are separated by bars.
COLUMNS = {
    "type": lambda fact, network: fact["InstanceType"],
    "ipv4_per_eni": lambda fact, network: network["Ipv4AddressesPerInterface"],
    "ipv6_per_eni": lambda fact, network: network["Ipv6AddressesPerInterface"],
    "default_card": lambda fact, network: network["DefaultNetworkCardIndex"],
    "cards": lambda fact, network: cards(network["NetworkCards"]),
    "performance": lambda fact, network: network["NetworkPerformance"],
    "ena": lambda fact, network: network["EnaSupport"],
    "ena_srd": lambda fact, network: network["EnaSrdSupported"],
    "flexible_ena_queues": lambda fact, network: network["FlexibleEnaQueuesSupport"] == "supported",
    "efa_interfaces": lambda fact, network: network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
    "encrypts_in_transit": lambda fact, network: network["EncryptionInTransitSupported"],
    "tcp_established_timeout": lambda fact, network: network["ConnectionTrackingConfiguration"][
        "DefaultTcpEstablishedTimeout"],
    "hypervisor": lambda fact, network: fact.get("Hypervisor", ""),
    "bare_metal": lambda fact, network: fact["BareMetal"],
    "architectures": lambda fact, network: fact["ProcessorInfo"]["SupportedArchitectures"],
    "manufacturer": lambda fact, network: fact["ProcessorInfo"].get("Manufacturer", ""),
    "clock_ghz": lambda fact, network: fact["ProcessorInfo"].get("SustainedClockSpeedInGhz", ""),
    "vcpus": lambda fact, network: fact["VCpuInfo"]["DefaultVCpus"],
    "cores": lambda fact, network: fact["VCpuInfo"].get("DefaultCores", ""),
    "memory_mib": lambda fact, network: fact["MemoryInfo"]["SizeInMiB"],
    "current_generation": lambda fact, network: fact["CurrentGeneration"],
    "burstable": lambda fact, network: fact["BurstablePerformanceSupported"],
    "free_tier": lambda fact, network: fact["FreeTierEligible"],
    "dedicated_hosts": lambda fact, network: fact["DedicatedHostsSupported"],
    "auto_recovery": lambda fact, network: fact["AutoRecoverySupported"],
    "hibernation": lambda fact, network: fact["HibernationSupported"],
    "instance_storage": lambda fact, network: fact["InstanceStorageSupported"],
    "ebs_optimized": lambda fact, network: fact["EbsInfo"]["EbsOptimizedSupport"],
    "usage_classes": lambda fact, network: fact["SupportedUsageClasses"],
    "root_devices": lambda fact, network: fact["SupportedRootDeviceTypes"],
    "virtualization": lambda fact, network: fact["SupportedVirtualizationTypes"],
    "boot_modes": lambda fact, network: fact["SupportedBootModes"],
    "placement_strategies": lambda fact, network: fact["PlacementGroupInfo"]["SupportedStrategies"],
}


def text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return "|".join(value) if isinstance(value, list) else str(value)


def main():
    package = pathlib.Path(importlib.util.find_spec("moto").origin).parent
    with gzip.open(package / "ec2/resources/instance_types.json.gz") as file:
        types = json.load(file)
    print("# EC2's instance types; source: moto 5.2.5 (Apache-2.0), written by generate.py")
    print(",".join(COLUMNS))
    for name in sorted(types):
        fields = [text(column(types[name], types[name]["NetworkInfo"])) for column in COLUMNS.values()]
        assert not any("," in field for field in fields), name
        print(",".join(fields))


main()
