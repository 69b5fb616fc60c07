"""Examines everything that a run needs, without starting it: the machine, the inputs, the storage and the cluster.

Each finding is a `Row` with a state and a remedy. A run stops at the first problem that its preflight meets; this goes on and
lists all of them. The checks of inputs, resources and authentication are those of a run (preflight.py, cluster.py);
machine.py has those that only a diagnosis needs.
"""

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlrm_ray.config import Config, Experts, is_checkpoint
from vlrm_ray.errors import BadImage, UserError, user_message
from vlrm_ray.experts.named_models import checkpoint_name, detector_path, ocr_name, reader_paths
from vlrm_ray.pipeline import placement, preflight
from vlrm_ray.pipeline.cluster import address_of, connected
from vlrm_ray.pipeline.cluster_probe import AUTH_MODE, prepare_to_join
from vlrm_ray.pipeline.preflight import Check
from vlrm_ray.store.filesystem import joined, redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import is_hub_name
from vlrm_ray.store.patience import impatient

State = Literal["ok", "warn", "fail"]
STATES: tuple[State, ...] = ("ok", "warn", "fail")
"""From good to bad; the position of the worst one is the exit status of `jobs/doctor.py`."""
SLOW_STORAGE_SECONDS = 5.0
"""A storage that takes longer than this for a small file slows each part of a run down."""
SLOW_START_SHARE = 0.5
"""Share of `cluster.start_timeout` from which on the start of an engine is too slow for comfort."""


@dataclass(frozen=True)
class Row:
    """What one check found.

    Attributes:
        check: what was looked at.
        state: `ok`; `warn` for what a run survives; `fail` for what ends it.
        finding: what was found.
        remedy: what to do about it; "" if all is well.
    """

    check: str
    state: State
    finding: str
    remedy: str = ""


Probe = Callable[[Config], Row]
"""A check that needs a connection to Ray."""


def worst(rows: Iterable[Row]) -> State:
    """The worst state of some rows."""
    return max((row.state for row in rows), key=STATES.index, default="ok")


def failure(check: str, error: Exception) -> Row:
    """A row for an exception. The messages of user errors end with the remedy, after a semicolon."""
    finding, _, remedy = (user_message(error) or f"{type(error).__name__}: {error}").partition("; ")
    return Row(check, "fail", finding, remedy or "see the message")


def attempted(check: str, action: Check, good: str) -> list[Row]:
    """The rows of a check that may return remarks, or raise an error.

    Args:
        check: what is looked at.
        action: the check.
        good: what to say if there are no remarks.
    """
    try:
        remarks = action() or ()
    except (UserError, BadImage, OSError, ValueError) as error:
        return [failure(check, error)]
    rows = []
    for remark in remarks:
        finding, _, remedy = remark.partition("; ")
        rows.append(Row(check, "warn", finding, remedy))
    return rows or [Row(check, "ok", good)]


def input_rows(config: Config) -> Iterator[Row]:
    """The checks of a run's inputs: models, experts with calibrations, prompts, cache, and the first usable image."""
    checks = preflight.input_checks(config)
    if not config.offline:
        del checks["models of the hub"]  # each of them is told below
    try:
        absent = list(_absent_experts(config.experts))
    except UserError:  # the check of the experts says why
        absent = []
    if absent:
        del checks["experts"]  # it would refuse models that a run fetches first
        for key, name, path in absent:
            if config.offline:
                yield Row(
                    "experts", "fail", f"{key}: {name} is not on this node", f"put it at {path}, or set offline=false"
                )
            else:
                yield Row("experts", "warn", f"{key}: {name} is not on this node", "a run fetches it when it starts")
    good = {
        "rounds": "their number is given, or decided by what is measured",
        "folder": f"{redacted(config.folder)} is kept when the run has ended",
        "policy.model": f"{redacted(config.policy.model)}: files and headers are complete",
        "critic.model": f"{redacted(config.critic.model)}: files and headers are complete",
        "experts": "models and calibrations are there and belong together",
        "prompts": f"{redacted(config.prompts.source)} can be read",
        "resources": "the plan fits on this machine",
    }
    detector = config.experts.detector.model
    on_hub = {"policy.model": config.policy.model, "critic.model": config.critic.model, "experts": detector}
    for name, check in checks.items():
        found = attempted(name, check, good.get(name, "usable"))
        model = on_hub.get(name, "")
        if is_hub_name(model) and not is_checkpoint(model) and worst(found) != "fail":
            finding, remedy = (
                f"{model} is a hub name: fetched when engines start, not checked",
                "give a folder to have it checked",
            )
            found = [*(row for row in found if row.state != "ok"), Row(name, "warn", finding, remedy)]
        yield from found

    def first_image() -> None:
        preflight.check_images(config, Ledger(joined(config.folder, config.name)))

    if not address_of(config):
        yield from attempted("images", first_image, "at least one image can be opened")


