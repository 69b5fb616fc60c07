"""File systems of runs and caches: opened by URI with bounded waits, and their errors in one line.

pyarrow's clients of object stores retry for minutes by default. `open_filesystem` shortens that, so that a store that cannot
be connected to is reported within about a minute. Who wants to wait longer repeats the work (`vlrm_ray.store.patience`).
`storage_errors` turns the exceptions of pyarrow and of the operating system into `StorageError`.
"""

import datetime
import errno
import hashlib
import io
import os
import posixpath
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import IO, Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as pafs

from vlrm_ray.errors import StorageError, UserError, first_line

OBJECT_STORES = ("s3", "gs", "gcs")
"""Schemes of storages without folders: an object's place is a bucket and a key."""
S3_CONNECT_SECONDS = 5
"""Timeout of S3 for connecting."""
S3_READ_SECONDS = 20
"""Silence after which S3 is asked again: a working store begins to answer a small request within seconds, and a dead
connection is to be noticed."""
S3_WRITE_SECONDS = 300
"""The same for uploads and copies: S3 is silent while it copies an object of some GB or puts together an upload's pieces."""
S3_ATTEMPTS = 6
"""How often a failed request to S3 is made, with growing pauses; pyarrow's 3 attempts last 0.2 to 3 s, less than S3 throttles."""
_PASSING = re.compile(
    r"AWS Error (?:SLOW_DOWN|SERVICE_UNAVAILABLE|NETWORK_CONNECTION|INTERNAL_FAILURE|THROTTLING|REQUEST_TIMEOUT)|"
    r"HTTP (?:status|response code):? ?(?:408|429|5(?!01|05)\d\d)|timed? ?out|temporarily unavailable|CURL error|"
    r"::Status\((?:UNAVAILABLE|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|INTERNAL|ABORTED)\b",
    re.IGNORECASE,
)
"""Messages of storages that may answer later."""
_PASSING_ERRNOS = {
    errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOTCONN,
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EREMOTEIO,
}  # fmt: skip
"""Errors of the operating system that say that a mounted file system cannot be reached."""
_MOUNTS = "/proc/self/mounts"
_MOUNTED = re.compile(r"nfs|cifs|smb|ceph|lustre|gpfs|beegfs|fuse|9p|afs|wekafs|panfs|pvfs|virtiofs")
"""Where Linux lists the mounted file systems, and beginnings of the types of those that other machines hold."""
GCS_RETRY_SECONDS = 10
"""How long Google Cloud Storage retries a failed request."""
GCS_WRITE_RETRY_SECONDS = 60
"""The same for uploads and copies."""
PIECE_BYTES = 8 << 20
"""Bytes of a file that are in memory while it is copied."""
PROBE_SECONDS = 60
"""Timeout for opening a remote storage."""
EXPIRED = re.compile(
    r"ExpiredToken|TokenRefreshRequired|InvalidToken|InvalidAccessKeyId|SignatureDoesNotMatch|RequestTimeTooSkewed"
)
"""Errors of S3 that say that the credentials do not hold any more, or not yet; whether there is such a file is not said."""
_REMEDIES = (
    (r"Unrecognized filesystem", "use a local folder, or a URI with s3://, gs:// or hdfs://"),
    (r"Cannot parse URI|local URI|Missing bucket|query parameter", "correct the URI; in it a space is written as %20"),
    (r"libjvm|libhdfs", "install a Java runtime and Hadoop's libhdfs, or use another kind of storage"),
    (r"NETWORK_CONNECTION|TIMEOUT|UNAVAILABLE|timed out|Name or service not known", "check the network, the endpoint and the credentials"),
    (r"NO_SUCH_BUCKET|ucket '.*' (not found|does not exist)", "create the bucket, or give another folder"),
    (EXPIRED.pattern, "renew the credentials on every node, then run the same command again"),
    (r"ACCESS_DENIED|ACCESS_KEY|SIGNATURE|PERMISSION_DENIED|UNAUTHENTICATED|HTTP status(?: code)? 403|OAuth|DefaultAzure",
     "check the credentials (for S3: AWS_PROFILE or AWS_ACCESS_KEY_ID) and the permissions of the bucket"),
)  # fmt: skip
_URI_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_NEEDS_PROBE = re.compile(r"s3://(?!.*(region|endpoint_override)=)|abfss?://")
_PROBE = """
import os, sys
import pyarrow.fs
try:
    filesystem, path = pyarrow.fs.FileSystem.from_uri(os.environ["VLRM_PROBE_URI"])
    filesystem.type_name == "abfs" and filesystem.get_file_info(path)
except Exception as error:
    sys.exit(f"what(): {error}")
"""
"""Program that opens a URI, and reads from Azure."""


def absolute(uri: str) -> str:
    """A URI unchanged, or the absolute path of a local folder.

    Raises:
        StorageError: the text is neither, such as "s3:/bucket" with one slash.
    """
    if "://" in uri:
        return uri
    if scheme := re.match(r"(?i)(s3|gs|gcs|hdfs|abfss?|https?|ftp|file):", uri):
        raise StorageError(f"cannot open {uri}: a URI begins with {scheme[0]}//; add the slashes")
    return os.path.abspath(uri)


