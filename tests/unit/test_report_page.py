"""`report.html`: safe against text from models, accessible, and consistent with the measurements."""

import argparse
import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluations import report as report_command
from jobs.evaluations import show as show_command
from tests.unit.made_up import config, ledger_of_one_round, row
from vlrm_ray.errors import UserError
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.report.build import build_report
from vlrm_ray.report.headline import headline
from vlrm_ray.report.images import ImageEmbedder
from vlrm_ray.report.prompts import find_prompt
from vlrm_ray.report.reporter import prompt_page, report_page
from vlrm_ray.report.tables import metrics_table, pope_metrics
from vlrm_ray.report.text import (
    MAX_CHARACTERS,
    describe_claim,
    display_text,
    percent,
    replace_invisible,
    signed,
    split_at_claims,
)
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Finding, Noun, Verdict

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></svg><iframe src='https://example.org'>",
    "{{ 7 * 7 }}{% for x in y %}",
    "javascript:alert(1) <a href='javascript:alert(1)'>x</a>",
    "\x00\x07\x1b[31m\u202egnirts <|im_end|>",
    format_critique("<b onclick=x>", "<i>", True),
]


class Reader(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]


def page_of(ledger: Ledger) -> str:
    return report_page(ledger, build_report(config().model_dump(mode="json"), ledger, 60.0, 1 << 30)).decode()


def page_of_prompt(ledger: Ledger) -> str:
    return prompt_page(ledger, find_prompt(ledger, "feed")).decode()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(ledger_of_one_round(tmp_path_factory.mktemp("run")))


# --- safety -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("make", [page_of, page_of_prompt])
def test_text_from_models_stays_text(tmp_path: Path, text: str, make) -> None:  # type: ignore[no-untyped-def]
    harmless, hostile = (
        Reader(make(ledger_of_one_round(tmp_path / str(i), text=t))) for i, t in enumerate(("Red.", text))
    )
    assert {tag for tag, _ in hostile.elements} <= {tag for tag, _ in harmless.elements} | {"bdi", "p", "a", "span"}
    assert not {"script", "iframe", "img", "object", "embed", "form"} & {tag for tag, _ in hostile.elements}
    assert not [key for _, attributes in hostile.elements for key in attributes if key.startswith("on")]
    assert all(target.startswith(("#", "data:")) for target in hostile.all("href") + hostile.all("xlink:href"))
    assert replace_invisible(text).split("\n")[0][:20] in hostile.text


