"""botocore's own clients of the instance metadata service."""

import os

import boto3
from botocore.session import Session
from botocore.utils import IMDSRegionProvider, InstanceMetadataFetcher

import check


def the_credentials_of_the_role_are_fetched():
    fetcher = InstanceMetadataFetcher(base_url=os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"])
    found = fetcher.retrieve_iam_role_credentials()
    assert found["role_name"], found
    assert found["access_key"].startswith("ASIA") and found["secret_key"] and found["token"], found


def the_region_is_found():
    assert IMDSRegionProvider(Session()).provide() == os.environ["AWS_DEFAULT_REGION"]


def a_session_without_keys_asks_ec2_with_those_of_its_instance():
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    session = boto3.Session()
    credentials = session.get_credentials()
    assert credentials.method == "iam-role", credentials.method
    assert credentials.get_frozen_credentials().token
    assert session.client("ec2").describe_instances()["Reservations"]


if __name__ == "__main__":
    check.main(globals())
