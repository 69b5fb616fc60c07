"""Checks of a Ray cluster before `ray.init` joins it: address, port, Ray version and authentication.

`ray.init` waits up to a quarter of an hour for a cluster that does not answer, and reports a missing token in the same
words as a wrong address. This module uses internal modules of Ray 2.60: the address lookup, the token loader and the
interface of the head node's server (GCS).
"""

import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from vlrm_ray.errors import UserError

PORT_SECONDS = 10
"""How long to try to reach the port of a cluster."""
ANSWER_SECONDS = 10
"""Timeout for the first answer of a cluster."""
NODE_SECONDS = 5
"""How long to look for the processes of a node on this machine."""
CLIENT_SCHEME = "ray://"
"""Prefix of the address of a Ray Client server."""
AUTH_MODE = "RAY_AUTH_MODE"
"""Environment variable with Ray's authentication mode: `token` or `disabled`."""
GET_TOKEN = "run `ray get-auth-token` on the cluster's head node and store its output in ~/.ray/auth_token here, or set RAY_AUTH_TOKEN"


def prepare_to_join(address: str, source: str) -> str:
    """Check that a cluster can be joined, and set the authentication mode of this process.

    Args:
        address: `host:port` or `auto`.
        source: where the address comes from, for messages: "cluster.address" or "RAY_ADDRESS".

    Returns:
        The address for `ray.init`.

    Raises:
        UserError: if the address is invalid, nobody answers, the Ray versions differ, or the token is missing or wrong.
    """
    where = f"{address} (from {source})"
    client = address.startswith(CLIENT_SCHEME)
    target = address.removeprefix(CLIENT_SCHEME) if client else _resolve(address, source)
    host, port = _split(target, where)
    _wait_for_port(host, port, where, source)
    if client:
        raise UserError(
            f"{where} is a Ray Client server, over which Ray Data does not run; submit the run with `ray job submit`, or start "
            "it on a machine of the cluster with the address host:port of the head node, usually port 6379"
        )
    _choose_authentication(target, where)
    _require_local_node(target, where)
    return target


def _resolve(address: str, source: str) -> str:
    """`host:port` of an address; finds the cluster of this machine for `auto`."""
    if "://" in address:
        hint = "; that of the dashboard belongs into RAY_API_SERVER_ADDRESS" if address.startswith("http") else ""
        raise UserError(
            f"{source}={address} is not the address of a Ray cluster: give host:port, usually port 6379{hint}"
        )
    if address != "auto":
        _split(address, f"{source}={address}")
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address(address))
    except ConnectionError:
        raise UserError(
            f"{source}=auto: no Ray cluster runs on this machine; start one with `ray start --head`, or unset {source} to "
            "let the run start its own"
        ) from None


def _split(target: str, where: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(
            f"{where} is not the address of a Ray cluster: give host:port (such as 10.0.0.1:6379), auto or local"
        )
    return host.strip("[]"), int(port)


def _wait_for_port(host: str, port: int, where: str, source: str) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(1.0, deadline - time.monotonic())):
                return
        except (OSError, UnicodeError) as error:
            if time.monotonic() + 1 > deadline or isinstance(error, socket.gaierror | UnicodeError):
                reason = getattr(error, "strerror", None) or str(error)
                raise UserError(
                    f"no Ray cluster answers at {where}: {reason}; start it, correct {source}, or unset {source} to let the "
                    "run start its own"
                ) from None
        time.sleep(1)


def _ask(target: str, where: str, node_ids: Sequence[str] = (), *, with_token: bool) -> Any:
    """Ask the head node's server whether nodes are alive.

    Args:
        target: `host:port` of the server.
        where: the address for messages.
        node_ids: ids of nodes, in hexadecimal.
        with_token: whether to send the token of this process, if it is in token mode.

    Returns:
        The answer, with `ray_version` and one `raylet_alive` per node; None if the server wants another token, or any.

    Raises:
        UserError: if it is no Ray cluster of the installed version.
    """
    import grpc  # type: ignore[import-untyped]
    import ray
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    channel = _channel(target, with_token=with_token)
    try:
        service = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        request = gcs_service_pb2.CheckAliveRequest(node_ids=[bytes.fromhex(node_id) for node_id in node_ids])
        reply: Any = service.CheckAlive(request, timeout=ANSWER_SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return None
        raise UserError(
            f"what listens at {where} does not answer as the head node of a Ray cluster ({error.code().name}); give the "
            "head node's port, usually 6379, and check that the cluster is healthy"
        ) from None
    finally:
        channel.close()
    if reply.ray_version != ray.__version__:
        raise UserError(
            f"the cluster at {where} runs Ray {reply.ray_version}, but Ray {ray.__version__} is installed here; install the "
            "same version on both sides"
        )
    return reply


def _channel(target: str, *, with_token: bool) -> Any:
    """gRPC channel to a server of Ray, with Ray's TLS settings."""
    import grpc
    from ray._common.tls_utils import load_certs_from_env
    from ray._private.grpc_utils import init_grpc_channel

    options = [("grpc.enable_http_proxy", 0)]
    if with_token:
        return init_grpc_channel(target, options=options)
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(target, options=options)
    certificate, key, authority = load_certs_from_env()
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(authority, key, certificate), options=options)


def _choose_authentication(target: str, where: str) -> None:
    """Set the authentication mode that the cluster has. A token comes from the places where Ray looks for it."""
    mode = os.environ.get(AUTH_MODE, "").lower()
    if _ask(target, where, with_token=False):
        if mode == "token":
            raise UserError(
                f"the cluster at {where} runs without authentication, but {AUTH_MODE}=token is set here; unset it, or start "
                f"the cluster with {AUTH_MODE}=token"
            )
        return
    if mode not in ("", "token"):
        raise UserError(f"the cluster at {where} wants an authentication token, but {AUTH_MODE}={mode}; unset it")
    try:
        token = _enable_token_mode().has_token(ignore_auth_mode=True)
    except Exception as error:  # Ray raises its own types for a file that cannot be read
        reason = str(error).partition(". ")[0]
        raise UserError(f"the authentication token for {where} cannot be read: {reason}; {GET_TOKEN}") from None
    if not token:
        raise UserError(f"the cluster at {where} wants an authentication token, and there is none here; {GET_TOKEN}")
    if not _ask(target, where, with_token=True):
        raise UserError(f"the cluster at {where} refuses the authentication token of this machine; {GET_TOKEN}")


def _require_local_node(target: str, where: str) -> None:
    """Check that a node of the cluster runs on this machine: a driver needs its processes."""
    from ray._private.services import find_node_ids

    deadline = time.monotonic() + NODE_SECONDS
    while True:
        node_ids = sorted(find_node_ids())
        if node_ids and any(_ask(target, where, node_ids, with_token=True).raylet_alive):
            return
        if time.monotonic() > deadline:
            raise UserError(
                f"the cluster at {where} answers, but none of its nodes runs on this machine; start the run on one of its "
                "nodes, submit it with `ray job submit`, or add this machine with `ray start --address=...`"
            )
        time.sleep(1)


def _enable_token_mode() -> Any:
    """Switch this process to token authentication; returns Ray's loader of the token."""
    import ray

    raylet: Any = ray._raylet
    os.environ[AUTH_MODE] = "token"
    raylet.Config.initialize("")  # Ray has cached the mode
    return raylet.AuthenticationTokenLoader.instance()
