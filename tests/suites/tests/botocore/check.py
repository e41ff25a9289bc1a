"""What the checks share. The simulator is found by the environment, as aws-sim prints it; nothing else is configured."""

import sys
import time

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

import strict

DEADLINE = 30


def ec2(**config):
    """A client for EC2, as a person makes one, but that reads answers strictly."""
    client = boto3.client("ec2", config=Config(**config) if config else None)
    strict.attach(client)
    return client


def main(checks):
    """Runs the check that the command line names."""
    checks[sys.argv[1]]()


def eventually(what, ask):
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + DEADLINE
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.1)


def refused(code, call, **parameters):
    """Calls what has to be refused with this code; returns the whole error."""
    try:
        answer = call(**parameters)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, f"wanted {code}, got {error}"
        return error.response
    raise AssertionError(f"wanted {code}, but it was done: {answer}")


def served(operations):
    """Those of EC2's operations, by the model's names, that the simulator knows."""
    unchecked = ec2(parameter_validation=False)

    def known(operation):
        try:
            getattr(unchecked, xform_name(operation))()
        except ClientError as error:
            return error.response["Error"]["Code"] != "InvalidAction"
        return True

    return {operation for operation in operations if known(operation)}


def eni(client, eni_id):
    """One ENI as Describe shows it."""
    return client.describe_network_interfaces(NetworkInterfaceIds=[eni_id])["NetworkInterfaces"][0]


def place(client):
    """An instance that runs, and the subnet it is in."""
    reservations = client.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
    instance = reservations["Reservations"][0]["Instances"][0]
    return instance["InstanceId"], instance["SubnetId"]
