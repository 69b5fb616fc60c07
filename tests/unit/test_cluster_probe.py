"""Joining a Ray cluster: wrong addresses, other programs, other versions and missing tokens are told in one line, soon."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import pytest
import ray
from ray._private import services
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import cluster, cluster_probe
from vlrm_ray.pipeline.cluster_probe import prepare_to_join

TOKEN = "0123456789abcdef"
NODE = "ab" * 28


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No tokens and settings of this machine, and short waits."""
    raylet: Any = ray._raylet
    monkeypatch.setattr(cluster_probe, "PORT_SECONDS", 2)
    monkeypatch.setattr(cluster_probe, "ANSWER_SECONDS", 5)
    monkeypatch.setattr(cluster_probe, "NODE_SECONDS", 0)
    monkeypatch.setattr(services, "find_node_ids", lambda: {NODE})
    with mock.patch.dict(os.environ, {"HOME": str(tmp_path)}):
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            os.environ.pop(name, None)
        raylet.AuthenticationTokenLoader.instance().reset_cache()
        yield
        os.environ["RAY_AUTH_MODE"] = "disabled"
        raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


class HeadNode(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    """Stands for the server of a head node."""

    def __init__(self, token: str = "", version: str = ray.__version__, nodes: tuple[str, ...] = (NODE,)) -> None:
        self.token, self.version, self.nodes = token, version, nodes

    def CheckAlive(self, request: Any, context: Any) -> Any:
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if self.token and sent != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        alive = [node.hex() in self.nodes for node in request.node_ids]
        return gcs_service_pb2.CheckAliveReply(ray_version=self.version, raylet_alive=alive)


@pytest.fixture
def start() -> Iterator[Callable[..., str]]:
    """Function that starts a `HeadNode` and returns its address."""
    servers = []

    def start_server(**options: Any) -> str:
        servers.append(grpc.server(ThreadPoolExecutor(2)))
        gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(HeadNode(**options), servers[-1])
        port = servers[-1].add_insecure_port("0.0.0.0:0")
        servers[-1].start()
        return f"127.0.0.1:{port}"

    yield start_server
    for server in servers:
        server.stop(None)


def refusal(address: str, source: str = "RAY_ADDRESS") -> str:
    """The message with which an address is refused."""
    with pytest.raises(UserError) as caught:
        prepare_to_join(address, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def store_token(text: str = TOKEN, path: str = ".ray/auth_token") -> Path:
    file = Path(os.environ["HOME"], path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("source", ["RAY_ADDRESS", "cluster.address"])
@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "[::1]:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nobody_answers(form: str, source: str) -> None:
    address = form.format(unused_port())
    message = refusal(address, source)
    assert message.startswith(f"no Ray cluster answers at {address} (from {source}): ")
    assert f"correct {source}" in message


@pytest.mark.parametrize(
    "address",
    ["host", "6379", ":6379", "host:", "host:port", "host:0", "host:99999", "host:-1", "ray://host", "ray://:1",
     "http://127.0.0.1:8265", "https://host", "anyscale://cluster", "host:6379/x", "two words"],
)  # fmt: skip
def test_what_is_no_address(address: str) -> None:
    message = refusal(address)
    assert "is not the address of a Ray cluster: give host:port" in message
    assert address in message
    assert ("RAY_API_SERVER_ADDRESS" in message) == address.startswith("http")


def test_a_host_that_does_not_exist() -> None:
    assert "(from RAY_ADDRESS): " in refusal("no-such-host.invalid:6379")


def test_a_program_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_probe, "ANSWER_SECONDS", 1)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        start = time.monotonic()
        message = refusal(f"127.0.0.1:{listener.getsockname()[1]}")
    assert "does not answer as the head node of a Ray cluster" in message
    assert time.monotonic() - start < 20


def test_a_web_server_such_as_the_dashboard() -> None:
    server = ThreadingHTTPServer(("0.0.0.0", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        message = refusal(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    assert "give the head node's port, usually 6379" in message


def test_a_ray_client_server_is_not_joined() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert "ray job submit" in refusal(f"ray://127.0.0.1:{listener.getsockname()[1]}")


def test_another_version_of_ray(start: Callable[..., str]) -> None:
    assert f"runs Ray 2.9.0, but Ray {ray.__version__} is installed here" in refusal(start(version="2.9.0"))


def test_no_node_on_this_machine(start: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none of its nodes runs on this machine" in refusal(start(nodes=()))
    monkeypatch.setattr(services, "find_node_ids", set)
    assert "none of its nodes runs on this machine" in refusal(start())


def test_auto_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    assert refusal("auto", "cluster.address").startswith("cluster.address=auto: no Ray cluster runs on this machine")


def test_auto_finds_the_cluster_of_this_machine(start: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    address = start()
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: address)
    assert prepare_to_join("auto", "RAY_ADDRESS").endswith(address.partition(":")[2])


def test_an_open_cluster_is_joined_without_token(start: Callable[..., str]) -> None:
    store_token()
    prepare_to_join(start(), "RAY_ADDRESS")
    assert "RAY_AUTH_MODE" not in os.environ


def test_an_open_cluster_and_a_user_who_wants_tokens(start: Callable[..., str]) -> None:
    os.environ["RAY_AUTH_MODE"] = "token"
    assert "runs without authentication, but RAY_AUTH_MODE=token is set here" in refusal(start())


@pytest.mark.parametrize("place", ["home", "path", "variable"])
@pytest.mark.parametrize("mode", ["", "token"])
def test_a_token_in_its_usual_places_is_used(place: str, mode: str, start: Callable[..., str]) -> None:
    if mode:
        os.environ["RAY_AUTH_MODE"] = mode
    if place == "variable":
        os.environ["RAY_AUTH_TOKEN"] = TOKEN
    elif place == "path":
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(store_token(path="elsewhere"))
    else:
        store_token()
    prepare_to_join(start(token=TOKEN), "RAY_ADDRESS")
    assert os.environ["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("mode", ["", "token"])
def test_a_missing_token_is_told(mode: str, start: Callable[..., str]) -> None:
    if mode:
        os.environ["RAY_AUTH_MODE"] = mode
    message = refusal(start(token=TOKEN))
    assert "wants an authentication token, and there is none here; run `ray get-auth-token`" in message


def test_a_wrong_token_is_told(start: Callable[..., str]) -> None:
    store_token("another")
    assert "refuses the authentication token of this machine" in refusal(start(token=TOKEN))


@pytest.mark.parametrize("content", [None, ""])
def test_a_token_file_that_cannot_be_read_is_told(content: str | None, start: Callable[..., str]) -> None:
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(
        Path(os.environ["HOME"], "none") if content is None else store_token(content, "empty")
    )
    assert "ray get-auth-token" in refusal(start(token=TOKEN))


def test_a_user_who_forbids_tokens(start: Callable[..., str]) -> None:
    store_token()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    assert "wants an authentication token, but RAY_AUTH_MODE=disabled; unset it" in refusal(start(token=TOKEN))


def test_the_stage_says_what_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.stage_name(load(None, [])) == "start Ray"
    assert cluster.stage_name(load(None, ["cluster.address=local"])) == "start Ray"
    monkeypatch.setenv("RAY_ADDRESS", " 10.0.0.1:6379 ")
    assert cluster.stage_name(load(None, [])) == "join Ray at 10.0.0.1:6379"
    assert cluster.stage_name(load(None, ["cluster.address=auto"])) == "join Ray at auto"


def test_each_run_has_a_namespace_of_its_own() -> None:
    config = load(None, ["name=mine"])
    names = {cluster.namespace_of(config) for _ in range(9)}
    assert len(names) == 9
    assert all(name.startswith("mine-") for name in names)
