"""The stages of the graph, called without Ray: what they read, what they write, and how they call engines."""

import asyncio
import socket
import types
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from tests.unit.test_refused_requests import GOOD, PickyEngine
from vlrm_ray.config import Config, load
from vlrm_ray.config_sections import Engine
from vlrm_ray.engines import (
    REFUSED,
    TOO_LONG,
    Completion,
    LoadReport,
    Request,
    Sampling,
    generate_isolated,
    score_isolated,
)
from vlrm_ray.errors import UserError
from vlrm_ray.experts.attempts import MOST_ATTEMPTS
from vlrm_ray.pipeline import row_accounting
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages import (
    Commit,
    Critique,
    EnginePool,
    Generate,
    Ingest,
    SelfLabel,
    Tally,
    VerifyAndPair,
    engine_pool,
    ingest,
    prompt_table,
)
from vlrm_ray.pipeline.stages.critics import BASE, Critics
from vlrm_ray.pipeline.stages.generate import finished_text
from vlrm_ray.preferences.pairing import make_pairs
from vlrm_ray.reward.training.training_data import TrainingPairs
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table, to_table
from vlrm_ray.types import Candidate, Detection, ImageCondition, Pair, Prompt, PromptRef


class Board:
    def add(self, *_: object) -> None: ...


class FakeActor:
    """Stands for the handle of an engine's actor.

    Attributes:
        busy: number of requests that are being answered.
        most: largest number of them at a time.
    """

    def __init__(self, engine: PickyEngine, seconds: float = 0.0) -> None:
        self.engine, self.seconds, self.busy, self.most = engine, seconds, 0, 0
        self.generate = _method(partial(self._answer, generate_isolated))
        self.load_report = _method(self._report)
        self.score = _method(partial(self._answer, score_isolated))

    async def _report(self) -> LoadReport:
        return LoadReport(self.busy)

    async def _answer(self, answer: Any, requests: Sequence[Request], *sampling: Sampling) -> Any:
        self.busy += len(requests)
        self.most = max(self.most, self.busy)
        await asyncio.sleep(self.seconds)
        self.busy -= len(requests)
        return answer(self.engine, requests, *sampling)


def _method(remote: Any) -> Any:
    method = types.SimpleNamespace(remote=remote)
    method.options = lambda **_: method
    return method


def pool(*actors: FakeActor, reproducible: bool = True, timeout: float = 60.0) -> EnginePool:
    return EnginePool(
        "policy", dict(enumerate(actors)), Board(), engine=Engine(reproducible=reproducible), timeout=timeout
    )  # type: ignore[arg-type]


def critique_stage(config: Config, writer: FakeActor, judge: FakeActor | None = None) -> Critique:
    """The stage with one engine, or with one that writes and another, of the newest version, that judges."""
    actors = StageActors((), (), object, object, Board())  # type: ignore[arg-type]
    writers = pool(writer)
    return Critique(config, Critics({BASE: writers}, pool(judge) if judge else writers), actors)


def run(stage: Any, table: pa.Table) -> list[Row]:
    return from_table(asyncio.run(stage(table)))


def rows(*questions: str) -> pa.Table:
    return to_table(
        [Row(0, 1, Prompt(f"p{i}", "a.png", "0", question), "", len(questions)) for i, question in enumerate(questions)]
    )


def paired_rows(*texts: str) -> pa.Table:
    """Rows with one pair each; the critic refuses what has certain words in it."""
    made = from_table(rows(*(["fine"] * len(texts))))
    for row, text in zip(made, texts, strict=True):
        good, bad = (
            Candidate(f"{row.prompt.prompt_id}{name}", words, ImageCondition.FULL)
            for name, words in (("good", "The circle is red."), ("bad", text))
        )
        row.candidates, row.pairs, row.asked = (good, bad), (Pair(f"pair{row.prompt.prompt_id}", good, bad),), 2
    return to_table(made)


