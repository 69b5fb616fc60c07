"""Downloads images by http(s) from hosts that the user allows, and from no address inside the user's network.

The name of a host is resolved once, its addresses are checked, and the connection goes to a checked address: a name
that resolves to another address a moment later gains nothing. Proxies are not used, because behind a proxy no address
can be checked. Redirects are followed to allowed hosts only.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from urllib.parse import quote, urljoin, urlsplit

from vlrm_ray.errors import BadImage
from vlrm_ray.ids import digest, sha256_of
from vlrm_ray.store.decoding import decode
from vlrm_ray.store.images import MAX_BYTES, is_web, validate_image
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_files import image_file, store_image_bytes

TIMEOUT_SECONDS = 30
"""Limit of one attempt to download an image, from the look-up of the host to the last byte."""
ATTEMPTS = 3
"""How often a host that cannot be reached, is overloaded or breaks off is asked."""
RETRY_SECONDS = 1.0
"""Wait before the second attempt; before each further one it is doubled."""
MAX_REDIRECTS = 5
"""Longest accepted chain of redirects."""
_GONE, _REDIRECTS, _BUSY = (404, 410), (301, 302, 303, 307, 308), (408, 425, 429, 500, 502, 503, 504)
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PIECE_BYTES = 1 << 18
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"


class _Unreachable(Exception):
    """An attempt that may succeed when it is repeated."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def ingest_image(
    uri: str, ledger: Ledger, hosts: Collection[str], permitted: Callable[[str], bool] = is_public
) -> tuple[str, str]:
    """Check that an image can be used, and give the URI by which all stages open it.

    An image on the web is downloaded once and kept in `images/` of the ledger, so that all stages and rounds see the
    same one.

    Args:
        uri: URI or path of the image.
        ledger: where images of the web are kept.
        hosts: hosts from which images may be downloaded.
        permitted: whether an IP address may be connected to.

    Returns:
        The image's URI and the sha256 of its file.

    Raises:
        BadImage: the image cannot be used.
    """
    if not is_web(uri):
        return uri, validate_image(uri)
    name = f"images/web/{digest(uri)}"
    known = (ledger.get(name) or b"").decode()
    if known and not ledger.missing([image_file(known)]):
        return ledger.location(image_file(known)), known
    data = download(uri, hosts, permitted)
    decode(data)
    sha256 = sha256_of(data)
    location = store_image_bytes(data, ledger)
    ledger.put(name, sha256.encode())
    return location, sha256


def download(
    url: str,
    hosts: Collection[str] | None,
    permitted: Callable[[str], bool] = is_public,
    timeout: float = TIMEOUT_SECONDS,
) -> bytes:
    """Download a file.

    Args:
        url: http or https address.
        hosts: allowed hosts; one with another port than that of the scheme is written "host:port". None allows all.
        permitted: whether an IP address may be connected to.
        timeout: limit of each attempt in seconds.

    Raises:
        BadImage: with the reason image_url_not_fetched (the host is not allowed), image_url_redirected (to a host that is
            not allowed, or too often), image_url_private_address, image_url_unreachable, image_url_refused,
            image_missing or image_too_large.
    """
    allowed = None if hosts is None else {host.strip().lower().rstrip(".") for host in hosts}
    wait = RETRY_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _follow(url, allowed, permitted, time.monotonic() + timeout)
        except _Unreachable as error:
            if attempt == ATTEMPTS:
                raise BadImage("image_url_unreachable") from error
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def _follow(url: str, allowed: set[str] | None, permitted: Callable[[str], bool], deadline: float) -> bytes:
    """Download with redirects."""
    for redirects in range(MAX_REDIRECTS + 1):
        try:
            scheme, host, port, target = _parts(url)
        except ValueError as error:
            raise BadImage("image_url_redirected" if redirects else "image_url_not_fetched") from error
        name = host if port == _PORTS[scheme] else f"{host}:{port}"
        if allowed is not None and name not in allowed:
            raise BadImage("image_url_redirected" if redirects else "image_url_not_fetched")
        answer = _get(scheme, host, port, target, permitted, deadline)
        if isinstance(answer, bytes):
            return answer
        url = urljoin(url, answer)
    raise BadImage("image_url_redirected")


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and request target of a URL; raises ValueError if it is none, or has a user name."""
    parts = urlsplit(url.strip())
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError(url)
    host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    target = quote(parts.path or "/", safe=_URL_CHARACTERS) + (
        f"?{quote(parts.query, safe=_URL_CHARACTERS)}" if parts.query else ""
    )
    return scheme, host.rstrip("."), parts.port or _PORTS[scheme], target


def _get(
    scheme: str, host: str, port: int, target: str, permitted: Callable[[str], bool], deadline: float
) -> bytes | str:
    """One request; returns the content, or the address of a redirect."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_, address in found]
    except (OSError, UnicodeError) as error:
        raise _Unreachable(str(error)) from error
    usable = [address for address in addresses if permitted(address)]
    if not usable:
        raise BadImage("image_url_private_address")
    connection = http.client.HTTPConnection(host, port)
    try:
        raw = socket.create_connection((usable[0], port), timeout=_left(deadline))
        watchdog = threading.Timer(_left(deadline), _shut, (raw,))  # ends a transfer that trickles
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.sock = (
                ssl.create_default_context().wrap_socket(raw, server_hostname=host) if scheme == "https" else raw
            )
            headers = {
                "User-Agent": "vlrm-ray",
                "Accept": "image/*",
                "Accept-Encoding": "identity",
                "Connection": "close",
            }
            connection.request("GET", target, headers=headers)
            return _answer(connection.getresponse(), deadline)
        finally:
            watchdog.cancel()
            raw.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Unreachable(str(error)) from error
    finally:
        connection.close()


def _answer(response: http.client.HTTPResponse, deadline: float) -> bytes | str:
    location = response.getheader("Location")
    if response.status in _REDIRECTS and location:
        return location
    if response.status in _GONE:
        raise BadImage("image_missing")
    if response.status in _BUSY:
        raise _Unreachable(f"status {response.status}")
    if response.status != 200:
        raise BadImage("image_url_refused")
    announced = response.length
    if announced is not None and announced > MAX_BYTES:
        raise BadImage("image_too_large")
    data = bytearray()
    while piece := response.read(_PIECE_BYTES):
        data += piece
        if len(data) > MAX_BYTES:
            raise BadImage("image_too_large")
    _left(deadline)
    if announced is not None and len(data) != announced:
        raise _Unreachable("the transfer broke off")
    return bytes(data)


def _left(deadline: float) -> float:
    """Seconds until the deadline."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise _Unreachable("timed out")
    return seconds


def _shut(raw: socket.socket) -> None:
    with suppress(OSError):
        raw.shutdown(socket.SHUT_RDWR)
