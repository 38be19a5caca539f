"""A real S3 endpoint on this machine: moto's server, in a process of its own that can stand still."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3

BUCKET = "floor"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Endpoint:
    """An S3 server with one bucket."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    break
            except OSError:
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)
        self.client.create_bucket(Bucket=BUCKET)

    @property
    def storage(self) -> str:
        """For ``--storage``."""
        return f"s3://{BUCKET}/results?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def env(self, work) -> dict[str, str]:
        """Environment of a command on a machine with this working folder."""
        return {**os.environ, **CREDENTIALS, "TRADING_FLOOR_WORK": str(work)}

    def objects(self, below: str = "") -> dict[str, int]:
        """Sizes of the objects of all runs, by name."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"results/{below}")
        return {o["Key"].removeprefix("results/"): o["Size"] for page in pages for o in page.get("Contents", ())}

    def read(self, name: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=f"results/{name}")["Body"].read()

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"results/{name}", Body=content)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=f"results/{name}")

    def go_away(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def come_back(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()
