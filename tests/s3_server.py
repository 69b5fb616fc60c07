"""An S3 server on loopback (moto), for tests of object storage."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pyarrow.fs as pafs
import pytest


class S3Server:
    """A running server with one bucket.

    Attributes:
        options: what a URI has to say after `?` so that it means this server.
        requests: method and path of each request so far, in order.
        faults: of the class: called with each request; returns an HTTP status to answer with in place of the server, or 0.
            It may wait.
    """

    faults: Callable[[BaseHTTPRequestHandler], int] = staticmethod(lambda _: 0)

    def __init__(self, host: str, port: int, requests: list[str]) -> None:
        self.options, self.requests = f"scheme=http&region=us-east-1&endpoint_override={host}:{port}", requests
        self.fs = pafs.S3FileSystem(
            access_key="key",
            secret_key="secret",
            region="us-east-1",
            scheme="http",
            endpoint_override=f"{host}:{port}",
            allow_bucket_creation=True,
        )
        self.bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        self.fs.create_dir(self.bucket)

    def uri(self, key: str) -> str:
        """URI of a key in the bucket."""
        return f"s3://key:secret@{self.bucket}/{key}?{self.options}"

    def put(self, key: str, data: bytes) -> str:
        """Store an object; returns its URI."""
        with self.fs.open_output_stream(f"{self.bucket}/{key}") as stream:
            stream.write(data)
        return self.uri(key)

    def get(self, key: str) -> bytes:
        """Content of an object."""
        with self.fs.open_input_stream(f"{self.bucket}/{key}") as stream:
            return bytes(stream.read())

    def reads(self, key: str) -> int:
        """Number of requests so far that read (a part of) an object."""
        return sum(request == f"GET /{self.bucket}/{key}" for request in self.requests)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with an empty bucket, in a thread of this process."""
    server = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="moto is not installed (extra: dev)")
    requests: list[str] = []

    class Handler(server.MotoRequestHandler):  # type: ignore[misc, name-defined]
        def log_request(self, code: object = "-", size: object = "-") -> None:
            requests.append(f"{self.command} {self.path.partition('?')[0]}")

        def run_wsgi(self) -> None:
            if status := S3Server.faults(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            super().run_wsgi()

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    before = server.MotoRequestHandler
    server.MotoRequestHandler = Handler
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    try:
        running.start()
        host, port = running.get_host_and_port()
        yield S3Server(host, port, requests)
    finally:
        running.stop()
        server.MotoRequestHandler = before