def counts(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    return {stage: counted.as_json() for stage, (_, counted) in row_accounting.stage_tables(rows).items()}


# --- single stages ------------------------------------------------------------------------------


def test_a_prompt_with_a_problem_is_quarantined_without_opening_its_image(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    refs = [
        PromptRef(str(tmp_path / "a.png"), "Why?"),
        PromptRef("", "", "question_missing"),
        PromptRef("b.png", "Why?"),
    ]
    made = from_table(Ingest(1, Config(), Board(), Ledger(str(tmp_path)))(prompt_table(0, refs)))  # type: ignore[arg-type]
    assert [row.quarantined for row in made] == ["", "question_missing", "image_missing"]
    assert {row.part_rows for row in made} == {3}


def test_an_image_that_ends_the_process_that_decodes_it_is_given_up_after_two_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Data starts the actor again without end, and repeats the part each time."""
    store = Ledger(str(tmp_path / "run"))
    for name in "abc":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    table = prompt_table(0, [PromptRef(str(tmp_path / f"{name}.png"), "Why?") for name in "abc"])
    read = ingest.ingest_image

    def deadly(image: str, *rest: Any) -> tuple[str, str]:
        if image.endswith("b.png"):
            raise KeyboardInterrupt  # stands for the end of the process
        return read(image, *rest)

    monkeypatch.setattr(ingest, "ingest_image", deadly)
    monkeypatch.setattr(ingest, "restarted_actor", lambda: "a1")
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            Ingest(1, Config(), Board(), store)(table)  # type: ignore[arg-type]
    for actor in ("a1", "", "a2"):
        monkeypatch.setattr(ingest, "restarted_actor", lambda actor=actor: actor)
        rows = from_table(Ingest(1, Config(), Board(), store)(table))  # type: ignore[arg-type]
        assert [row.quarantined for row in rows] == ["", "image_ends_the_process", ""]


def test_a_node_that_finds_no_image_ends_the_run_and_names_itself(tmp_path: Path) -> None:
    """It would quarantine the images that it happens to get, and a run of many nodes would go on without them."""
    stage = Ingest(1, Config(), Board(), Ledger(str(tmp_path / "run")))  # type: ignore[arg-type]
    absent = [PromptRef(str(tmp_path / f"{i}.png"), "Why?") for i in range(10)]
    asked_often = [PromptRef(absent[0].image, f"{i}?") for i in range(40)]
    odd = PromptRef("", "Why?", "image_path_not_text")
    message = rf"node {socket.gethostname()} finds none of the 10 images of a part, such as {tmp_path}/0\.png: mount"
    for refs in (absent, [*absent, odd]):
        with pytest.raises(UserError, match=message):
            stage(prompt_table(0, refs))
    Image.new("RGB", (8, 8)).save(tmp_path / "there.png")
    for refs in ([*absent, PromptRef(str(tmp_path / "there.png"), "Why?")], absent[:9], asked_often):
        assert "image_missing" in {row.quarantined for row in from_table(stage(prompt_table(0, refs)))}
    tolerant = Ingest(1, load(None, ["quarantine_limit=1"]), Board(), Ledger(str(tmp_path / "run")))  # type: ignore[arg-type]
    assert len(from_table(tolerant(prompt_table(0, absent)))) == 10


def test_a_refused_prompt_is_quarantined_and_the_others_are_answered() -> None:
    generate = Generate(load(None, ["policy.samples=2"]), pool(FakeActor(PickyEngine())), None, "")
    done = run(generate, rows("fine", "LONG", "ODD", "well"))
    assert [row.quarantined for row in done] == ["", TOO_LONG, f"{REFUSED}: StopIteration", ""]
    assert [len(row.candidates) for row in done] == [4, 0, 0, 4]
    assert row_accounting._candidates(done)[1].as_json() == {
        "in": 10, "kept": 8, "dropped": {}, "quarantined": {TOO_LONG: 1, f"{REFUSED}: StopIteration": 1},
    }  # fmt: skip


def test_a_refusal_is_not_cached(tmp_path: Path) -> None:
    config, ledger = load(None, ["policy.image_free=0", "policy.image_degraded=0"]), Ledger(str(tmp_path))
    engine = PickyEngine()
    for texts in ([["fine", "LONG"], ["fine"], ["LONG"]], [["LONG"]]):
        engine.calls.clear()
        done = run(Generate(config, pool(FakeActor(engine)), ledger, "m"), rows("fine", "LONG"))
        assert engine.calls == texts
        assert [row.quarantined for row in done] == ["", TOO_LONG]


@pytest.mark.parametrize("critique_format", ["compact", "direct"])
def test_a_refused_critique_quarantines_its_pair_only(critique_format: str) -> None:
    config = load(None, [f"critic.format={critique_format}", "critic.k=2"])
    done = run(
        critique_stage(config, FakeActor(PickyEngine())), paired_rows("It is blue.", "It is LONG.", "It is blue.")
    )
    k = 2 if critique_format == "compact" else 1
    assert [len(row.pairs[0].chosen_critiques) for row in done] == [k, k, k]
    assert [len(row.pairs[0].rejected_critiques) for row in done] == [k, 0, k]
    assert done[1].rejected == {"pairp1": TOO_LONG}
    found = counts(done)
    assert (found["critique"]["in"], found["critique"]["quarantined"]) == (5 * k + 1, {TOO_LONG: 1})
    assert (found["select"]["in"], found["select"]["quarantined"]) == (3, {TOO_LONG: 1})


def test_the_writer_of_critiques_is_not_told_of_doubtful_detections() -> None:
    rows = from_table(paired_rows("It is blue."))
    circle, star = (Detection(name, (10, 10, 40, 40), 0.9, "red") for name in ("circle", "star"))
    rows[0].width, rows[0].height = 100, 100
    rows[0].objects = (Detection("square", (70, 70, 90, 90), 0.9, "blue"), circle, star)
    (row,) = run(critique_stage(load(None, ["critic.k=1"]), FakeActor(PickyEngine())), to_table(rows))
    assert row.pairs[0].chosen_critiques[0].text.startswith("Seen: blue square bottom right. ")


def test_a_candidate_whose_critique_is_refused_is_in_no_pair() -> None:
    config = load(None, ["pairing.labels=self"])
    (row,) = run(SelfLabel(config, pool(FakeActor(PickyEngine()))), paired_rows("LONG"))
    assert [candidate.reward for candidate in row.candidates] == [GOOD.yes, None]
    pairs, unused = make_pairs(row.prompt, row.candidates, config.pairing)
    assert (pairs, unused) == ([], {"p0good": "no_partner", "p0bad": "no_verifiable_claim"})


def test_a_candidate_that_is_too_long_to_be_read_is_not_chosen_and_is_counted() -> None:
    texts = {"unread": "There is a circle. " * 1200, "wrong": "There is no circle."}
    made = Row(0, 1, Prompt("p", "a.png", "0", "What is there?"), asked=2, width=128, height=128)
    made.objects = (Detection("circle", (8, 8, 40, 40), 0.99, "red"),)
    made.candidates = tuple(Candidate(name, text, ImageCondition.FULL) for name, text in texts.items())
    stage = VerifyAndPair(Config(), StageActors((), (), object, object, Board()))  # type: ignore[arg-type]
    done = from_table(stage(to_table([made])))
    assert [(c.candidate_id, c.fully_read, c.contradicted) for c in done[0].candidates] == [
        ("unread", False, False), ("wrong", True, True),
    ]  # fmt: skip
    assert counts(done)["pair"] == {
        "in": 2, "kept": 0, "dropped": {"claims_incomplete": 1, "no_partner": 1}, "quarantined": {},
    }  # fmt: skip


# --- engines ------------------------------------------------------------------------------------


def test_a_reproducible_part_is_one_batch_to_one_engine() -> None:
    actors = [FakeActor(PickyEngine()), FakeActor(PickyEngine())]
    config = load(None, ["policy.image_free=0", "policy.image_degraded=0"])
    run(Generate(config, pool(*actors), None, ""), rows("a", "b", "c"))
    assert [actor.engine.calls for actor in actors] == [[["a", "b", "c"]], []]


def test_otherwise_requests_spread_evenly_over_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_pool, "REQUESTS_PER_CALL", 1)
    actors = [FakeActor(PickyEngine(), 0.01) for _ in range(3)]
    config = load(None, ["policy.image_free=0", "policy.image_degraded=0"])
    run(Generate(config, pool(*actors, reproducible=False), None, ""), rows(*"abcdefghi"))
    assert [actor.most for actor in actors] == [3, 3, 3]
    assert sorted(len(actor.engine.calls) for actor in actors) == [3, 3, 3]


def test_a_slow_engine_gets_fewer_requests() -> None:
    fast, slow = FakeActor(PickyEngine(), 0.01), FakeActor(PickyEngine(), 0.4)
    engines = pool(fast, slow, reproducible=False)

    async def send() -> None:
        limit = asyncio.Semaphore(4)

        async def one(text: str) -> None:
            async with limit:
                await engines.generate("generate", 0, [Request(text, None)], Sampling(8))

        await asyncio.gather(*(one(str(i)) for i in range(40)))

    asyncio.run(send())
    assert len(slow.engine.calls) <= 6
    assert len(fast.engine.calls) >= 34


def test_an_engine_that_does_not_answer_is_named() -> None:
    engines = pool(FakeActor(PickyEngine(), 9.0), timeout=0.05)
    with pytest.raises(
        UserError, match=r"^policy-0: no answer within 0\.05 s while waiting for answers of the stage x;"
    ):
        asyncio.run(engines.generate("x", 0, [Request("a", None)], Sampling(8)))


# --- commit -------------------------------------------------------------------------------------


def test_a_part_is_committed_and_only_its_tally_is_returned(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    critique = critique_stage(load(None, ["critic.k=1"]), FakeActor(PickyEngine()))
    done = run(critique, paired_rows("It is blue.", "It is LONG."))
    done[1].quarantined = f"{REFUSED}: x"
    table = Commit(load(), ledger)(to_table(done))
    assert Tally.of_table(table) == [
        Tally(0, 2, {f"{REFUSED}: x": 1}, f"a.png, 'fine': {REFUSED}: x", 2, {TOO_LONG: 1})
    ]
    assert table.nbytes < 2000
    assert from_table(ledger.get_part(1, "rows", 0)) == done
    marker = ledger.part_markers(1)[0]
    assert marker["row_counts"]["select"]["rows_in"] == 2
    assert marker["first_quarantined"] == f"a.png, 'fine': {REFUSED}: x"


@pytest.mark.parametrize("size", [1, 3])
def test_a_split_part_is_never_committed(size: int, tmp_path: Path) -> None:
    table = rows("a", "b", "c")
    broken = table.slice(0, 1) if size == 1 else pa.concat_tables([table.slice(0, 2), rows("d")])
    ledger = Ledger(str(tmp_path))
    if size == 3:
        broken = broken.set_column(0, "part", pa.array([0, 0, 1]))
    with pytest.raises(AssertionError, match="expected 3 of one"):
        Commit(load(), ledger)(to_table(from_table(broken)))
    assert ledger.parts(1) == []


def test_training_reads_only_the_pairs_that_it_asks_for(tmp_path: Path) -> None:
    ledger, config = Ledger(str(tmp_path)), load(None, ["critic.k=1", "selection.margin=-1"])
    for part in range(3):
        table = paired_rows("It is blue.", "It is green.")
        made = run(critique_stage(config, FakeActor(PickyEngine())), table)
        for row in made:
            row.part = part
        Commit(config, ledger)(to_table(made))
    data = TrainingPairs(ledger, 1)
    assert len(data) == 6
    found = data.read({5, 0})
    assert {index: pair.rejected for index, pair in found.items()} == {0: "It is blue.", 5: "It is green."}
    assert ledger.get_part(1, "select", 0).column_names[:3] == ["pair_id", "image", "sha256"]


@pytest.mark.parametrize(
    ("text", "cut", "finished"),
    [
        ("A cat. A dog", False, "A cat. A dog"),
        ("A cat. A dog", True, "A cat."),
        ('It says "STOP!" There are two', True, 'It says "STOP!"'),
        ("A cat, a dog and 2.5", True, ""),
        ("<think>Is it a cat? Yes.</think>\n\nA cat.", False, "A cat."),
        ("<think>Is it a cat? It may", True, ""),
    ],
)
def test_a_response_that_was_cut_ends_with_its_last_whole_sentence_and_without_thoughts(
    text: str, cut: bool, finished: str
) -> None:
    assert finished_text(Completion(text, cut=cut)) == finished
