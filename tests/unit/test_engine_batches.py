"""Batches on several engines: how they are divided, in which order answers come, and what ends the work. Ray is replaced."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from actors import engine_batches
from actors.engine_batches import EngineBatches
from vlrm_ray.engines import REFUSED, TOO_LONG, Completion, EngineDied, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.stages.engine_pool import MOST_LOSSES

SAMPLING = Sampling(8)


class Calls:
    """Stands for Ray: keeps the calls of actors, and finishes them in an order that the test chooses."""

    def __init__(self, choose: Callable[[list[Any]], Any] = lambda pending: pending[0]) -> None:
        self.choose = choose
        self.sent: list[tuple[int, str]] = []
        """Number of the actor and text of the first request of each call."""
        self.results: dict[int, Any] = {}

    def actor(self, number: int, answer: Callable[[Request], Any] = lambda request: [Completion(request.text)]) -> Any:
        """An actor that answers requests with `answer`."""

        def remote(batch: Sequence[Request], *_: Any) -> int:
            self.sent.append((number, batch[0].text))
            reference = len(self.sent)
            self.results[reference] = lambda: [answer(request) for request in batch]
            return reference

        method = SimpleNamespace(remote=remote)
        return SimpleNamespace(generate=method, score=method, restarts=False)

    def wait(self, references: list[int], timeout: float) -> tuple[list[int], list[int]]:
        ready = self.choose(references)
        return ([] if ready is None else [ready]), []

    def get(self, reference: int) -> Any:
        return self.results[reference]()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(engine_batches, "ray", calls)
    monkeypatch.setattr(engine_batches, "is_restarting", lambda actor: actor.restarts)
    monkeypatch.setattr(engine_batches, "cancel", lambda reference: calls.results.pop(reference, None))
    return calls


def batches(texts: str, taken: list[str] | None = None) -> Iterator[list[Request]]:
    """A batch of two requests for each letter; `taken` gets the letters that were asked for."""
    for text in texts:
        if taken is not None:
            taken.append(text)
        yield [Request(text, None), Request(text.upper(), None)]


def pool(*actors: Any, sampling: Sampling | None = SAMPLING, in_flight: int = 2) -> EngineBatches:
    """A pool of critics that stay, which must answer within 60 s."""
    return EngineBatches("critic", lambda: dict(enumerate(actors)), sampling, 60, in_flight, "check --rm")


def texts_of(outputs: Sequence[Sequence[Completion]]) -> list[str]:
    return [group[0].text for group in outputs]


def test_batches_are_divided_among_the_critics_and_answered_in_order_of_completion(calls: Calls) -> None:
    calls.choose = lambda pending: pending[-1]
    judges = pool(calls.actor(0), calls.actor(1))
    answers = {number: texts_of(outputs) for number, outputs in judges(batches("abcde"))}
    assert list(answers) == [3, 4, 2, 1, 0]
    assert answers == {number: [text, text.upper()] for number, text in enumerate("abcde")}
    assert calls.sent[:4] == [(0, "a"), (1, "b"), (0, "c"), (1, "d")]


def test_a_critic_gets_no_more_batches_than_it_may_have_and_none_is_made_before_it_is_sent(calls: Calls) -> None:
    taken: list[str] = []
    answers = pool(calls.actor(0), calls.actor(1), in_flight=1)(batches("abcd", taken))
    next(answers)
    assert taken == ["a", "b"]
    next(answers)
    assert calls.sent == [(0, "a"), (1, "b"), (0, "c")]


def test_critics_that_join_get_batches_and_those_that_leave_get_no_more(calls: Calls) -> None:
    present = {0: calls.actor(0), 1: calls.actor(1)}
    answers = EngineBatches("critic", lambda: present, SAMPLING, 60, in_flight=1)(batches("abcdef"))
    next(answers)
    present[2] = calls.actor(2)
    del present[1]
    assert [number for number, _ in answers] == [1, 2, 3, 4, 5]
    assert calls.sent == [(0, "a"), (1, "b"), (0, "c"), (2, "d"), (0, "e"), (2, "f")]


def test_without_sampling_the_requests_are_scored(calls: Calls) -> None:
    actor = calls.actor(0, lambda request: Completion(request.text, 0.9, 0.1))
    actor.generate = None
    ((_, outputs),) = pool(actor, sampling=None)(batches("a"))
    assert outputs == [[Completion("a", 0.9, 0.1)], [Completion("A", 0.9, 0.1)]]


def dead(request: Request) -> Any:
    """The answer of an actor whose process has ended."""
    raise RayActorError


def test_critics_that_do_not_answer_or_are_all_dead_are_named(calls: Calls) -> None:
    calls.choose = lambda pending: None
    with pytest.raises(
        UserError, match=r"critic-0, critic-1: no answer within 60 s while waiting for answers to a batch"
    ):
        list(pool(calls.actor(0), calls.actor(1))(batches("ab")))
    calls.choose = lambda pending: pending[-1]
    with pytest.raises(UserError, match=r"critic-0 died while it was asked for answers to a batch"):
        list(pool(calls.actor(0, dead), calls.actor(1, dead))(batches("ab")))


@pytest.mark.parametrize("reason", [TOO_LONG, f"{REFUSED}: out of memory"])
def test_an_engine_that_refuses_everything_from_the_start_ends_the_judging(calls: Calls, reason: str) -> None:
    actor = calls.actor(0, lambda request: [Completion("", refused=reason)])
    with pytest.raises(UserError, match=rf"refused all of the first 16 requests \({reason}\); check --rm"):
        list(pool(actor)(batches("abcdefghijk")))


@pytest.mark.parametrize("first", [Completion("fine"), Completion("", refused="image_missing")])
def test_it_goes_on_if_one_request_was_answered_or_the_images_are_at_fault(calls: Calls, first: Completion) -> None:
    def answer(request: Request) -> list[Completion]:
        return [first if first.refused or request.text == "a" else Completion("", refused=TOO_LONG)]

    assert len(list(pool(calls.actor(0, answer))(batches("abcdefghijk")))) == 11


def test_without_a_remedy_it_goes_on_whatever_is_refused(calls: Calls) -> None:
    actor = calls.actor(0, lambda request: [Completion("", refused=TOO_LONG)])
    assert len(list(EngineBatches("policy", lambda: {0: actor}, SAMPLING, 60)(batches("abcdefghijk")))) == 11


def gives_up(request: Request) -> list[Completion]:
    """The answer of an actor that could not start its engine again."""
    raise EngineDied("critic-0 on node a has no running engine: exit code -9")


@pytest.mark.parametrize("lost", [gives_up, dead])
def test_what_a_lost_engine_had_is_sent_to_another_one_and_it_gets_no_more(
    calls: Calls, lost: Callable[[Request], Any]
) -> None:
    judges = pool(calls.actor(0, lost), calls.actor(1))
    answers = {number: texts_of(outputs) for number, outputs in judges(batches("abcdef"))}
    assert answers == {number: [text, text.upper()] for number, text in enumerate("abcdef")}
    assert [text for number, text in calls.sent if number == 0] == ["a", "c"]  # what it had when it was lost


def test_what_an_engine_had_that_ray_starts_again_is_sent_to_another_one(calls: Calls) -> None:
    away, other = calls.actor(0), calls.actor(1)
    away.restarts = True
    calls.choose = lambda pending: next((call for call in pending if calls.sent[call - 1][0] == 1), None)
    answers = {number: texts_of(outputs) for number, outputs in pool(away, other)(batches("abcdef"))}
    assert answers == {number: [text, text.upper()] for number, text in enumerate("abcdef")}
    assert [text for number, text in calls.sent if number == 0] == ["a", "c"]


def test_what_an_engine_had_that_hangs_is_sent_to_another_one(calls: Calls) -> None:
    calls.choose = lambda pending: next((call for call in pending if calls.sent[call - 1][0] == 1), None)
    answers = {number: texts_of(outputs) for number, outputs in pool(calls.actor(0), calls.actor(1))(batches("abcdef"))}
    assert answers == {number: [text, text.upper()] for number, text in enumerate("abcdef")}
    assert [text for number, text in calls.sent if number == 0] == ["a", "c"]


def test_a_batch_that_no_engine_answers_ends_the_work(calls: Calls) -> None:
    actors = [calls.actor(index) for index in range(MOST_LOSSES + 3)]
    calls.choose = lambda pending: None
    with pytest.raises(UserError, match=r"^4 engines of the critic .* critic-3 hangs, or its process has ended"):
        list(pool(*actors)(batches("a")))
    assert len(calls.sent) == MOST_LOSSES + 1


def test_a_single_engine_that_ray_starts_again_is_waited_for(calls: Calls) -> None:
    away, looks = calls.actor(0), iter([None, None])
    away.restarts = True
    calls.choose = lambda pending: next(looks, pending[0])
    assert [number for number, _ in pool(away)(batches("ab"))] == [0, 1]


def test_the_work_ends_with_the_message_of_an_engine_if_all_have_given_up(calls: Calls) -> None:
    with pytest.raises(EngineDied, match="has no running engine: exit code -9"):
        list(pool(calls.actor(0, gives_up), calls.actor(1, gives_up))(batches("a")))
    assert calls.sent == [(0, "a"), (1, "a")]


def test_a_batch_with_which_several_engines_give_up_is_not_sent_to_all(calls: Calls) -> None:
    with pytest.raises(
        UserError, match=r"^4 engines of the critic .* 2 requests of a batch, .* the text 'a'; .*exit code -9"
    ):
        list(pool(*(calls.actor(index, gives_up) for index in range(MOST_LOSSES + 3)))(batches("a")))
    assert len(calls.sent) == MOST_LOSSES + 1
