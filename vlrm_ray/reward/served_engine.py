"""An engine behind HTTP: a published reward model that vLLM's server answers for, by the chat completions API of OpenAI.

The server renders the chat and samples. This module sends what the other engines are given: the same text without control
tokens, the same pixels, and all sampling settings, so that those of the model folder do not count. It reads p(Yes) and p(No)
from the most likely tokens at the judgement; a label that is not among them gets the
probability of the last of them.
"""

import asyncio
import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import exp
from typing import Any, TypeVar

import httpx
from PIL import Image

from vlrm_ray.engines import Completion, PlainText, Request, Sampling, refusal_reason
from vlrm_ray.errors import UserError, first_line
from vlrm_ray.preferences.judgement import judgement_token
from vlrm_ray.reward.loop_thread import LoopThread, all_of
from vlrm_ray.reward.missing_judgements import judged
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.images import load_in_condition
from vlrm_ray.types import NO, YES

T = TypeVar("T")
TOP_LOGPROBS = 20
"""Most likely tokens that are asked for: as many as vLLM gives without `--max-logprobs`."""
PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each attempt for a request, while the server is busy or does not answer."""
BUSY = frozenset({429, 500, 502, 503, 504})
"""Status codes after which a request is sent again."""
FAILED = 500
"""Status code of a server that is broken, or cannot work on a single request."""
REFUSED_BODY = frozenset({400, 413, 422})
"""Status codes of a request that the server does not take, though it takes others."""


class RefusedRequest(ValueError):
    """The server does not take a request; the message is the server's."""


