"""`make photos`: archives are fetched once, by the package managers' own commands, and read safely."""

import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.photographs.archives import Source, fetch, sources
from jobs.photographs.layout import Photos, photos
from jobs.photographs.members import members, resources
from vlrm_ray.errors import UserError
from vlrm_ray.ids import sha256_of

ROOT = Path(__file__).parents[2]
CONTENT = b"content of the archive"
SOURCE = Source("thing", "npm", "thing", "1.2.3", "thing-1.2.3.tgz", sha256_of(CONTENT), 1, "a thing", "MIT")


@pytest.fixture
def cache(tmp_path: Path) -> Photos:
    return Photos(tmp_path / "photos")


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "npm") -> None:
    """Put a command first on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_every_archive_is_pinned_and_names_its_licence() -> None:
    for source in sources().values():
        assert len(source.sha256) == 64
        assert source.licence
        assert source.version in source.file


def test_no_file_names_a_host() -> None:
    for path in (*(ROOT / "jobs" / "photographs").iterdir(), ROOT / "jobs" / "photos.py"):
        if path.is_file():
            assert "://" not in path.read_text(), path


def test_an_archive_is_fetched_once(cache: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    command(tmp_path / "bin", monkeypatch, f'echo "$@" >> {calls}; printf "{CONTENT.decode()}" > "$4/{SOURCE.file}"')
    first = fetch(SOURCE, cache)
    assert fetch(SOURCE, cache) == first
    assert first.read_bytes() == CONTENT
    (call,) = calls.read_text().splitlines()
    assert call.endswith("thing@1.2.3")
    assert [path.name for path in cache.archives.iterdir()] == [SOURCE.file]


def test_an_archive_put_there_by_hand_needs_no_command(cache: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    cache.archives.mkdir(parents=True)
    (cache.archives / SOURCE.file).write_bytes(CONTENT)
    assert fetch(SOURCE, cache).read_bytes() == CONTENT


def test_a_missing_command_is_named_with_what_to_do(cache: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        UserError, match=r"there is no command npm; install Node\.js .* or put the file .* at "
    ) as error:
        fetch(SOURCE, cache)
    assert "\n" not in str(error.value)
    assert str(cache.archives / SOURCE.file) in str(error.value)


def test_a_failing_registry_is_quoted_in_one_line(
    cache: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path / "bin", monkeypatch, 'echo "notice"; echo "npm error 404 no such package" >&2; exit 1')
    with pytest.raises(UserError, match=r"thing 1\.2\.3 failed \(npm error 404 no such package\)") as error:
        fetch(SOURCE, cache)
    assert "\n" not in str(error.value)


def test_an_archive_with_another_content_is_refused_and_not_kept(
    cache: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path / "bin", monkeypatch, f'printf "something else" > "$4/{SOURCE.file}"')
    with pytest.raises(
        UserError, match=rf"has the sha256 {sha256_of(b'something else')[:16]}.*expected {SOURCE.sha256[:16]}"
    ):
        fetch(SOURCE, cache)
    assert not list(cache.archives.iterdir())


def test_another_file_than_expected_is_named(cache: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path / "bin", monkeypatch, 'touch "$4/thing-1.2.4.tgz"')
    with pytest.raises(UserError, match=r"gave thing-1\.2\.4\.tgz, expected thing-1\.2\.3\.tgz"):
        fetch(SOURCE, cache)


@pytest.mark.parametrize(
    ("manager", "words"),
    [
        ("npm", ["npm", "pack", "thing@1.2.3"]),
        ("pip", ["-m", "pip", "download", "--no-deps", "thing==1.2.3"]),
        ("apt", ["apt-get", "download", "thing=1.2.3"]),
    ],
)
def test_the_package_managers_own_commands_are_used(manager: str, words: list[str]) -> None:
    command = replace(SOURCE, manager=manager).command(Path("/there"))
    assert [word for word in command if word in words] == words


# --- reading ------------------------------------------------------------------------------------


def tar(path: Path, names: list[str], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return path


def wheel(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def deb(path: Path, names: list[str]) -> Path:
    data = tar(path.with_suffix(".tar"), names, "w:xz").read_bytes()
    parts = [(b"debian-binary", b"2.0\n"), (b"control.tar.xz", b"odd"), (b"data.tar.xz", data)]
    content = b"!<arch>\n"
    for name, part in parts:
        content += (
            name.ljust(16)
            + b"0".ljust(32)
            + str(len(part)).encode().ljust(10)
            + b"`\n"
            + part
            + b"\n" * (len(part) % 2)
        )
    path.write_bytes(content)
    return path


ARCHIVES = {".tgz": tar, ".whl": wheel, ".deb": deb}


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_wanted_members_are_read(tmp_path: Path, suffix: str) -> None:
    archive = ARCHIVES[suffix](tmp_path / f"a{suffix}", ["./a/one", "a/two", "b"])
    read = list(members(archive, lambda name: name != "a/two"))
    assert [name for name, _ in read] == ["a/one", "b"]
    assert [content for _, content in read] == [b"./a/one", b"b"]


@pytest.mark.parametrize("suffix", ARCHIVES)
@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/outside"])
def test_a_member_that_leads_out_of_the_archive_is_refused(tmp_path: Path, suffix: str, name: str) -> None:
    archive = ARCHIVES[suffix](tmp_path / f"a{suffix}", [name])
    with pytest.raises(UserError, match=r"is refused: its member .* leads out of the archive"):
        list(members(archive, lambda _: True))


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    archive = ARCHIVES[suffix](tmp_path / f"a{suffix}", ["a" * 99] * 40)
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(UserError, match="is damaged") as error:
        list(members(archive, lambda _: True))
    assert "\n" not in str(error.value)


def rcc(files: dict[str, bytes]) -> bytes:
    """A Qt resource file (version 1) with files in one folder `f`."""
    names, data = b"", b""

    def name(text: str) -> int:
        nonlocal names
        start = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return start

    tree = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHII", name("f"), 2, len(files), 2)
    for text, content in files.items():
        tree += struct.pack(">IHHHI", name(text), 0, 0, 0, len(data))
        data += struct.pack(">I", len(content)) + content
    head = 20
    return b"qres" + struct.pack(">4I", 1, head, head + len(tree), head + len(tree) + len(data)) + tree + data + names


def test_files_of_a_qt_resource_file_are_read() -> None:
    content = rcc({"a.webp": b"first", "b.webp": b"second"})
    assert dict(resources(content, lambda name: name == "f/b.webp")) == {"f/b.webp": b"second"}
    with pytest.raises(UserError, match="damaged"):
        list(resources(b"other", lambda _: True))


# --- the cache ----------------------------------------------------------------------------------


def test_the_cache_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLRM_PHOTOS", raising=False)
    monkeypatch.setenv("VLRM_CACHE", str(tmp_path / "node"))
    assert photos().root == tmp_path / "node" / "photos"
    monkeypatch.setenv("VLRM_PHOTOS", str(tmp_path / "mine"))
    assert photos().root == tmp_path / "mine"
    assert photos(str(tmp_path / "other")).root == tmp_path / "other"


def test_a_part_is_there_only_when_it_is_complete(cache: Photos) -> None:
    with pytest.raises(ValueError), cache.building(cache.natural, "first") as path:
        path.mkdir()
        raise ValueError
    assert not cache.is_built(cache.natural)
    with cache.building(cache.natural, "first") as path:
        path.mkdir()
        (path / "photo.png").touch()
    assert cache.is_built(cache.natural, "first")
    assert not cache.is_built(cache.natural, "second")
    with cache.building(cache.natural, "second") as path:
        path.mkdir()
    assert cache.is_built(cache.natural, "second")
    assert not list(cache.natural.iterdir())


def test_one_process_builds_at_a_time(cache: Photos) -> None:
    with cache.locked(), pytest.raises(UserError, match="another process is building"), Photos(cache.root).locked():
        pass


def test_an_empty_cache_is_reported_as_such(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "jobs/photos.py", "--check", "--small", "--folder", str(tmp_path / "photos")],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "models/small-detector.onnx: missing" in done.stdout
    assert "run: python jobs/photos.py" in done.stdout.splitlines()[-1]
    assert not (tmp_path / "photos").exists()


def test_a_part_of_another_version_is_told_at_the_end(cache: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    from jobs.photos import Part, recipe_of, report

    part = Part(cache.dataset, (), (), lambda archives, path: path.mkdir())
    for recipe, state in {
        "older": "complete, but 1 part is of another version; `make photos` builds it again",
        recipe_of(part): "complete",
    }.items():
        with cache.building(part.path, recipe) as path:
            part.build({}, path)
        assert report(cache, [part]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"{cache.root}: {state}"
