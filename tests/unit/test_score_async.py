"""`RewardModel.score_async`: many callers of one connected model, in event loops and threads, and how they end."""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from tests.chat_server import Answer, ChatServer, chat_server, choice, token
from tests.published import QUESTION, publish
from vlrm_ray.engines import Engine
from vlrm_ray.errors import UserError
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.reward import RewardModel
from vlrm_ray.reward.scoring import Score

PATIENCE_SECONDS = 60.0


def says(body: dict[str, Any]) -> Answer:
    """Yes to responses about a star, No to all others."""
    word = " Yes" if "star" in body["messages"][0]["content"][-1]["text"] else " No"
    return 200, {"choices": [choice(token("Judgement:"), token(word, **{word.replace(" ", "_"): 0.9}))]}


class Withdrawn:
    """Answers responses with "slow" in them only when the client has gone."""

    def __init__(self, server: ChatServer) -> None:
        self.server, self.gone = server, list[Any]()

    def __call__(self, body: dict[str, Any]) -> Answer:
        if "slow" in body["messages"][0]["content"][-1]["text"]:
            (peer,) = self.server.peers[-1:]
            peer.settimeout(PATIENCE_SECONDS)
            self.gone.append(peer.recv(1, socket.MSG_PEEK))  # nothing, at the end of the connection
        return says(body)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(says) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> str:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "photo.png")
    return str(publish(tmp_path / "rm"))


def items(folder: str, *responses: str) -> tuple[list[Path], list[str], list[str]]:
    count = len(responses)
    return [Path(folder).parent / "photo.png"] * count, [QUESTION] * count, list(responses)


def rewards(scores: list[Score]) -> list[float | None]:
    return [score.reward for score in scores]


