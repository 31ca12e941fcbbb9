"""The policy of the Terraform module suffices for a lake in S3, as moto enforces it for each client of a loop."""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from airflow_mlops.core.lake import Lake, LakeFiles
from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from tests.terraform_module import REGION, policy, references

BUCKET, OTHER = "loops", "of-somebody-else"
ROLE = "arn:aws:iam::123456789012:role/"


@dataclass(frozen=True)
class Account:
    """An account on loopback that asks IAM about every call, and the keys of a user with the policy of the loops."""

    url: str
    keys: dict[str, str]

    def client(self, service: str) -> Any:
        """Return boto3's client of the user."""
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **self.keys)

    def lake(self, bucket: str) -> Lake:
        """Return a lake in a bucket, with the keys of the user."""
        credentials = {
            "key": self.keys["aws_access_key_id"],
            "secret": self.keys["aws_secret_access_key"],
            "region": REGION,
            "endpoint": self.url,
        }
        return Lake(f"s3://{bucket}/lake", credentials)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """The account, with two buckets; its process is its own, as moto enforces for all or for nobody."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("moto") / "moto.log"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    child = start_child("moto", command, dict(os.environ), log)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until_ready(child, answers, timeout_seconds=60)
        root = {"aws_access_key_id": "root", "aws_secret_access_key": "root", "region_name": REGION}
        s3, iam = (boto3.client(service, endpoint_url=url, **root) for service in ("s3", "iam"))
        for bucket in (BUCKET, OTHER):
            s3.create_bucket(Bucket=bucket)
        iam.create_user(UserName="loops")
        document = policy("loops", references(BUCKET, fits=f"{ROLE}fits", serving=f"{ROLE}serving"))
        iam.put_user_policy(UserName="loops", PolicyName="loops", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName="loops")["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        enforce = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        urllib.request.urlopen(enforce).close()
        yield Account(url, keys)
    finally:
        stop_sessions([child.pid], patience_seconds=5)
        child.process.wait()


def test_tables_are_written_replaced_and_read(account: Account) -> None:
    table = account.lake(BUCKET) / "snapshots"
    options = table.storage_options()
    for number in (1, 2):
        rows = pa.table({"partition": ["2013-01-06"], "x": [number]})
        write_deltalake(table.uri, rows, mode="overwrite", storage_options=options)
    kept = DeltaTable(table.uri, storage_options=options)
    assert kept.to_pyarrow_table()["x"].to_pylist() == [2]


def test_what_a_job_was_given_is_removed(account: Account) -> None:
    # One by one: moto holds a removal of many at once to the bucket itself, and AWS to each object.
    s3 = account.client("s3")
    s3.put_object(Bucket=BUCKET, Key="fits/job/rows.parquet", Body=b"")
    s3.delete_object(Bucket=BUCKET, Key="fits/job/rows.parquet")
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="fits/job/")


def test_files_are_written_listed_and_read(account: Account) -> None:
    files = LakeFiles(account.lake(BUCKET))
    files.put("evidence/a.json", b"{}")
    assert (files.get("evidence/a.json"), files.names("evidence")) == (b"{}", ["a.json"])
    assert files.holds("evidence/a.json")
    assert not files.holds("evidence/b.json")


def test_an_upload_that_breaks_off_can_be_aborted(account: Account) -> None:
    s3 = account.client("s3")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="fits/rows.parquet")["UploadId"]
    s3.abort_multipart_upload(Bucket=BUCKET, Key="fits/rows.parquet", UploadId=upload)


def test_another_bucket_and_what_the_policy_does_not_name_are_refused(account: Account, tmp_path: Path) -> None:
    s3 = account.client("s3")
    for refused in (
        lambda: s3.put_object(Bucket=OTHER, Key="x", Body=b""),
        lambda: s3.get_object(Bucket=OTHER, Key="x"),
        lambda: s3.delete_bucket(Bucket=BUCKET),
        lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy="{}"),
        lambda: account.client("iam").create_user(UserName="another"),
    ):
        with pytest.raises(Exception, match=r"AccessDenied|not authorized|Forbidden"):
            refused()
    with pytest.raises(OSError, match=r"ACCESS_DENIED|AccessDenied|Access Denied"):
        LakeFiles(account.lake(OTHER)).put("evidence/a.json", b"{}")