def _absent_experts(experts: Experts) -> Iterator[tuple[str, str, str]]:
    """Models that are known by name and not on this node: key, name, and path where they belong."""
    detector = experts.detector
    if (name := checkpoint_name(detector.model)) and not Path(path := detector_path(detector)).exists():
        yield "experts.detector.model", name, path
    if experts.reader.enabled:
        for key, path in zip(("detection_model", "recognition_model"), reader_paths(experts.reader), strict=True):
            if (name := ocr_name(getattr(experts.reader, key), "PaddleOCR's default model")) and not Path(
                path
            ).exists():
                yield f"experts.reader.{key}", name, path


def storage_rows(config: Config) -> Iterator[Row]:
    """Whether the folder of the runs can be written and read, and how long that takes for a small file."""
    start, where = time.monotonic(), redacted(config.folder)

    @impatient()
    def write_and_read() -> None:
        ledger = Ledger(config.folder)
        ledger.check_writable()
        ledger.get("no-such-file")

    rows = attempted("storage", write_and_read, "")
    seconds = time.monotonic() - start
    if rows[0].state != "ok":
        yield from rows
    elif seconds > SLOW_STORAGE_SECONDS:
        text = f"{where} took {seconds:.0f} s to write, read and delete a small file"
        yield Row("storage", "warn", text, "use a bucket in the region of the cluster, and name the region in the URI")
    else:
        yield Row("storage", "ok", f"{where} can be written and read ({seconds:.1f} s)")


def cluster_rows(config: Config, probe: Probe | None = None) -> Iterator[Row]:
    """Whether the cluster can be joined, wants a token, and has the labels and resources that the run needs.

    Args:
        config: configuration of the run.
        probe: a further check, which needs a connection; a Ray is started for it if the configuration names no cluster.
    """
    address = address_of(config)
    if address:
        try:
            target = prepare_to_join(address, "cluster.address" if config.cluster.address else "RAY_ADDRESS")
        except UserError as error:
            yield failure("cluster", error)
            return
        yield Row("cluster", "ok", f"{target} answers")
        yield _authentication(target)
    else:
        yield Row("cluster", "ok", "none is named; the run starts Ray on this machine")
    if address or probe:
        yield from _connected_rows(config, probe)


def _authentication(target: str) -> Row:
    """How the cluster is protected, and whether the token's file is private. `prepare_to_join` has set the mode."""
    if os.environ.get(AUTH_MODE, "").lower() != "token":
        alone = target.startswith(("127.", "localhost", "[::1]"))
        return Row(
            "authentication",
            "ok" if alone else "warn",
            f"{target} takes commands without a token" + (", on this machine only" if alone else ""),
            "" if alone else "start the cluster with RAY_AUTH_MODE=token; see docs/cluster.md",
        )
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_TOKEN" not in os.environ and file.is_file() and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Row("authentication", "warn", f"others on this machine can read {file}", f"chmod 600 {file}")
    return Row("authentication", "ok", "the cluster accepts the token of this machine")


def _connected_rows(config: Config, probe: Probe | None) -> Iterator[Row]:
    """What is seen from inside the cluster."""
    lines: list[str] = []
    try:
        with connected(config, lines.append):
            nodes = placement.nodes_of_cluster()
            missing = placement.unlabelled(config, nodes, "the cluster")
            for line in missing:
                yield Row("labels", "warn", line, f"{placement.REMEDY}; or let the autoscaler start such nodes")
            if config.cluster.labels and not missing:
                yield Row("labels", "ok", f"nodes by label: {placement.labels_text(nodes)}")
            sizes = Counter(f"{node.cpus:g} CPU, {node.gpus:g} GPU" for node in nodes)
            text = "; ".join(f"{count} x {size}" for size, count in sizes.most_common())
            largest = os.environ.get("VLRM_CLUSTER_MAX", "")
            size = f", grown to VLRM_CLUSTER_MAX={largest}," if largest else ""
            yield Row("resources", "ok", f"{len(nodes)} nodes ({text}){size} can hold the plan")
            if probe:
                yield _probed(probe, config)
    except UserError as error:
        yield failure("resources", error)


def _probed(probe: Probe, config: Config) -> Row:
    """The row of a probe; any error of the engine that it starts is what was looked for."""
    try:
        return probe(config)
    except Exception as error:  # engines and Ray raise many types
        return failure("engine", error)


def engine_row(name: str, seconds: float, memory_mb: int, timeout: float) -> Row:
    """The row for an engine that has started."""
    finding = f"{name} was ready after {seconds:.0f} s ({memory_mb} MB of memory)"
    if seconds > SLOW_START_SHARE * timeout:
        return Row("engine", "warn", finding, f"raise cluster.start_timeout (now {timeout:g} s)")
    return Row("engine", "ok", finding)