@pytest.mark.parametrize("make", [page_of, page_of_prompt])
def test_the_policy_allows_this_style_sheet_and_nothing_else(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    page = make(ledger_of_one_round(tmp_path))
    (policy,) = [a["content"] for tag, a in Reader(page).elements if tag == "meta" and a.get("http-equiv")]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (
        policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert Reader(page).all("style") == []
    assert "url(" not in style
    assert "@import" not in style


def test_a_megabyte_of_text_leaves_a_small_page(tmp_path: Path) -> None:
    page = page_of(ledger_of_one_round(tmp_path, text="The circle is red. " * 60_000))
    assert len(page) < 1_000_000
    assert "more characters" in page


def test_images_beyond_the_budget_are_left_out_with_a_note(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    prompt_row = find_prompt(ledger, "feed")
    image = ImageEmbedder(ledger, budget=10).embed_row(prompt_row, "x")
    assert (image.data, image.problem) == ("", "left_out_for_size")


def test_a_moved_run_finds_its_own_images_and_no_others(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path / "run")
    original = find_prompt(ledger, "feed")
    moved = row([], [], image="/gone/images/a.png", sha256=original.prompt.sha256)
    assert ImageEmbedder(ledger, 10_000).embed_row(moved, "x").data
    changed = row([], [], image="/gone/images/a.png", sha256="0" * 64)
    assert ImageEmbedder(ledger, 10_000).embed_row(changed, "x").problem == "image_missing"


# --- accessibility ---------------------------------------------------------------------------------


def test_ids_are_unique_and_links_have_targets(page: str) -> None:
    reader = Reader(page)
    ids = reader.all("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in reader.all("href") if link.startswith("#")} <= set(ids)


def test_every_drawing_has_a_text_alternative_or_is_decoration(page: str) -> None:
    drawings = [attributes for tag, attributes in Reader(page).elements if tag == "svg"]
    assert drawings
    assert all(a.get("aria-hidden") == "true" or (a.get("role") == "img" and a.get("aria-label")) for a in drawings)
    plots = [a for tag, a in Reader(page).elements if tag == "div" and a.get("role") == "img"]
    assert all("%" in str(a["aria-label"]) or len(str(a["aria-label"])) > 40 for a in plots)


def test_headings_do_not_skip_a_level_and_there_is_one_title(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in Reader(page).elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_claims_link_to_their_evidence(page: str) -> None:
    reader = Reader(page)
    links = [a for tag, a in reader.elements if tag == "a" and a.get("class") in ("supported", "contradicted")]
    assert links
    evidence = {a["id"] for tag, a in reader.elements if tag == "div" and a.get("class") == "evidence"}
    assert {str(a["href"])[1:] for a in links} <= evidence


def test_contrast_is_enough_in_light_and_dark() -> None:
    """WCAG 2.2: a contrast of 4.5 to 1 for every text color on each background that it is used on."""
    css = (ROOT / "vlrm_ray/report/templates/page.css.j2").read_text()
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    assert len(schemes) == 2
    for colors in schemes:
        for text in ("ink", "muted", "primary", "secondary", "good", "bad", "unclear"):
            for background in ("bg", "panel"):
                assert contrast(colors[text], colors[background]) >= 4.5, (text, background)
        for background in ("good-soft", "bad-soft", "unclear-soft"):
            assert contrast(colors["ink"], colors[background]) >= 4.5, background


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * c for c in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# --- content ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "title", "interpretation"),
    [
        ((0.02, 0.2), "rose from 60.0", "excludes zero"),
        ((-0.02, 0.2), "No significant change", "no evidence of a gain"),
        ((-0.2, -0.02), "fell from 60.0", "got worse"),
    ],
)
def test_the_headline_agrees_with_the_interval(interval: tuple[float, float], title: str, interpretation: str) -> None:
    gain = {"from_round": 0, "to_round": 1, "value": sum(interval) / 2, "n": 10, "ci95": interval, "paired": True}
    metric = {"value": 0.6, "n": 10, "ci95": [0.5, 0.7]}
    rounds = [{"round": i, "metrics": {"hallucination_pair_accuracy": metric}} for i in (0, 1)]
    result = headline({"gains": {"hallucination_pair_accuracy": gain}, "rounds": rounds})
    assert title in result.title
    assert interpretation in result.sentence


def test_the_page_is_a_function_of_the_ledger(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    assert page_of(ledger) == page_of(ledger)


def test_the_page_shows_each_part_of_a_run(page: str) -> None:
    text = Reader(page).text
    for heading in ("Accuracy by round", "Accuracy by kind of question", "Calibration of the reward", "Margins of the pairs",
                    "perfectly calibrated rewards of as many show",
                    "dropped: margin", "Timeline", "Kept for training", "Dropped: margin",
                    "Critiques before and after training", "Resolved configuration"):  # fmt: skip
        assert heading in text, heading


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    text = Reader(page_of(Ledger(str(tmp_path)))).text
    assert "Nothing has been evaluated yet" in text
    assert "next stage: round 1: gather" in text


def test_the_page_of_a_killed_run_shows_its_committed_parts(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path, until="select")
    Path(ledger.path("round-0001", "select.json")).unlink()
    text = Reader(page_of(ledger)).text
    assert "Only round 0 has been evaluated so far" in text
    assert "next stage: round 1: gather" in text
    assert "Kept for training" in text


def test_a_damaged_part_is_reported_on_the_page(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    Path(ledger.path("round-0001", "rows", "part-00000.parquet")).write_bytes(b"broken")
    assert "is damaged" in Reader(page_of(ledger)).text


def test_pope_metrics_are_shown_if_a_run_has_them() -> None:
    rounds = [
        {"round": i, "metrics": {"pope_random_f1": {"value": 0.5 + i / 10, "n": 300, "ci95": [0.4, 0.7]}}}
        for i in (0, 1)
    ]
    table = metrics_table(rounds, pope_metrics(rounds), "POPE")
    assert table is not None
    assert [(table_row.name, [cell.text for cell in table_row.cells]) for table_row in table.rows] == [
        ("random f1, N = 300", ["50.0\u00a0%", "60.0\u00a0%", "+10.0"])
    ]


# --- text -------------------------------------------------------------------------------------------


@given(st.text())
def test_characters_are_replaced_one_for_one_and_none_is_invisible(text: str) -> None:
    result = replace_invisible(text)
    assert len(result) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f\ud800-\udfff]", result)


@given(
    st.text(max_size=2 * MAX_CHARACTERS), st.lists(st.tuples(st.integers(-5, 3000), st.integers(-5, 3000)), max_size=5)
)
def test_segments_joined_are_the_displayed_text(text: str, spans: list[tuple[int, int]]) -> None:
    claims = [CheckedClaim(Claim(ClaimType.OBJECT, Noun("dog"), span=s), Finding(Verdict.SUPPORTED)) for s in spans]
    assert "".join(segment.text for segment in split_at_claims(text, claims)) == display_text(text)


def test_the_worst_verdict_of_overlapping_claims_wins() -> None:
    def claim(verdict: Verdict, span: tuple[int, int]) -> CheckedClaim:
        return CheckedClaim(Claim(ClaimType.OBJECT, Noun("dog"), span=span), Finding(verdict))

    result = split_at_claims("a red dog", [claim(Verdict.SUPPORTED, (0, 9)), claim(Verdict.CONTRADICTED, (2, 5))])
    assert [(s.text, s.claims, s.verdict) for s in result] == [
        ("a ", (0,), "supported"), ("red", (1, 0), "contradicted"), (" dog", (0,), "supported"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (Claim(ClaimType.OBJECT, Noun("dog", ("red",))), "red dog is present"),
        (Claim(ClaimType.ATTRIBUTE, Noun("dog"), "red", negated=True), "not: dog is red"),
        (Claim(ClaimType.COUNT, Noun("dog"), "2", hedged=True), "2 × dog (hedged)"),
        (Claim(ClaimType.COUNT, Noun("dog"), "as_many", Noun("cat")), "as many dog as cat"),
        (Claim(ClaimType.RELATION, Noun("dog"), "left_of", Noun("cat")), "dog left of cat"),
        (Claim(ClaimType.TEXT, Noun("sign"), "STOP"), "sign reads “STOP”"),
    ],
)
def test_claims_are_described_as_statements(claim: Claim, text: str) -> None:
    assert describe_claim(claim) == text


def test_numbers_have_a_sign_and_zero_has_none() -> None:
    assert [signed(value) for value in (1.25, -0.31, -0.01)] == ["+1.2", "−0.3", "0.0"]


# --- commands ---------------------------------------------------------------------------------------


def run(command: ModuleType, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(arguments))


def test_report_writes_both_files_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger_of_one_round(tmp_path)
    run(report_command, "--run", str(tmp_path))
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert json.loads((tmp_path / "report.json").read_text())["rounds"][1]["rm_version"] == 1


def test_a_run_of_another_version_has_a_report(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    ledger.put_json("config.json", ledger.get_json("config.json") | {"key_of_an_old_version": 1})
    run(report_command, "--run", str(tmp_path))
    assert "key_of_an_old_version" in Reader((tmp_path / "report.html").read_text()).text


def test_report_with_out_does_not_change_the_run(tmp_path: Path) -> None:
    ledger_of_one_round(tmp_path / "run")
    run(report_command, "--run", str(tmp_path / "run"), "--out", str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert not list((tmp_path / "run").glob("report.*"))


def test_show_lists_prompts_and_finds_one_by_a_prefix_of_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger_of_one_round(tmp_path / "run")
    run(show_command, "--run", str(tmp_path / "run"))
    assert capsys.readouterr().out.startswith("feedbeef01")
    run(show_command, "--run", str(tmp_path / "run"), "--prompt", "feed")
    assert "Pairs and critiques" in (tmp_path / "run" / "prompts" / "feedbeef01.html").read_text()


def test_a_page_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    ledger_of_one_round(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        arguments = ("--run", str(tmp_path / "run"), "--prompt", "feed", "--out", str(tmp_path / "file" / "page.html"))
        run(show_command, *arguments)


@pytest.mark.parametrize("arguments", [("report",), ("show",), ("show", "--prompt", "feed")])
def test_a_folder_that_is_not_a_run_is_rejected(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = {"report": report_command, "show": show_command}[arguments[0]]
    with pytest.raises(UserError, match="not a run"):
        run(command, "--run", str(tmp_path / "none"), *arguments[1:])


def test_a_user_error_is_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "jobs" / "evaluate.py"), "show", "--run", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*: not a run .*\n", done.stderr)


def test_an_unknown_prompt_is_rejected(tmp_path: Path) -> None:
    ledger = ledger_of_one_round(tmp_path)
    with pytest.raises(UserError, match=r"no prompt id .* starts with it"):
        find_prompt(ledger, "beef")


# --- training ---------------------------------------------------------------------------------------


def test_the_training_has_a_loss_curve_and_a_table_by_round(page: str) -> None:
    text = Reader(page).text
    assert "round 1: loss and judgement accuracy by step" in text
    assert 'href="#training"' in page
    for shown in ("1.5 to 0.5", "1,234", percent(0.015), "examples dropped: longer than max tokens"):
        assert shown in text, shown
    right = f"{percent(0.75, 0)} right judgements on the last batches. 3 steps."
    assert f"Loss 1.50 at the first and 0.50 at the last point; {right}" in page
