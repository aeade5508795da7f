"""An S3 server in another process, and the environment in which the engines find it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes:
        endpoint: Its address.
    """

    endpoint: str

    @property
    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint, **self.credentials(), region_name="us-east-1")

    @staticmethod
    def credentials() -> dict[str, str]:
        return {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that Arrow, the embedded engine and delta-rs read."""
        variables = {name.upper(): value for name, value in self.credentials().items()}
        return variables | {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.endpoint, "AWS_ALLOW_HTTP": "true"}

    def bucket(self, name: str) -> str:
        """Creates an empty bucket, and returns its URI."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def keys(self, uri: str) -> list[str]:
        """Returns the keys of all objects below a URI, without its prefix."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{prefix}/" if prefix else ""
        )
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return [key.removeprefix(f"{prefix}/") for key in keys if not key.endswith("/")]

    def put(self, uri: str, content: bytes) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self.client.put_object(Bucket=bucket, Key=key, Body=content)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Runs moto's server; it keeps all objects in its memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # In a process of its own: in this one, a call that holds Python's lock would wait for its own answer.
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()