class ServedEngine:
    """An engine with the interface of all engines, whose model a server has. Its methods may be called at the same time, from
    any thread, and those that are named `_async` from any event loop.

    Attributes:
        url: address of the server, without the path of the API.
        model: name under which the server has the model.
        plain: makes words of the model's control tokens in a request.
        max_pixels: largest number of pixels of an image; larger ones are scaled down.
        begins: whether the tokenizer puts the token for the beginning of a text (BOS) before a chat. vLLM's server leaves it
            out unless it is told.
    """

    def __init__(
        self,
        url: str,
        plain: PlainText,
        max_pixels: int,
        *,
        model: str = "",
        api_key: str = "",
        concurrency: int = 64,
        timeout: float = 600.0,
    ) -> None:
        """Connect to a server.

        Args:
            url: address of the server, such as http://127.0.0.1:8000.
            plain: makes words of the model's control tokens.
            max_pixels: largest number of pixels of an image.
            model: name of the model there; "" for the only one.
            api_key: key of the server, if it asks for one.
            concurrency: requests that are sent at the same time.
            timeout: seconds that the server may take for a request.

        Raises:
            UserError: the server does not answer, refuses the key, or does not have the model.
        """
        self.url, self.plain, self.max_pixels = url.rstrip("/").removesuffix("/v1"), plain, max_pixels
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 20.0)),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._answered = 0.0  # when a request was last answered, in monotonic time
        self._loop = LoopThread("served-reward")
        self._slots = asyncio.Semaphore(concurrency)  # no image is read, and no connection waited for, before its turn
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="served-reward-work")
        try:
            served = [str(entry["id"]) for entry in self._loop.wait(self._call("GET", "v1/models"))["data"]]
            self.model = _choose(self._name, model, served)
            self.begins = self._loop.wait(self._begins_by_tokenizer())
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the server at {self._name} does not answer as that of vLLM; correct url") from error

    @property
    def _name(self) -> str:
        return redacted(self.url)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine.generate`. A request that the server refuses gives refused answers.

        With `judgement="ask"` in `sampling`, a critique without a judgement is asked for it as soon as it has come.

        Raises:
            UserError: the server does not answer, JSON schemas are asked for, or the engine was closed.
        """
        return self._loop.wait(self._generate(requests, sampling))

    async def generate_async(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """`generate` for event loops. If the caller is cancelled, the requests are withdrawn from the server."""
        return await self._loop.run(self._generate(requests, sampling))

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine.score`; raises UserError if the server does not answer, or if the engine was closed."""
        return self._loop.wait(self._score(requests))

    async def score_async(self, requests: Sequence[Request]) -> list[Completion]:
        """`score` for event loops. If the caller is cancelled, the requests are withdrawn from the server."""
        return await self._loop.run(self._score(requests))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Result of some work that would block an event loop, in one of `concurrency` threads."""
        return await self._loop.run(self._in_thread(work))

    def load(self, folder: str) -> None:
        """Raise UserError: the server loads its model itself."""
        raise UserError(
            f"the server at {self._name} cannot load {folder}; start it with that folder, and connect again"
        )

    def close(self) -> None:
        """Withdraw all requests, whose callers get a UserError, and close the connections; the server goes on."""
        self._loop.close(self._client.aclose)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _begins_by_tokenizer(self) -> bool:
        """Whether a chat has a BOS only if the tokenizer adds it: other chat templates write it. See `chat_tokenization`."""
        chat = {
            "model": self.model,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "A question"}]}],
        }
        without, added = [
            (await self._call("POST", "tokenize", chat | {"add_special_tokens": special}))["tokens"]
            for special in (False, True)
        ]
        return bool(added != without and added[:1] != without[:1])

    async def _generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        if sampling.json_schema:
            raise UserError("a served reward model is not asked for JSON schemas; start an engine for that")
        settings: dict[str, Any] = {
            "n": sampling.n,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }

        def read(choices: list[Any]) -> list[Completion]:
            return [_completion(choice) for choice in choices]

        async def answer(request: Request) -> list[Completion]:
            seed = {"seed": request.seed} if sampling.temperature > 0 else {}
            async with self._slots:
                answers = await self._answers(request, settings | seed, read, sampling.n)
                if sampling.judgement != "ask":
                    return answers
                return [await judged(self._judgement, request, answer) for answer in answers]

        return await all_of(map(answer, requests))

    async def _score(self, requests: Sequence[Request]) -> list[Completion]:
        async def answer(request: Request) -> Completion:
            async with self._slots:
                return await self._judgement(request)

        return await all_of(map(answer, requests))

    async def _judgement(self, request: Request) -> Completion:
        """p(Yes) and p(No) as the next token after the request's prefix."""

        def read(choices: list[Any]) -> list[Completion]:
            (choice,) = choices
            return [Completion("", *_masses(choice["logprobs"]["content"][0], YES), tokens=1)]

        (answer,) = await self._answers(request, {"max_tokens": 1, "temperature": 0.0}, read, 1)
        return answer

    async def _answers(
        self,
        request: Request,
        settings: Mapping[str, Any],
        read: Callable[[list[Any]], list[Completion]],
        count: int,
    ) -> list[Completion]:
        """What `read` makes of the server's answers to a request; `count` refused ones if it cannot be answered."""
        try:
            body = await self._in_thread(partial(self._body, request, settings))
            answer = await self._call("POST", "v1/chat/completions", body)
            return read(sorted(answer["choices"], key=lambda choice: int(choice["index"])))
        except UserError:
            raise
        except Exception as error:  # refusals, image decoders, and answers that are not as those of vLLM
            return [Completion("", refused=refusal_reason(error))] * count

    def _body(self, request: Request, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The body in which a request is sent; raises BadImage."""
        image = load_in_condition(request.image, request.condition, self.max_pixels) if request.image else None
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_uri(image)}}] if image else []
        content.append({"type": "text", "text": self.plain(request.text)})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if request.prefix:
            messages.append({"role": "assistant", "content": self.plain(request.prefix)})
        return {
            "model": self.model,
            "messages": messages,
            "add_generation_prompt": not request.prefix,
            "continue_final_message": bool(request.prefix),
            "add_special_tokens": self.begins,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
            "top_k": 0,  # this and the next ones in place of those in generation_config.json
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            **settings,
        }

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request, one with a body again while the server is busy; returns the JSON value of the answer.

        Raises:
            RefusedRequest: the server does not take the request, or fails with it each time and answers others meanwhile.
            UserError: the server does not answer, or refuses all requests.
        """
        problem, status, since = "", 0, time.monotonic()
        for pause in PAUSES if body else PAUSES[:1]:
            await asyncio.sleep(pause)
            try:
                answer = await self._client.request(method, f"{self.url}/{path}", json=body)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem, status = first_line(error), 0
                continue
            status = answer.status_code
            if answer.is_success:
                self._answered = max(self._answered, time.monotonic() if body else 0.0)
                return answer.json()
            message = _message(answer)
            if status in REFUSED_BODY:
                raise RefusedRequest(message)
            problem = f"status {status}: {message}"
            if status not in BUSY:
                raise UserError(
                    f"the server at {self._name} refuses requests ({problem}); check url, model and api_key"
                )
        if status == FAILED and self._answered > since:
            raise RefusedRequest(problem)
        raise UserError(f"the server at {self._name} does not answer ({problem}); start it, or correct url")


def _choose(server: str, model: str, served: Sequence[str]) -> str:
    """The name of the model, or of the only one; raises UserError if the server does not have it."""
    if model in served or (not model and len(served) == 1):
        return model or served[0]
    asked = f"has no model {model!r}" if model else "has several models"
    raise UserError(f"the server at {server} {asked}; give model, one of {', '.join(served)}")


def _message(answer: httpx.Response) -> str:
    """What the server says about a request that it did not answer, in one line."""
    try:
        content = answer.json()
        text = str(content.get("error", content).get("message", "")) or answer.text
    except (ValueError, AttributeError):
        text = answer.text
    return " ".join(text.split())[:300] or answer.reason_phrase


def _data_uri(image: Image.Image) -> str:
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"


def _completion(choice: Mapping[str, Any]) -> Completion:
    """An answer of the server, with p(Yes) and p(No) at the token of its judgement."""
    text, tokens = str(choice["message"]["content"] or ""), choice["logprobs"]["content"]
    pieces = [bytes(token["bytes"] or token["token"].encode()) for token in tokens]

    def decode(places: Sequence[int]) -> str:  # without the tokens that end the answer
        return b"".join(pieces[place] for place in places).decode(errors="replace")[: len(text)]

    cut = choice["finish_reason"] == "length"
    found = judgement_token(range(len(pieces)), decode)
    masses = _masses(tokens[found[0]], found[1].word) if found else (0.0, 0.0)
    return Completion(text.strip(), *masses, cut=cut, tokens=len(tokens))


def _masses(token: Mapping[str, Any], word: str) -> tuple[float, float]:
    """p(Yes) and p(No) at a token, with and without a space before them; of all spellings if `word` is another one.

    A label that is not among the `TOP_LOGPROBS` most likely tokens has at most the probability of the last of them, and gets that.
    """
    likely = [(str(entry["token"]).removeprefix(" "), exp(entry["logprob"])) for entry in token["top_logprobs"]]
    least = min(p for _, p in likely) if len(likely) >= TOP_LOGPROBS else 0.0

    def mass(label: str) -> float:
        spellings = {label} if word in (YES, NO) else {label, label.lower(), label.upper()}
        found = [p for text, p in likely if text in spellings]
        return sum(found) if found else least

    return mass(YES), mass(NO)
