"""Images of the web: only from allowed hosts, never from private addresses, bounded in bytes, time and redirects."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.unit.image_files import png
from vlrm_ray.config import load
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline.preflight import check_images
from vlrm_ray.store import web
from vlrm_ray.store.images import read_bytes
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.web import download, ingest_image, is_public


class Site(BaseHTTPRequestHandler):
    """A web site with every kind of trouble, by path."""

    requests: list[str] = []  # noqa: RUF012
    failures = 0

    def do_GET(self) -> None:
        self.requests.append(self.path)
        name, _, argument = self.path[1:].partition("?")
        if name == "redirect":
            self.send_response(302)
            self.send_header("Location", argument)
            self.end_headers()
        elif name == "status":
            self.send_error(int(argument))
        elif name == "flaky" and len(self.requests) <= 2:
            self.send_error(503)
        elif name == "announced":
            self.answer(b"x", length=10**9)
        elif name == "endless":
            self.answer(b"x" * 3000, length=None)
        elif name == "cut":
            self.answer(png()[:-5], length=len(png()))
        elif name == "trickle":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        elif name == "mute":
            time.sleep(5)
        else:
            self.answer(png("blue" if "blue" in name else "red"), length=None)

    def answer(self, data: bytes, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A site on loopback, as "host:port"."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Site.requests = []
    monkeypatch.setattr(web, "RETRY_SECONDS", 0.01)
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def anywhere(address: str) -> bool:
    """What production code cannot configure: an address check that permits loopback."""
    return True


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:a9fe:a9fe::",
    ],
)  # fmt: skip
def test_addresses_inside_a_network_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


def test_a_private_address_is_not_connected_to(host: str) -> None:
    for name in (host, host.replace("127.0.0.1", "localhost")):
        with pytest.raises(BadImage, match="image_url_private_address"):
            download(f"http://{name}/a.png", [name])
    assert Site.requests == []


def test_the_connection_goes_to_the_address_that_was_checked(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(host.partition(":")[2])
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in ("10.0.0.1", "127.0.0.1")], []]
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *_, **__: answers.pop(0) if name == "site.test" else None)
    connected: list[str] = []
    real = socket.socket

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        connected.append(address[0])
        sock = real(socket.AF_INET)
        sock.settimeout(timeout)
        sock.connect(address)
        return sock

    monkeypatch.setattr(socket, "create_connection", connect)
    url = f"http://site.test:{port}/a.png"
    assert download(url, [f"site.test:{port}"], lambda address: address == "127.0.0.1") == png()
    assert connected == ["127.0.0.1"]


# --- hosts and redirects ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("http://{host}/a.png", []),
        ("http://{host}/a.png", ["127.0.0.1"]),  # that is port 80
        ("http://{host}/a.png", ["example.org"]),
        ("http://user:password@{host}/a.png", ["{host}"]),
        ("http://user@{host}/a.png", ["{host}"]),
        ("ftp://{host}/a.png", ["{host}"]),
        ("http:///a.png", ["{host}"]),
        ("http://{host}:x/a.png", ["{host}"]),
    ],
)
def test_only_allowed_hosts_are_asked(url: str, hosts: list[str], host: str) -> None:
    with pytest.raises(BadImage, match="image_url_not_fetched"):
        download(url.format(host=host), [name.format(host=host) for name in hosts], anywhere)
    assert Site.requests == []


def test_an_image_is_downloaded(host: str) -> None:
    for url in (f"http://{host}/a.png", f"HTTP://{host}/a.png#part", f" http://{host}/ä b.png?x=ü&y=1%20"):
        assert download(url, [host], anywhere) == png()
    assert Site.requests == ["/a.png", "/a.png", "/%C3%A4%20b.png?x=%C3%BC&y=1%20"]


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ("/blue.png", ""),
        ("http://{host}/redirect?/blue.png", ""),
        ("http://example.org/x.png", "image_url_redirected"),
        ("http://127.0.0.1/x.png", "image_url_redirected"),
        ("file:///etc/passwd", "image_url_redirected"),
        ("/redirect?/redirect?/redirect?/redirect?/redirect?/redirect?/a.png", "image_url_redirected"),
    ],
)
def test_redirects_stay_on_allowed_hosts(target: str, outcome: str, host: str) -> None:
    url = f"http://{host}/redirect?{target.format(host=host)}"
    if not outcome:
        assert download(url, [host], anywhere) == png("blue")
        return
    with pytest.raises(BadImage, match=outcome):
        download(url, [host], anywhere)


def test_a_redirect_to_a_private_address_is_refused(host: str) -> None:
    port = host.partition(":")[2]
    with pytest.raises(BadImage, match="image_url_private_address"):
        download(
            f"http://{host}/redirect?http://localhost:{port}/a.png",
            [host, f"localhost:{port}"],
            lambda address: Site.requests == [],
        )
    assert len(Site.requests) == 1


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason", "requests"),
    [
        ("status?404", "image_missing", 1),
        ("status?410", "image_missing", 1),
        ("status?403", "image_url_refused", 1),
        ("status?500", "image_url_unreachable", 3),
        ("status?429", "image_url_unreachable", 3),
        ("announced", "image_too_large", 1),
        ("endless", "image_too_large", 1),
        ("cut", "image_url_unreachable", 3),
    ],
)
def test_every_trouble_has_a_reason(
    path: str, reason: str, requests: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_BYTES", 2000)
    with pytest.raises(BadImage, match=reason):
        download(f"http://{host}/{path}", [host], anywhere)
    assert len(Site.requests) == requests


def test_a_busy_host_is_asked_again(host: str) -> None:
    assert download(f"http://{host}/flaky", [host], anywhere) == png()
    assert len(Site.requests) == 3


@pytest.mark.parametrize("path", ["trickle", "mute"])
def test_a_slow_host_is_given_up(path: str, host: str) -> None:
    start = time.monotonic()
    with pytest.raises(BadImage, match="image_url_unreachable"):
        download(f"http://{host}/{path}", [host], anywhere, timeout=0.3)
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("url", ["http://nowhere.invalid/a.png", "https://{host}/a.png", "http://127.0.0.1:1/a.png"])
def test_a_host_that_cannot_be_reached_is_no_error_of_the_program(url: str, host: str) -> None:
    url = url.format(host=host)
    with pytest.raises(BadImage, match="image_url_unreachable"):
        download(url, None, anywhere, timeout=5)


# --- in a run -----------------------------------------------------------------------------------


def test_an_image_is_kept_in_the_ledger_and_downloaded_once(host: str, tmp_path: Path) -> None:
    ledger, url = Ledger(str(tmp_path / "run")), f"http://{host}/a.png"
    uri, sha256 = ingest_image(url, ledger, [host], anywhere)
    assert sha256 == sha256_of(png())
    assert uri == str(tmp_path / "run" / "images" / sha256)
    assert read_bytes(uri) == png()
    assert ingest_image(url, ledger, [host]) == (uri, sha256)
    assert len(Site.requests) == 1
    with pytest.raises(BadImage, match="image_undecodable"):
        ingest_image(f"http://{host}/endless", ledger, [host], anywhere)
    with pytest.raises(BadImage, match="image_url_not_fetched"):
        ingest_image("http://elsewhere.test/a.png", ledger, [host])


def test_other_images_are_only_checked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    ledger = Ledger(str(tmp_path / "run"))
    assert ingest_image(str(tmp_path / "a.png"), ledger, []) == (str(tmp_path / "a.png"), sha256_of(png()))
    assert not (tmp_path / "run").exists()


def test_no_other_part_of_the_program_opens_a_web_address(host: str) -> None:
    with pytest.raises(BadImage, match="image_url_not_fetched"):
        read_bytes(f"http://{host}/a.png")
    assert Site.requests == []


def test_before_a_run_starts_hosts_are_named_that_are_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"image": "https://photos.test/a.png", "question": "q"}\n')
    config, ledger = load(None, [f"prompts.source={tmp_path / 'p.jsonl'}", "rounds=1"]), Ledger(str(tmp_path / "run"))
    with pytest.raises(UserError, match=r"image_url_not_fetched 1 of 1.*list their hosts in prompts\.allow_hosts"):
        check_images(config, ledger)
    check_images(load(None, [f"prompts.source={tmp_path / 'p.jsonl'}", "prompts.allow_hosts=[photos.test]"]), ledger)