def joined(uri: str, *names: str) -> str:
    """URI or path of a file below a folder; the options of a URI (`?region=...`) stay at its end."""
    folder, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return posixpath.join(folder, *filter(None, names)) + mark + options


def beside(uri: str, name: str) -> str:
    """URI of a file that is given by a path relative to the folder of another one."""
    return _with_key(uri, lambda key: posixpath.join(posixpath.dirname(key), name))


def below(uri: str, name: str) -> str:
    """URI of a file that is given by its path relative to a folder; `joined` takes names that need no quoting."""
    return _with_key(uri, lambda key: posixpath.join(key, name))


def _with_key(uri: str, change: Callable[[str], str]) -> str:
    location, mark, options = uri.replace("#", "%23").partition("?")
    scheme, _, place = location.partition("://")
    bucket, _, key = place.partition("/")
    return f"{scheme}://{bucket}{quote(posixpath.normpath('/' + change(_decoded(key))))}{mark}{options}"


def file_uri_path(uri: str) -> str:
    """Local path of a file: URI: percent-decoded if there is such a file, else as it is written."""
    written = re.sub(r"^//(localhost(?=/))?", "", uri[len("file:") :], flags=re.IGNORECASE)
    decoded = unquote(written, errors="surrogateescape")
    return written if not os.path.isfile(decoded) and os.path.isfile(written) else decoded


def is_remote(uri: str) -> bool:
    """Whether a URI names a folder or file that has no local path, such as s3://bucket/file."""
    return "://" in uri and not uri.lower().startswith("file:")


def redacted(text: str) -> str:
    """A text without the passwords that its URIs contain ("s3://key:secret@bucket").

    What Azure's URIs have before the @ is no password, but the container ("abfs://container@account").
    """
    return re.sub(r"(?i)(?<!abfs)(?<!abfss)(://)[^/@\s]*@|(?<=://)[^/@\s:]*:[^/@\s]*@", r"\1***@", text)


def without_passwords(value: Any) -> Any:
    """A JSON value in whose texts the passwords of URIs are left out: see `redacted`."""
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_passwords(item) for item in value]
    return redacted(value) if isinstance(value, str) else value


def open_filesystem(uri: str, *, writes: bool = False) -> tuple[pafs.FileSystem, str]:
    """The file system of a URI or local path, and the path on it.

    The clients of a bucket are opened once in each process. A path with characters that no URI may hold (a space, #) is
    taken as it is written.

    Args:
        uri: the URI or path.
        writes: open it for uploads and copies, which may take a storage minutes to answer.

    Raises:
        StorageError: the scheme is unknown, its libraries are missing, or the storage cannot be reached.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), uri
    with storage_errors("open", uri):
        location, mark, options = uri.replace("#", "%23").partition("?")
        scheme, _, place = location.partition("://")
        bucket, _, key = place.partition("/")
        if scheme in OBJECT_STORES and bucket:
            filesystem, root = _open_bucket(f"{scheme}://{bucket}{mark}{options}", writes)
            return filesystem, posixpath.join(root, _decoded(key)).rstrip("/")
        return _from_uri(location, mark + options)


@cache
def _open_bucket(uri: str, writes: bool) -> tuple[pafs.FileSystem, str]:
    filesystem, root = pafs.FileSystem.from_uri(uri)
    return _tuned(filesystem, writes), root


def _from_uri(location: str, options: str) -> tuple[pafs.FileSystem, str]:
    try:
        filesystem, root = pafs.FileSystem.from_uri(location + options)
    except pa.ArrowInvalid:
        filesystem, root = pafs.FileSystem.from_uri(quote(location.replace("%23", "#"), safe=":/@") + options)
    return filesystem, root


def _decoded(key: str) -> str:
    """Key of an object from its place in a URI, in which # is written %23."""
    return unquote(key) if _URI_PATH.fullmatch(key) else key.replace("%23", "#")


def _tuned(filesystem: pafs.FileSystem, writes: bool) -> pafs.FileSystem:
    """The same file system with settings that a URI cannot express: its waits, and one request for a small object."""
    if filesystem.type_name == "s3":
        _, (options,) = filesystem.__reduce__()
        silence = S3_WRITE_SECONDS if writes else S3_READ_SECONDS
        timeouts = {"connect_timeout": S3_CONNECT_SECONDS, "request_timeout": silence}
        patience = {"retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS)}
        return pafs.S3FileSystem(**options | timeouts | patience | {"allow_delayed_open": True})
    if filesystem.type_name == "gcs":
        _, (options,) = filesystem.__reduce__()
        seconds = GCS_WRITE_RETRY_SECONDS if writes else GCS_RETRY_SECONDS
        limit = options["retry_time_limit"] or datetime.timedelta(seconds=seconds)
        return pafs.GcsFileSystem(**options | {"retry_time_limit": limit})
    return filesystem


@cache
def check_remote(uri: str) -> None:
    """Open a URI in another process first, if opening it could hang or end the process.

    pyarrow asks for the region of an S3 bucket for up to two minutes, and Azure's library ends the process if it finds no
    credentials.

    Raises:
        StorageError: the storage cannot be opened, or not within `PROBE_SECONDS`.
    """
    if not _NEEDS_PROBE.match(uri):
        return
    with storage_errors("open", uri):
        try:
            subprocess.run(
                [sys.executable, "-c", _PROBE],
                env=os.environ | {"VLRM_PROBE_URI": uri},
                check=True,
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"timed out after {PROBE_SECONDS} s") from None
        except subprocess.CalledProcessError as error:
            raise OSError(error.stderr.rpartition("what():")[2].strip() or f"exit status {error.returncode}") from None


def read_file(uri: str) -> bytes | None:
    """Content of a file by URI or path; None if it does not exist. Raises StorageError."""
    filesystem, path = open_filesystem(uri)
    with storage_errors("read", uri), suppress(FileNotFoundError), filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())
    return None