async def until(condition: Callable[[], Any]) -> None:
    """Return to the event loop until the condition holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], Any]) -> None:
    asyncio.run(until(condition))


def loop_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "served-reward"}


def test_the_event_loop_goes_on_while_a_score_is_awaited(server: ChatServer, folder: str) -> None:
    released = threading.Event()
    server.answer = lambda body: says(body) if released.wait(PATIENCE_SECONDS) else (500, "the loop was blocked")
    model = RewardModel.connect(server.url, folder)

    async def score_and_go_on() -> list[Score]:
        task = asyncio.create_task(model.score_async(*items(folder, "A star.")))
        await until(lambda: server.bodies)
        released.set()
        return await task

    assert rewards(asyncio.run(score_and_go_on())) == [1.0]
    model.close()


def test_callers_of_all_loops_and_threads_share_the_bound_on_requests(server: ChatServer, folder: str) -> None:
    """Each answer waits for three others, so that four requests are at the server, and no fifth one comes."""
    together, lock, running, most = threading.Barrier(4), threading.Lock(), 0, 0

    def counted(body: dict[str, Any]) -> Answer:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE_SECONDS)
        with lock:
            running -= 1
        return says(body)

    server.answer = counted
    model = RewardModel.connect(server.url, folder, concurrency=4)
    found: dict[str, list[float | None]] = {}

    async def many() -> list[list[Score]]:
        """A caller per response, as a trainer has."""
        calls = (model.score_async(*items(folder, text)) for text in ["A star.", "A moon."] * 4)
        return await asyncio.gather(*calls)

    def in_a_loop(name: str) -> None:
        found[name] = [reward for scores in asyncio.run(many()) for reward in rewards(scores)]

    def in_a_thread() -> None:
        found["thread"] = rewards(model.score(*items(folder, *["A star.", "A moon."] * 4)))

    threads = [threading.Thread(target=in_a_loop, args=[name]) for name in ("loop", "other loop")]
    threads.append(threading.Thread(target=in_a_thread))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model.close()
    assert found == dict.fromkeys(("loop", "other loop", "thread"), [1.0, 0.0] * 4)
    assert most == 4
    assert len(server.bodies) == 24


def test_a_cancelled_call_withdraws_its_request_and_frees_its_place(server: ChatServer, folder: str) -> None:
    server.answer = answers = Withdrawn(server)
    model = RewardModel.connect(server.url, folder, concurrency=1)

    async def cancel_and_go_on() -> list[Score]:
        task = asyncio.create_task(model.score_async(*items(folder, "slow", "slow", "slow")))
        await until(lambda: server.bodies)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await model.score_async(*items(folder, "A star."))

    assert rewards(asyncio.run(cancel_and_go_on())) == [1.0]
    wait_until(lambda: answers.gone == [b""])
    assert len(server.bodies) == 2  # the two that waited for the place were never sent
    model.close()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_thread_withdraws_its_request(server: ChatServer, folder: str) -> None:
    answers, main = Withdrawn(server), threading.main_thread().ident

    def interrupts(body: dict[str, Any]) -> Answer:
        signal.pthread_kill(cast(int, main), signal.SIGINT)
        return answers(body)

    server.answer = interrupts
    model = RewardModel.connect(server.url, folder)
    with pytest.raises(KeyboardInterrupt):
        model.score(*items(folder, "slow"))
    wait_until(lambda: answers.gone == [b""])
    model.close()


def test_closing_ends_the_calls_that_wait_and_refuses_later_ones(server: ChatServer, folder: str) -> None:
    server.answer = answers = Withdrawn(server)
    before, model, told = loop_threads(), RewardModel.connect(server.url, folder), []

    def wait_in_a_thread() -> None:
        with pytest.raises(UserError, match="was closed") as caught:
            model.score(*items(folder, "slow"))
        told.append(caught.value)

    async def close_meanwhile() -> None:
        task = asyncio.create_task(model.score_async(*items(folder, "slow")))
        await until(lambda: len(server.bodies) == 2)
        model.close()
        with pytest.raises(UserError, match="was closed"):
            await task
        with pytest.raises(UserError, match="was closed; load it or connect again"):
            await model.score_async(*items(folder, "A star."))

    thread = threading.Thread(target=wait_in_a_thread)
    thread.start()
    asyncio.run(close_meanwhile())
    thread.join()
    assert len(told) == 1
    wait_until(lambda: answers.gone == [b"", b""])
    with pytest.raises(UserError, match="was closed"):
        model.score(*items(folder, "A star."))
    model.close()
    assert loop_threads() <= before


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", ""])
def test_a_model_that_nobody_refers_to_leaves_no_thread(url: str, server: ChatServer, folder: str) -> None:
    before = loop_threads()
    for _ in range(3):
        try:
            RewardModel.connect(url or server.url, folder)
        except UserError:
            assert url
    gc.collect()
    wait_until(lambda: loop_threads() <= before)


def test_a_fork_of_the_process_is_told_to_connect_itself(server: ChatServer, folder: str) -> None:
    """Such as a worker of a data loader: the thread of the connection is not in it."""
    model = RewardModel.connect(server.url, folder)
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE_SECONDS))
        try:
            model.score(*items(folder, "A star."))
        except UserError as error:
            os._exit("connect in each process" in str(error))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert rewards(model.score(*items(folder, "A star."))) == [1.0]
    model.close()


def test_wrong_calls_are_refused_as_by_score(server: ChatServer, folder: str) -> None:
    def refused(call: Coroutine[Any, Any, list[Score]], message: str) -> None:
        with pytest.raises(UserError, match=message):
            asyncio.run(call)

    model = RewardModel.connect(server.url, folder)
    images, questions, responses = items(folder, "A star.", "A moon.")
    refused(model.score_async(images, questions, responses[:1]), "got 2 images, 2 questions, 1 responses")
    refused(model.score_async(images, questions, responses, k=-1), "k=-1")
    model.close()
    assert asyncio.run(model.score_async([], [], [])) == []
    loaded = RewardModel(cast(Engine, object()), COMPACT)
    refused(
        loaded.score_async(images, questions, responses), r"needs a model that a server has; use RewardModel\.connect"
    )


def test_images_are_read_outside_of_the_event_loop(server: ChatServer, folder: str) -> None:
    """An image that is made when it is looked up, as data sets of Hugging Face do, is looked up in another thread."""
    threads = set()

    class Images(list[Path]):
        def __getitem__(self, index: Any) -> Any:
            threads.add(threading.get_ident())
            return super().__getitem__(index)

    images, questions, responses = items(folder, "A star.", "A moon.")
    model = RewardModel.connect(server.url, folder)
    assert rewards(asyncio.run(model.score_async(Images(images), questions, responses))) == [1.0, 0.0]
    assert threads
    assert threading.get_ident() not in threads
    model.close()
