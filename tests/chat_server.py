"""A server on loopback that answers as vLLM's does, for requests that a test scripts."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from typing import Any

Answer = tuple[int, Any]
"""Status code, and the JSON value or text of the body."""


@dataclass
class ChatServer:
    """What the server answers, and what it was asked.

    Attributes:
        answer: the answer to a chat request with this body.
        models: the answer to the question for its models.
        tokens: the tokens of a chat, without and with those that the tokenizer adds.
        url: its address.
        bodies: bodies of the chat requests.
        peers: the sockets that they came over.
        headers: headers of all requests.
        connections: client ports that requests came from.
    """

    answer: Callable[[dict[str, Any]], Answer]
    models: Answer = (200, {"data": [{"id": "reward"}]})
    tokens: dict[bool, list[int]] = field(default_factory=lambda: {False: [5, 6], True: [5, 6]})
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    peers: list[socket.socket] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)


def token(text: str, **probabilities: float) -> dict[str, Any]:
    """A token of an answer, with the probabilities of the most likely tokens in its place; "_Yes" stands for " Yes"."""
    likely = [{"token": name.replace("_", " "), "logprob": log(p)} for name, p in probabilities.items()]
    return {"token": text, "logprob": 0.0, "bytes": list(text.encode()), "top_logprobs": likely}


def choice(*tokens: dict[str, Any], index: int = 0, ends: str = "<|end|>") -> dict[str, Any]:
    """An answer of some tokens, and one that ends it and is not in its text; without one it was cut off."""
    content = [*tokens, token(ends)] if ends else [*tokens]
    return {
        "index": index,
        "message": {"content": "".join(t["token"] for t in tokens)},
        "logprobs": {"content": content},
        "finish_reason": "stop" if ends else "length",
    }


@contextmanager
def chat_server(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[ChatServer]:
    """Context manager: a server that answers chat requests by `answer`."""
    state = ChatServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections

        def do_GET(self) -> None:
            self._send(state.models)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/tokenize":
                return self._send((200, {"tokens": state.tokens[body["add_special_tokens"]]}))
            assert self.path == "/v1/chat/completions"
            state.peers.append(self.connection)
            state.bodies.append(body)
            return self._send(state.answer(body))

        def _send(self, answer: Answer) -> None:
            state.headers.append(dict(self.headers))
            state.connections.add(self.client_address[1])
            status, value = answer
            body = (value if isinstance(value, str) else json.dumps(value)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
