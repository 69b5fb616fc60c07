"""Fixtures of several unit tests."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(_s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 server on loopback with an empty bucket, and an empty cache of this node."""
    monkeypatch.setenv("VLRM_CACHE", str(tmp_path / "node-cache"))
    host, _, port = _s3_server.options.rpartition("=")[2].partition(":")
    _s3_server.requests.clear()
    return S3Server(host, int(port), _s3_server.requests)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """An interrupt raises KeyboardInterrupt, which a shell may have switched off for what runs in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
