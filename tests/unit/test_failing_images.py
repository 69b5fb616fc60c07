"""An image on which an expert fails costs its own prompt: the others are looked at, and the run goes on."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlrm_ray.config import Detector, Reader
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.experts.attempts import CAREFUL_CALLS
from vlrm_ray.experts.detection import Pixels
from vlrm_ray.experts.failing_images import Answer, Failure, FailureGuard
from vlrm_ray.pipeline import remedies, row_accounting
from vlrm_ray.store import prefetch
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table, to_table
from vlrm_ray.types import Candidate, Detection, ImageCondition, Prompt, Word

BAD = 13
"""Width of the image on which the expert fails."""
WIDTHS = (10, 11, 12, BAD, 14)


class Expert:
    """Its answer is the width of an image; it raises an error on batches with an image of one width."""

    def __init__(self, bad: int | None = BAD, error: type[BaseException] = RuntimeError) -> None:
        self.bad, self.error, self.batches = bad, error, list[list[int]]()

    def look(self, images: Sequence[Pixels]) -> list[Answer]:
        widths = [image.shape[1] for image in images]
        self.batches.append(widths)
        if self.bad is None or self.bad in widths:
            raise self.error("no kernel\nfor this image")
        return [(width,) for width in widths]


class ProcessEnded(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def images(tmp_path: Path) -> list[Prompt]:
    for width in WIDTHS:
        Image.new("RGB", (width, 9)).save(tmp_path / f"{width}.png")
    return [Prompt(str(width), str(tmp_path / f"{width}.png"), f"sha-{width}", "Why?") for width in WIDTHS]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "run"))


def attempts(ledger: Ledger) -> dict[str, int] | None:
    return ledger.get_json("attempts/detector-a1.json")


def reasons(answers: Sequence[Answer]) -> list[str]:
    return [answer.reason if isinstance(answer, Failure) else "" for answer in answers]


# --- exceptions ---------------------------------------------------------------------------------


def test_only_the_image_fails_and_the_order_stays(images: list[Prompt], ledger: Ledger) -> None:
    expert = Expert()
    answers = FailureGuard("detector", ledger).answers(images, 2, expert.look)
    assert reasons(answers) == ["", "", "", "expert_failed: detector: no kernel", ""]
    assert [tuple(answer) for answer in answers] == [(10,), (11,), (12,), (), (14,)]
    assert expert.batches == [[10, 11], [12, BAD], [12], [BAD], [64], [14]]  # 64 is the empty image
    assert not Path(ledger.root).exists()


def test_an_image_that_has_become_unusable_has_its_own_reason(images: list[Prompt], ledger: Ledger) -> None:
    Path(images[1].image).unlink()
    Path(images[4].image).write_bytes(b"cut")
    answers = FailureGuard("reader", ledger).answers(images, 8, Expert(bad=0).look)
    assert reasons(answers) == ["", "image_missing", "", "", "image_undecodable"]
    assert [tuple(answer) for answer in answers] == [(10,), (), (12,), (BAD,), ()]


def test_an_expert_that_fails_on_any_image_ends_the_run(images: list[Prompt], ledger: Ledger) -> None:
    with pytest.raises(UserError, match=r"the detector on node .* fails on any image: for this image") as caught:
        FailureGuard("detector", ledger).answers(images, 2, Expert(bad=None).look)
    assert "\n" not in str(caught.value)


def test_a_storage_error_that_may_pass_quarantines_nothing(
    images: list[Prompt], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(uri: str) -> bytes:
        raise StorageError("slow down")

    monkeypatch.setattr(prefetch, "read_bytes", read)
    with pytest.raises(StorageError, match="slow down"):
        FailureGuard("detector", ledger).answers(images, 2, Expert().look)


def test_an_error_that_the_user_can_fix_is_raised(images: list[Prompt], ledger: Ledger) -> None:
    with pytest.raises(UserError, match="no kernel"):
        FailureGuard("detector", ledger).answers(images, 2, Expert(error=UserError).look)


def test_there_is_a_remedy() -> None:
    assert remedies.for_prompts("expert_failed: detector: no kernel").startswith("look at the experts' logs")


class NoProgress:
    def add(self, stage: str, rows: int, seconds: float) -> None: ...


class FragileDetector(Expert):
    def detect(self, images: Sequence[Pixels]) -> list[list[Detection]]:
        self.look(images)
        return [[] for _ in images]


class FragileReader(Expert):
    def read(self, image: Pixels) -> tuple[Word, ...]:
        self.look([image])
        return (Word("STOP", (0, 0, 5, 5), 0.9),)


def test_the_prompt_is_quarantined_without_its_responses_and_counts_once(images: list[Prompt], ledger: Ledger) -> None:
    from actors.experts import DetectorExpert, TextExpert

    detector, reader = DetectorExpert(Detector(), ledger, NoProgress()), TextExpert(Reader(), ledger, NoProgress())
    detector.__dict__["detector"], reader.__dict__["paddle"] = FragileDetector(bad=13), FragileReader(bad=11)
    rows = [
        Row(0, 1, prompt, part_rows=5, asked=2, candidates=(Candidate(f"c{i}", "A dog.", ImageCondition.GIVEN),),
            sources={f"c{i}": "mine"}, unusable={"given_response_empty": 1})
        for i, prompt in enumerate(images)
    ]  # fmt: skip
    for row in rows:
        row.unused = (
            {row.candidates[0].candidate_id: "no_verifiable_claim"} if row.prompt.prompt_id not in ("11", "13") else {}
        )
    done = from_table(reader(detector(to_table(rows))))
    assert [row.quarantined for row in done] == [
        "", "expert_failed: reader: no kernel", "", "expert_failed: detector: no kernel", "",
    ]  # fmt: skip
    assert [len(row.words) for row in done] == [1, 0, 1, 0, 1]
    _, counted = row_accounting.stage_tables(done)["generate"]
    assert (counted.rows_in, counted.kept, sum(counted.quarantined.values())) == (8, 3, 2)
    again = from_table(reader(detector(to_table(rows))))
    assert again == done
    assert detector.cache.hits == 4  # what failed is not in the cache


# --- processes that end -------------------------------------------------------------------------


def test_an_image_that_ends_the_process_is_given_up_after_two_attempts(images: list[Prompt], ledger: Ledger) -> None:
    expert = Expert(error=ProcessEnded)
    with pytest.raises(ProcessEnded):
        FailureGuard("detector", ledger).answers(images, 8, expert.look)
    assert attempts(ledger) is None
    for _ in range(2):  # Ray starts the actor again, under its old id
        with pytest.raises(ProcessEnded):
            FailureGuard("detector", ledger, "a1").answers(images, 8, expert.look)
    answers = FailureGuard("detector", ledger, "a1").answers(images, 8, expert.look)
    assert reasons(answers) == ["", "", "", "expert_failed: the process of the detector ended", ""]
    assert attempts(ledger) == {"sha-13": 2}


def test_an_image_that_was_given_up_is_not_looked_at_again_by_any_actor(images: list[Prompt], ledger: Ledger) -> None:
    """Once the actor looks at several images at a time again, it would end it as before; and so would others."""
    ledger.put_json("attempts/detector-a1.json", {"sha-13": 2})
    first = FailureGuard("detector", ledger, "a1")
    for _ in range(CAREFUL_CALLS):
        first.answers(images, 8, Expert(error=ProcessEnded).look)
    for guard in (first, FailureGuard("detector", ledger), FailureGuard("detector", ledger, "a2")):
        answers = guard.answers(images, 8, Expert(error=ProcessEnded).look)
        assert reasons(answers) == ["", "", "", "expert_failed: the process of the detector ended", ""]
        assert [answer for answer in answers if answer] == [(10,), (11,), (12,), (14,)]


def test_a_process_that_ended_by_chance_costs_no_image(images: list[Prompt], ledger: Ledger) -> None:
    ledger.put_json("attempts/detector-a1.json", {"sha-11": 1})
    answers = FailureGuard("detector", ledger, "a1").answers(images, 8, Expert(bad=0).look)
    assert reasons(answers) == [""] * 5
    assert attempts(ledger) == {}


def test_an_actor_that_was_started_again_looks_at_single_images_for_a_while(
    images: list[Prompt], ledger: Ledger
) -> None:
    guard, expert = FailureGuard("detector", ledger, "a1"), Expert(bad=0)
    for _ in range(CAREFUL_CALLS):
        guard.answers(images[:2], 8, expert.look)
    assert expert.batches == [[64], *[[10], [11]] * CAREFUL_CALLS]  # the empty image first
    guard.answers(images[:2], 8, expert.look)
    assert expert.batches[-1] == [10, 11]


def test_an_image_on_which_it_raises_then_fails_alone_too(images: list[Prompt], ledger: Ledger) -> None:
    Path(images[0].image).unlink()
    answers = FailureGuard("detector", ledger, "a1").answers(images, 8, Expert().look)
    assert reasons(answers) == ["image_missing", "", "", "expert_failed: detector: no kernel", ""]


class BrokenByAnImage(Expert):
    """One image breaks it for good, as an error of CUDA does."""

    def look(self, images: Sequence[Pixels]) -> list[Answer]:
        try:
            return super().look(images)
        except RuntimeError:
            self.bad = None
            raise


def end_process() -> None:
    raise ProcessEnded


def test_an_image_that_breaks_the_process_for_good_is_given_up_too(images: list[Prompt], ledger: Ledger) -> None:
    for actor in ("", "a1", "a1"):
        with pytest.raises(ProcessEnded):
            FailureGuard("detector", ledger, actor, end_process).answers(images, 2, BrokenByAnImage().look)
    answers = FailureGuard("detector", ledger, "a1", end_process).answers(images, 2, BrokenByAnImage().look)
    assert reasons(answers) == ["", "", "", "expert_failed: the process of the detector ended", ""]


def test_an_expert_that_has_never_answered_ends_the_run_also_in_an_actor(images: list[Prompt], ledger: Ledger) -> None:
    for actor in ("", "a1"):
        with pytest.raises(UserError, match="fails on any image"):
            FailureGuard("detector", ledger, actor, end_process).answers(images, 2, Expert(bad=None).look)
    assert not attempts(ledger)


def test_a_model_that_ends_the_process_while_it_is_loaded_ends_the_run(ledger: Ledger) -> None:
    assert FailureGuard("reader", ledger).load(lambda: 7) == 7
    assert FailureGuard("reader", ledger, "a1").load(lambda: 7) == 7
    ledger.put("attempts/reader-a1.json", json.dumps({"model": 2}).encode())
    with pytest.raises(UserError, match=r"the process of the reader on node .* ends while it loads its model"):
        FailureGuard("reader", ledger, "a1").load(lambda: pytest.fail("it is not loaded again"))


# --- images that are opened ahead ---------------------------------------------------------------


def test_images_come_in_order_whoever_is_read_first(images: list[Prompt], monkeypatch: pytest.MonkeyPatch) -> None:
    read = prefetch.read_bytes
    started = list[str]()

    def slow(uri: str) -> bytes:
        started.append(uri)
        while uri == images[0].image and len(started) < 3:
            pass
        return read(uri)

    monkeypatch.setattr(prefetch, "read_bytes", slow)
    found = list(prefetch.opened_ahead([prompt.image for prompt in images]))
    assert [image.width for image in found if not isinstance(image, BadImage)] == list(WIDTHS)


def test_few_large_images_are_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = list[int]()
    decode = prefetch.decode
    monkeypatch.setattr(prefetch, "decode", lambda data: decoded.append(len(data)) or decode(data))
    names = [str(tmp_path / f"{index}.png") for index in range(12)]
    for name in names:
        Image.fromarray(np.zeros((50, 100, 3), np.uint8)).save(name)  # 20,000 bytes when decoded
    for largest, limit in ((2, 50_000), (1, 10_000)):
        decoded.clear()
        for taken, image in enumerate(prefetch.opened_ahead(names, limit), 1):
            assert not isinstance(image, BadImage)
            assert len(decoded) <= taken + largest


def test_a_caller_that_stops_early_leaves_no_reader_waiting(images: list[Prompt]) -> None:
    found = prefetch.opened_ahead([prompt.image for prompt in images] * 20, limit=1)
    next(found)
    found.close()  # type: ignore[attr-defined]