def write_file(uri: str, data: bytes) -> None:
    """Write a file by URI or path, which appears as a whole. Raises StorageError."""
    filesystem, path = open_filesystem(uri, writes=True)
    with storage_errors("write", uri):
        write_atomically(filesystem, path, io.BytesIO(data))


def copy_hashed(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy an open file to another one, piece by piece; returns the sha256 of its content."""
    sha256 = hashlib.sha256()
    while piece := source.read(PIECE_BYTES):
        sha256.update(piece)
        target.write(piece)
    return sha256.hexdigest()


def write_atomically(filesystem: pafs.FileSystem, path: str, source: IO[bytes]) -> str:
    """Write a file that appears as a whole, with its folders; returns its sha256.

    A local file gets its name once it is on the disk. An object of an object store appears at the end of its upload; one whose
    upload breaks off (Ctrl-C, SIGTERM, an error of the source) is deleted.
    """
    if not isinstance(filesystem, pafs.LocalFileSystem):
        if filesystem.type_name not in ("s3", "gcs", "abfs"):
            filesystem.create_dir(posixpath.dirname(path), recursive=True)
        stream = filesystem.open_output_stream(path)
        try:
            sha256 = copy_hashed(source, stream)
        except BaseException:
            with suppress(Exception):
                stream.close()  # makes an object of the pieces that were written, if the storage can be reached
                filesystem.delete_file(path)
            raise
        stream.close()
        return sha256
    os.makedirs(posixpath.dirname(path), exist_ok=True)
    partial = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(partial, "wb") as file:
            sha256 = copy_hashed(source, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise
    return sha256


@contextmanager
def storage_errors(action: str, uri: str) -> Iterator[None]:
    """Context manager: exceptions of the storage become a `StorageError` that names the file and the remedy.

    Args:
        action: what is done, such as "write".
        uri: URI or absolute path of the file or folder.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # each kind of storage raises its own types
        raise StorageError(f"cannot {action} {redacted(uri)}: {_reason(error, uri)}; {_remedy(error)}") from error


def may_pass(error: BaseException, path: str = "") -> bool:
    """Whether a storage failed in a way that says nothing of the file: it is overloaded, or cannot be reached.

    Args:
        error: what the storage raised, or a `StorageError` that was made of it.
        path: path or URI of the file. EIO may pass on a file system of another machine only: a local disk is broken.
    """
    if isinstance(error, StorageError) and error.__cause__ is not None:
        return may_pass(error.__cause__, path)
    if isinstance(error, UserError):
        return False
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return is_remote(path) or _is_mounted(file_uri_path(path) if path[:5].lower() == "file:" else path)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING_ERRNOS or bool(_PASSING.search(error.strerror or ""))
    return bool(_PASSING.search(str(error)))


def _is_mounted(path: str) -> bool:
    """Whether a local path lies on a file system that another machine holds."""
    kind, longest = "", ""
    with suppress(OSError), open(_MOUNTS) as mounts:
        for line in mounts:
            _, place, type_, *_ = line.split(" ")
            place = place.replace("\\040", " ")
            if os.path.commonpath([place, os.path.realpath(path)]) == place and len(place) >= len(longest):
                kind, longest = type_, place
    return _MOUNTED.match(kind) is not None


def _reason(error: Exception, uri: str) -> str:
    number = getattr(error, "errno", None)
    if number and "://" not in uri:
        place = uri
        while not os.path.lexists(place):
            place = os.path.dirname(place)
        if os.path.islink(place) and not os.path.exists(place):
            return f"{place} is a broken link"
        if number in (errno.ENOTDIR, errno.EEXIST) and not os.path.isdir(place):
            return f"{place} is a file, not a folder"
        return f"{os.strerror(number)} (in {place if os.path.isdir(place) else os.path.dirname(place)})"
    return redacted(re.sub(r"^.*?(?=AWS Error)", "", first_line(error, limit=1000)))[:250]


def _remedy(error: Exception) -> str:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "free space, then run the same command again to resume"
    text = str(error)
    return next(
        (remedy for pattern, remedy in _REMEDIES if re.search(pattern, text)),
        "give another folder, or repair this one",
    )
