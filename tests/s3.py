"""A real S3 API on loopback: moto's server, as a process that can be stopped and started again."""

import os
import subprocess
import sys
import time
from typing import Any

import httpx

from tests.redis_topologies import free_port

START_TIMEOUT_S = 60
BUCKET, REGION = "labels", "eu-central-1"


class S3Server:
    """moto's server, and a bucket. Stopped, it forgets all, as a bucket that is away does not: use `freeze`.

    checks_keys: refuse keys that it does not know; `user` has those that it knows.
    """

    def __init__(self, *, checks_keys: bool = False) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()
        self.key, self.secret = "known", "secret"
        self.client = self._connect("s3")
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        if checks_keys:
            self._check_keys()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                httpx.get(f"{self.url}/moto-api/data.json", timeout=5)
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, "moto does not start"
                time.sleep(0.05)

    def _connect(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )

    def _check_keys(self) -> None:
        """Create a user that may use the bucket, and refuse everybody else."""
        iam = self._connect("iam")
        iam.create_user(UserName="segserve")
        policy = (
            '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        )
        iam.put_user_policy(UserName="segserve", PolicyName="bucket", PolicyDocument=policy)
        keys = iam.create_access_key(UserName="segserve")["AccessKey"]
        self.key, self.secret = keys["AccessKeyId"], keys["SecretAccessKey"]
        httpx.post(f"{self.url}/moto-api/reset-auth", content=b"0").raise_for_status()
        self.client = self._connect("s3")

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which clients of S3 find the bucket."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def paths(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def freeze(self) -> None:
        """Let it accept connections, and answer nothing."""
        os.kill(self._process.pid, 19)  # SIGSTOP

    def thaw(self) -> None:
        os.kill(self._process.pid, 18)  # SIGCONT

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
