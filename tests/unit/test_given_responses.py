"""Responses that users bring: the formats they come in, what becomes of bad ones, and rounds without a policy."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.fleet import Fleet
from tests.unit.made_up import FakeBoard, candidate
from tests.unit.test_refused_requests import PickyEngine
from tests.unit.test_stages import Board, FakeActor, pool
from vlrm_ray.config import Config, Pairing, load
from vlrm_ray.errors import UserError
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline import prompt_rows, remedies, resource_plan, row_accounting
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.prompt_rows import EMBEDDED, prompt_of_row
from vlrm_ray.pipeline.prompts import prompts_of_round, read_source
from vlrm_ray.pipeline.stages import Commit, Generate, Ingest, prompt_table
from vlrm_ray.preferences.pairing import make_pairs
from vlrm_ray.report.gallery import prompt_card
from vlrm_ray.report.images import ImageEmbedder
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_formats import MAX_CHARACTERS, row_fields
from vlrm_ray.store.rows import GIVEN, Row, from_table, to_table
from vlrm_ray.types import GivenResponse, ImageCondition, Prompt, PromptRef, Verdict

FORMATS = Path(__file__).parents[1] / "data" / "formats"
QUESTIONS = ["Describe the image.", "What is in the bottom right corner?"]
RIGHT = ["There is an orange triangle and a sign that says EXIT.", "There is a blue triangle."]
WRONG = ["There is a blue triangle and a sign that says STOP.", "There is a red circle."]
SIDES = ("chosen", "rejected")


def refs_of_round(source: Path, folder: Path, *overrides: str) -> list[PromptRef]:
    """The prompts of round 1, in the order of the file."""
    config = load(None, [f"prompts.source={source}", *overrides])
    refs = prompts_of_round(config, 1, Ledger(str(folder / "run")))
    return sorted(refs, key=lambda ref: QUESTIONS.index(ref.question) if ref.question in QUESTIONS else 9)


def write(folder: Path, rows: list[Any]) -> Path:
    (folder / "a.png").write_bytes((FORMATS / "images" / "first.jpg").read_bytes())
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(*responses: Any, question: str = QUESTIONS[0]) -> dict[str, Any]:
    return {"image": "a.png", "question": question, "responses": list(responses)}


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "recognized", "sources"),
    [
        ("own.jsonl", None, None),
        ("trl_conversational.parquet", "TRL (prompt, chosen, rejected) 2", SIDES),
        ("trl_plain.jsonl", "TRL (prompt, chosen, rejected) 2", SIDES),
        ("trl_implicit_prompt.jsonl", "TRL (chosen, rejected) 2", SIDES),
        ("llamafactory_pairs.json", "ShareGPT (conversations, chosen, rejected) 2", SIDES),
        ("llamafactory_sft.json", "ShareGPT (messages) 2", ("assistant",)),
        ("rlaif_v.parquet", "RLAIF-V (question, chosen, rejected) 2", SIDES),
        ("vlfeedback.jsonl", "VLFeedback (prompt, completions) 2", ("llava-7b", "qwen-vl-chat")),
        ("vlfeedback.parquet", "VLFeedback (prompt, completions) 2", ("llava-7b", "qwen-vl-chat")),
    ],
)
def test_a_format_is_recognized_by_its_fields(
    name: str, recognized: str | None, sources: tuple[str, ...] | None, tmp_path: Path
) -> None:
    refs = refs_of_round(FORMATS / name, tmp_path)
    assert [ref.question for ref in refs] == QUESTIONS
    for ref, file, right, wrong in zip(refs, ("first.jpg", "second.jpg"), RIGHT, WRONG, strict=True):
        assert sha256_of(Path(ref.image).read_bytes()) == sha256_of((FORMATS / "images" / file).read_bytes())
        assert [response.text for response in ref.responses] == [right, wrong][: len(sources or "ab")]
        if sources:
            assert tuple(response.source for response in ref.responses) == sources
    remarks = read_source(str(FORMATS / name), "").remarks
    assert remarks[0].endswith(f"read as {recognized}" if recognized else "the rows bring 4 responses")


def test_the_own_format_takes_texts_and_texts_with_a_source() -> None:
    fields = row_fields(row("a", {"text": "b", "source": "m"}, {"text": "c"}) | {"response": "d"})
    assert [(r.text, r.source) for r in fields.responses] == [("a", ""), ("b", "m"), ("c", ""), ("d", "")]


@pytest.mark.parametrize(
    ("fields", "question", "sources"),
    [
        ({"prompt": "Q", "completion": "A"}, "Q", ["completion"]),
        ({"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]}, "Q", ["completion"]),
        ({"prompt": "<image>\nQ"}, "Q", []),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, "Q", ["gpt"]),
        ({"prompt": "Q", "completions": [{"response": "A", "model": "m"}], "responses": ["B"]}, "Q", ["m", ""]),
        ({"prompt": "Q", "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}, "Q", ["chosen"]),
        ({"question": "Q", "prompt": "other", "chosen": None, "rejected": None}, "Q", []),
    ],
)  # fmt: skip
def test_further_shapes_of_these_formats(fields: dict[str, Any], question: str, sources: list[str]) -> None:
    found = row_fields(fields)
    assert (found.question, found.problem) == (question, "")
    assert [response.source for response in found.responses] == sources


# --- bad rows and bad responses -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"question": "Q", "responses": "one text"}, "responses_not_a_list"),
        ({"question": "Q", "responses": 5}, "responses_not_a_list"),
        ({"question": "Q", "responses": {"text": "a"}}, "responses_not_a_list"),
        ({"prompt": "Q", "completions": "text"}, "completions_not_a_list"),
        ({"conversations": "text"}, "messages_not_a_list"),
        ({"messages": ["text"]}, "message_not_an_object"),
        ({"messages": []}, "question_missing"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}] * 2}, "several_turns"),
        ({"prompt": [{"role": "assistant", "content": "A"}]}, "several_turns"),
        ({"prompt": " ", "chosen": "A", "rejected": "B"}, "question_missing"),
        ({"prompt": 5, "chosen": "A", "rejected": "B"}, "question_not_text"),
        ({"chosen": "A", "rejected": "B"}, "question_missing"),
        ({"question": "x" * (MAX_CHARACTERS + 1)}, "question_too_long"),
    ],
)
def test_a_row_that_cannot_be_used_has_a_reason(fields: dict[str, Any], problem: str) -> None:
    ref, _ = prompt_of_row(fields | {"image": "a.png"}, "/data/p.jsonl")
    assert (ref.problem, ref.responses) == (problem, ())
    assert len(ref.question) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (None, "given_response_empty"),
        ("", "given_response_empty"),
        (" \n", "given_response_empty"),
        ({"text": None, "source": "m"}, "given_response_empty"),
        ({"source": "m"}, "given_response_empty"),
        (5, "given_response_not_text"),
        (["a"], "given_response_not_text"),
        ({"text": {"a": 1}}, "given_response_not_text"),
        ("x" * (MAX_CHARACTERS + 1), "given_response_too_long"),
        ("a\0b", "given_response_with_invalid_characters"),
        ("a\ud83d", "given_response_with_invalid_characters"),
    ],
)
def test_a_response_that_cannot_be_used_is_counted_and_the_others_are_used(
    response: Any, problem: str, tmp_path: Path
) -> None:
    source = write(tmp_path, [row("a dog", response, "a cat")])
    (ref,) = refs_of_round(source, tmp_path)
    assert [(r.text, r.problem) for r in ref.responses] == [("a dog", ""), ("", problem), ("a cat", "")]
    (remark,) = read_source(str(source), "").remarks
    assert remark.endswith(f"the rows bring 2 responses; 1 more cannot be used and are dropped ({problem} 1)")
    (made,) = generated([ref], tmp_path)
    assert row_accounting._candidates([made])[1].as_json() == {
        "in": 3,
        "kept": 2,
        "dropped": {problem: 1},
        "quarantined": {},
    }


def test_a_row_of_the_wrong_type_is_named_with_what_was_expected(tmp_path: Path) -> None:
    source = write(tmp_path, [row("a dog"), row("x") | {"responses": 7}])
    remark = read_source(str(source), "").remarks[-1]
    assert "1 of 2 rows cannot be used and are quarantined (responses_not_a_list 1)" in remark
    assert "row 2: expected a list in 'responses', of texts or of {text, source}, got" in remark


def test_rows_with_the_same_prompt_add_their_responses(tmp_path: Path) -> None:
    source = write(tmp_path, [row("a dog"), row("a cat", question="Why?"), row("a bird"), row("a dog")])
    refs = refs_of_round(source, tmp_path)
    assert [[r.text for r in ref.responses] for ref in refs] == [["a dog", "a bird", "a dog"], ["a cat"]]
    assert "2 rows with the image and question of an earlier row" in " ".join(read_source(str(source), "").remarks)
    (made, _) = generated(refs, tmp_path)
    assert len({c.candidate_id for c in made.candidates}) == 3
    _, unused = make_pairs(made.prompt, made.candidates, Pairing())
    assert unused[made.candidates[2].candidate_id] == "duplicate_text"


def test_only_the_rounds_prompts_get_their_responses(tmp_path: Path) -> None:
    source = write(tmp_path, [row(f"{i}", question=f"{i}?") for i in range(9)])
    refs = refs_of_round(source, tmp_path, "prompts.per_round=4")
    assert [(ref.question, ref.responses[0].text) for ref in refs] == [(f"{i}?", str(i)) for i in (0, 2, 4, 8)]
    assert all(ref.responses == () for ref in read_source(str(source), ""))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, [row("a dog"), row("a cat", question="Why?")])
    refs_of_round(source, tmp_path)
    write(tmp_path, [row("a cat", question="Why?"), row("a dog")])
    with pytest.raises(UserError, match="row 1 has changed since the run began"):
        refs_of_round(source, tmp_path)


@pytest.mark.parametrize("name", ["my photo.png", "50%.png", "c#d.png", "фото 1.png", "图片.png", "a%20b.png"])
def test_an_image_may_have_any_name(name: str, tmp_path: Path) -> None:
    source = write(tmp_path, [row("a dog") | {"image": name}])
    (tmp_path / name).write_bytes((FORMATS / "images" / "first.jpg").read_bytes())
    (made,) = generated(refs_of_round(source, tmp_path), tmp_path)
    assert (made.quarantined, made.prompt.image) == ("", str(tmp_path / name))


def test_images_in_rows_come_from_a_folder_if_one_is_given(tmp_path: Path) -> None:
    for folder, expected in (("/photos", "/photos/a.png"), ("", "/data/a.png"), ("s3://b/c", "s3://b/c/a.png")):
        assert prompt_of_row(row("a dog"), "/data/p.jsonl", folder)[0].image == expected
    embedded = row("a dog") | {"image": {"bytes": b"x", "path": "a.png"}}
    assert prompt_of_row(embedded, "/data/p.jsonl", "/photos")[0].image == f"{EMBEDDED}{sha256_of(b'x')}"


# --- stages -------------------------------------------------------------------------------------


def generated(refs: list[PromptRef], folder: Path, *overrides: str, engine: PickyEngine | None = None) -> list[Row]:
    """The rows of some prompts after ingest and generate; without an engine there is no policy."""
    config = load(None, list(overrides) if engine else ["policy.samples=0", *overrides])
    rows = Ingest(1, config, Board(), Ledger(str(folder)))(prompt_table(0, refs))  # type: ignore[arg-type]
    actors = [FakeActor(engine)] if engine else []
    return from_table(asyncio.run(Generate(config, pool(*actors), None, "")(rows)))


def given(folder: Path, *texts: str, source: str = "") -> PromptRef:
    (folder / "a.png").write_bytes((FORMATS / "images" / "first.jpg").read_bytes())
    return PromptRef(str(folder / "a.png"), "fine", "", tuple(GivenResponse(text, source) for text in texts))


def test_given_responses_become_candidates_without_a_policy(tmp_path: Path) -> None:
    (made,) = generated([given(tmp_path, "a dog", "a cat", source="chosen")], tmp_path)
    assert [(c.text, c.condition) for c in made.candidates] == [
        ("a dog", ImageCondition.GIVEN),
        ("a cat", ImageCondition.GIVEN),
    ]
    assert [made.sources[c.candidate_id] for c in made.candidates] == ["chosen", "chosen"]
    assert made.asked == 2


def test_samples_of_the_policy_are_added_and_stay_the_same(tmp_path: Path) -> None:
    (alone,) = generated([given(tmp_path)], tmp_path, "policy.samples=2", engine=PickyEngine())
    (both,) = generated([given(tmp_path, "a dog")], tmp_path, "policy.samples=2", engine=PickyEngine())
    assert [c.condition.value for c in both.candidates] == ["given", "full", "full", "image_free", "image_degraded"]
    assert both.candidates[1:] == alone.candidates


def test_without_policy_and_response_a_prompt_is_quarantined(tmp_path: Path) -> None:
    made = generated([given(tmp_path, "a dog"), given(tmp_path)], tmp_path)
    assert [r.quarantined for r in made] == ["", prompt_rows.NO_RESPONSE]
    assert "policy.samples" in remedies.for_prompts(prompt_rows.NO_RESPONSE)


def test_a_part_without_given_responses_is_stored_as_before(tmp_path: Path) -> None:
    stored = {}
    for name, refs in (("without", [given(tmp_path)]), ("with", [given(tmp_path, "a dog", source="m")])):
        ledger = Ledger(str(tmp_path / name))
        (made,) = generated(refs, tmp_path, engine=PickyEngine())
        made.unused = dict.fromkeys((c.candidate_id for c in made.candidates), "no_partner")
        Commit(Config(), ledger)(to_table([made]).drop_columns("given"))
        stored[name] = [set(ledger.get_part(1, table, 0).column_names) for table in ("rows", "generate")]
    assert not stored["without"][0] & set(GIVEN)
    assert stored["with"][0] - stored["without"][0] == set(GIVEN)
    assert stored["with"][1] - stored["without"][1] == {"source"}


def test_verification_decides_and_not_the_label_of_the_data() -> None:
    bad, good = candidate("c0", "It is red.", Verdict.CONTRADICTED), candidate("c1", "It is blue!", Verdict.SUPPORTED)
    labelled_chosen, labelled_rejected = (
        type(c)(c.candidate_id, c.text, ImageCondition.GIVEN, c.claims) for c in (bad, good)
    )
    ((pair,), unused) = make_pairs(Prompt("p", "a.png", "0", "Q"), (labelled_chosen, labelled_rejected), Pairing())
    assert (pair.chosen.text, pair.rejected.text, unused) == ("It is blue!", "It is red.", {})


def test_the_gallery_names_the_source_of_a_response(tmp_path: Path) -> None:
    (made,) = generated([given(tmp_path, "a dog", source="llava-7b")], tmp_path)
    (response,) = prompt_card(made, ImageEmbedder(Ledger(str(tmp_path)), 10_000_000)).responses
    assert (response.condition, response.source) == ("given", "llava-7b")


# --- before Ray starts --------------------------------------------------------------------------


def test_a_run_without_a_policy_needs_no_policy_model_and_plans_no_engine_for_it(tmp_path: Path) -> None:
    source = write(tmp_path, [row("a dog", "a cat")])
    config = load(None, ["policy.samples=0", "policy.model=./nowhere", f"prompts.source={source}"])
    assert "the rows bring 2 responses" in " ".join(check_inputs(config))
    roles = [request.role for request in resource_plan.resource_requests(config)]
    assert "policy generator" not in roles
    assert "policy generator" in [request.role for request in resource_plan.resource_requests(Config())]


@pytest.mark.parametrize(("samples", "expected"), [(0, ["critic-0"]), (1, ["policy-0", "critic-0"])])
def test_a_fleet_without_a_policy_starts_no_actor_for_it(
    samples: int, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    actor = SimpleNamespace(remote=lambda name, *_: started.append(name))
    monkeypatch.setattr(Fleet, "_remote", lambda *_: actor)
    config = load(None, [f"policy.samples={samples}", "critic.engine.actors=1", "policy.engine.actors=1"])
    Fleet(config, Ledger(str(tmp_path)), board=FakeBoard()).launch()
    assert started == expected


@pytest.mark.parametrize("source", ["scenes", "folder", "prompts without responses"])
def test_neither_policy_nor_responses_is_refused(source: str, tmp_path: Path) -> None:
    file = write(tmp_path, [{"image": "a.png", "question": "Why?"}])
    name = {"scenes": source, "folder": str(tmp_path)}.get(source, str(file))
    with pytest.raises(UserError, match=r"policy\.samples is 0, and no row of prompts\.source") as error:
        check_inputs(load(None, ["policy.samples=0", f"prompts.source={name}"]))
    assert "\n" not in str(error.value)


def test_a_struct_of_lists_with_unequal_lengths_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    rows = [{"prompt": "Q", "image": "a.png", "completions": {"model": ["m"], "response": ["a", "b"]}}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(UserError, match="completions_not_a_list 1"):
        read_source(str(path), "")
