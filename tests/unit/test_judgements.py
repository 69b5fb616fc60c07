"""Judgements in the texts of models: how they are worded, and at which token their probabilities are read."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrm_ray.engines import LabelTokens, label_tokens
from vlrm_ray.evaluation.benchmarks.judging import _vote
from vlrm_ray.preferences.critique import format_critique, parse_critique
from vlrm_ray.preferences.judgement import find_judgement, judgement_token

LABELS = {"YES": True, "NO": False, "NONE": None}
REPORTED = Path(__file__).parents[1] / "data" / "cases" / "10" / "wordings.tsv"
"""Wordings that users have reported, each with its label."""


def reported() -> list[tuple[str, bool | None]]:
    rows = [line.split("\t") for line in REPORTED.read_text().splitlines()]
    return [(text.replace("\\n", "\n"), LABELS[label]) for text, label in rows]


@pytest.mark.parametrize(("text", "judgement"), reported())
def test_reported_wordings_are_read(text: str, judgement: bool | None) -> None:
    assert parse_critique(text).judgement is judgement
    assert parse_critique(f"Seen: a. Check: b. {text}").judgement in (judgement, None)


@pytest.mark.parametrize(
    "text",
    [
        "Final judgement: Yes", "**Final Answer:** Yes", "Yes - all claims agree", "JUDGEMENT: YES", "Judgement: [Yes]",
        "My answer is: yes", "Judgement [Yes/No]: Yes", "Judgement:\n\n**Yes**", "<answer>Yes</answer>",
        '{"judgement": "Yes", "reason": "all agree"}', "Judgement: $\\boxed{\\text{Yes}}$", "> **Judgement: Yes**",
        "Judgement: Yes (all claims agree)", "Judgement: Yes the response agrees", "Judgement: Yes, no claim is wrong.",
        "The claims agree. So: **Yes**", "Seen: sign JUDGEMENT: NO top left. Check: x. Judgement: Yes",
        "Seen: a. Check: Verdict: no. Judgement: Yes", "Verdict: no. Final verdict: Yes", "Judgement: ✅ Yes",
        " \n yes \n ", "Judgement: Yes</s>", "Judgement: Yes\nJudgement: Yes", "'Yes.'", "Judgement - YES",
    ],
)  # fmt: skip
def test_a_yes_in_other_words_is_read(text: str) -> None:
    assert parse_critique(text).judgement is True


@pytest.mark.parametrize(
    "text",
    [
        "Final Judgment: **No**", "Overall judgement — No", "**Verdict:** no.", "**No**", "Answer: no.", "judgment = no",
        "The answer is No.", "No, because the circle is blue.", "No. The circle is blue.", "Judgement: _No_",
        "Judgement:No", "Judgement：No", "Judgement: `No`", "Judgement: (No)", "Judgement (Yes or No): No",
        "**Judgement**\n\nNo.", "## Final Judgment\n\n**No**\n\nThe sign says STOP.", "<judgement>No</judgement>",
        "\\boxed{No}", "- Judgement: No", "Judgement is No", "Judgement: No (the circle is not red)",
        "Judgement: No because it is blue", "Judgement: No the circle is blue", "Judgement: No, there is no circle.",
        "Judgement: No, but the count is right.", "Judgement: the answer is No", "The circle is blue.\n\nNo.",
        "The circle is blue. Therefore, no.", "Seen: a. Check: b. Judgement: Yes. Judgement: No",
        "Seen: a. Check: b. Verdict: No", "Check: a\n**Verdict:** No\n\nBlue.", "Judgement? No.", "Conclusion: No.",
        "Judgement: No. In my judgement no circle is red.", "Judgement: No. The response's answer: blue", '"No"', "(No)",
    ],
)  # fmt: skip
def test_a_no_in_other_words_is_read(text: str) -> None:
    assert parse_critique(text).judgement is False


@pytest.mark.parametrize(
    "text",
    [
        "Judgement: Yes or No", "Judgement: Yes and no", "Judgement: yes, no", "Judgement: No. Yes.", "Judgement: Yes No",
        'Judgement: "Yes" or "No"', "Judgement: [Yes/No]", "Judgement: Yes | No", "Judgement: No/Yes", "answer: yes/no",
        "Judgement: No\n\nYes, the circle is blue.", "Yes. The circle is red.\n\nNo.", "I cannot answer yes or no",
        "Judgement: Yes, wait, no", "Judgement: Yes. However, the sign is wrong.", "Judgement: Yes, but it is blue.",
        "Judgement: No errors found", "Judgement: No claim is contradicted", "Judgement: No-one is there", "1. No",
        "Judgement: No. 5 is a circle", "Judgement: No 5", "Judgement: Not sure", "Judgement: None", "Judgement: N/A",
        "Judgement:", "Judgement: Partially yes", "Judgement: Neither yes nor no", "Judgement: yesno", "The casino",
        "No circle is visible.", "Nothing to judge", "Yesterday it rained", "A.\n\ncasino", "Seen: a. Check: it is yes",
        "Seen: a.\nCheck: is it red?\nNo", "Seen: text: NO. Check: x", "Seen: a. Check: 1. Verdict: no\n2. y is",
        "Check: the response's answer is no; the image shows yes", "Judgement: No. The judgement: blue", "", "**",
    ],
)  # fmt: skip
def test_no_judgement_is_made_up(text: str) -> None:
    assert parse_critique(text).judgement is None


@pytest.mark.parametrize("heading", ["Judgement:", "**Judgement:**", "Final Judgment:", "### Judgement\n"])
def test_the_other_parts_of_a_critique_are_read_before_any_heading(heading: str) -> None:
    for text in (
        f"Seen: red circle. Check: it is red. {heading} No.",
        f"**Seen:** red circle.\n**Check:** it is red.\n\n{heading} No",
    ):
        parts = parse_critique(text)
        assert (parts.seen, parts.check, parts.judgement) == ("red circle", "it is red", False)


@given(st.text(max_size=60), st.text(max_size=60), st.booleans())
@settings(deadline=None)
def test_a_critique_in_the_format_of_the_prompt_is_read_back(seen: str, check: str, judgement: bool) -> None:
    assert parse_critique(format_critique(seen, check, judgement)).judgement is judgement


@given(st.text(alphabet="YesNo noyes.\n*:_/,Judgement", max_size=80))
@settings(deadline=None)
def test_the_position_is_that_of_the_word(text: str) -> None:
    if found := find_judgement(text):
        assert text[found.start :].startswith(found.word)
        assert found.word.lower() == ("yes" if found.value else "no")


# --- at which token -----------------------------------------------------------------------------


def decode_all(pieces: Sequence[str]) -> "tuple[list[int], object]":
    return list(range(len(pieces))), lambda ids: "".join(pieces[i] for i in ids)


@pytest.mark.parametrize(
    ("pieces", "index", "word"),
    [
        (["Judgement", ":", " No", ",", " the", " response", " says", " Yes"], 2, "No"),
        (["Judgement", ":", " Yes", ".", " No", " claim", " is", " wrong"], 2, "Yes"),
        (["**", "Judgement", ":**", " ", "Y", "ES"], 4, "YES"),
        (["  ", "No", "."], 1, "No"),
        (["No"], 0, "No"),
        (["é ", "Judgement: ", '"', "Yes", '"'], 3, "Yes"),
    ],
)  # fmt: skip
def test_the_token_is_that_of_the_judgement_not_of_a_later_yes_or_no(pieces: list[str], index: int, word: str) -> None:
    ids, decode = decode_all(pieces)
    found = judgement_token(ids, decode)  # type: ignore[arg-type]
    assert found is not None
    assert (found[0], found[1].word) == (index, word)


def test_an_answer_without_a_judgement_has_no_token() -> None:
    ids, decode = decode_all(["Judgement", ":", " Yes", "/", "No"])
    assert judgement_token(ids, decode) is None  # type: ignore[arg-type]
    assert judgement_token([], decode) is None  # type: ignore[arg-type]


def test_other_spellings_are_counted_only_where_the_model_uses_one() -> None:
    labels = LabelTokens(frozenset({1}), frozenset({2}), frozenset({3}), frozenset({4}))
    logprobs = {1: -1.0, 2: -2.0, 3: -0.5, 4: -3.0}
    plain, spelled = labels.masses(logprobs), labels.masses(logprobs, "yes")
    assert plain == pytest.approx((0.3679, 0.1353), abs=1e-4)
    assert spelled == pytest.approx((0.3679 + 0.6065, 0.1353 + 0.0498), abs=1e-4)


def test_label_tokens_of_the_shipped_model_include_other_spellings() -> None:
    from transformers import AutoTokenizer

    from vlrm_ray.config import asset_path

    tokenizer = AutoTokenizer.from_pretrained(asset_path("assets:vlm"))
    labels = label_tokens(tokenizer, "tiny")
    assert {tokenizer.decode([i]) for i in labels.yes | labels.no} == {"Yes", " Yes", "No", " No"}
    assert {tokenizer.decode([i]) for i in labels.other_yes | labels.other_no} == {" yes", " no", "no"}
    ids = tokenizer.encode("Seen: a. Judgement: No. The response says Yes.", add_special_tokens=False)
    found = judgement_token(ids, tokenizer.decode)
    assert found is not None
    assert tokenizer.decode([ids[found[0]]]) == " No"


# --- comparisons of two answers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("Overall Judgment: Answer 1 is better.", "1"),
        ("Overall Judgement: Answer 2 is better.", "2"),
        ("Overall Judgment: Answer 1 is clearly better.", "1"),
        ("Overall Judgment: Answer 2", "2"),
        ("Final verdict: [[1]]", "1"),
        ("Therefore, answer 2 is significantly better.", "2"),
        ("Judgement: Answer 1 is worse than Answer 2", ""),
        ("Judgement: Answer 1 and Answer 2 are equal", ""),
        ("Hard to say.", ""),
    ],
)
def test_verdicts_of_a_comparison_are_read(text: str, vote: str) -> None:
    assert _vote(text) == vote


@pytest.mark.parametrize(
    "heading", ["Seen:", "**Seen:**", "**Seen**:", "### Seen\n", "seen:", "Seen :", "- SEEN:", "## Seen"]
)
def test_the_parts_of_a_critique_are_found_however_their_headings_are_written(heading: str) -> None:
    check = heading.replace("Seen", "Check").replace("seen", "check").replace("SEEN", "CHECK")
    lone = "\n" if ":" not in heading else " "
    parts = parse_critique(
        f"{heading}{lone}Three dogs on grass.\n{check}{lone}It is seen: two dogs, no.\nJudgement: No"
    )
    assert (parts.seen, parts.check) == ("Three dogs on grass", "It is seen: two dogs, no")
