"""The study's estimates, compared with values computed by hand; no configuration can select its oracle."""

import ast
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.study import page, summary
from jobs.study.arms import ARMS, FULL, NOT_RECOLORED, ORACLE, SELF, config_of
from jobs.study.results import CARDS, Results, _hits_between, is_method, method_of
from vlrm_ray.config import Config, load
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.ids import fingerprint
from vlrm_ray.pipeline.run_config import differences
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.scenes.bench import exchanges, items, kinds_of, new_combinations
from vlrm_ray.scenes.best_of_n import SampledResponses, rewards
from vlrm_ray.scenes.language import HALLUCINATION
from vlrm_ray.store.ledger import Ledger

ROOT = Path(__file__).parents[2]
METHOD = method_of(Config())
OTHER_METHOD = method_of(Config(rounds=9))
NAMES = (*summary.ROUND_METRICS, *summary.BLIND_METRICS)
PRIOR = {"circle": {"agreeing_with_prior": {"value": 1.0, "n": 4}, "against_prior": {"value": 0.5, "n": 4}}}


def make_record(start: float, end: float, bits: str = "1100", best: float = 0.1) -> dict[str, Any]:
    rounds = [{"round": i, "metrics": {n: {"value": v} for n in NAMES}} for i, v in enumerate((start, end))]
    hits = dict.fromkeys((summary.HALLUCINATION, summary.REASONING, summary.CONSISTENCY), bits)
    return {
        "rounds": rounds,
        "hits": {"first": dict.fromkeys(hits, "1000"), "last": hits},
        "prior": {"first": PRIOR, "last": PRIOR},
        "bag_of_words": {"value": 0.5},
        "best_of": {"random": 0.2, "blind": 0.25, "votes": {"1": best, "8": best / 2}},
    }


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "study.json", METHOD, tmp_path / "none.json")


def test_gains_and_shares_by_hand(results: Results) -> None:
    for seed, end in ((0, 0.8), (1, 0.9)):
        results.add(FULL, seed, make_record(0.6, end))
        results.add(ORACLE, seed, make_record(0.6, 1.0))
        results.add(NOT_RECOLORED, seed, make_record(0.6, 0.7))
        results.add(SELF, seed, make_record(0.6, 0.65))
    found = summary.summarize(results)
    assert found["hallucination_gain"]["value"] == pytest.approx(0.25)
    assert found["oracle_gap_recovered"]["value"] == pytest.approx(0.25)  # the oracle has no recolored images either
    assert found["self_labelling_share"]["value"] == pytest.approx((0.05 / 0.2 + 0.05 / 0.3) / 2, abs=1e-4)
    assert found["best_of_8_reduction"]["value"] == pytest.approx(0.5)
    assert found["best_of_8_reduction_mean"]["value"] == pytest.approx(0.75)
    assert found["best_of_8_reduction_blind"]["value"] == pytest.approx(0.6)
    low, high = found["hallucination_gain"]["ci95"]  # t(0.975, 1) = 12.706, standard error 0.05
    assert (low, high) == (pytest.approx(0.25 - 0.6353, abs=1e-3), pytest.approx(0.25 + 0.6353, abs=1e-3))


def test_a_run_without_gain_is_left_out_of_shares(results: Results) -> None:
    for seed, end in ((0, 0.6), (1, 0.8)):
        results.add(FULL, seed, make_record(0.6, end))
        results.add(SELF, seed, make_record(0.6, 0.65))
    share = summary.summarize(results)["self_labelling_share"]
    assert share == {"value": pytest.approx(0.25, abs=1e-4), "n": 1, "ci95": [None, None]}


def test_one_seed_has_no_interval(results: Results) -> None:
    results.add(FULL, 0, make_record(0.6, 0.8))
    assert summary.summarize(results)["hallucination_gain"] == {"value": 0.2, "n": 1, "ci95": [None, None]}


def test_ablations_are_compared_item_by_item(results: Results) -> None:
    results.add(FULL, 0, make_record(0.5, 0.75, "1110"))
    results.add("no_margin", 0, make_record(0.5, 0.25, "1000"))
    found = summary.summarize(results)["ablations"]["no_margin"]["hallucination"]
    assert found["difference"] == 0.5
    assert found["ci95"][0] <= 0.5 <= found["ci95"][1]


def test_seeds_that_agree_on_all_pairs_do_not_narrow_the_interval_over_pairs(results: Results) -> None:
    for seed in range(3):
        results.add(FULL, seed, make_record(0.5, 0.75, "1110"))
    gain = summary.summarize(results)["hallucination_gain_over_pairs"]
    t, error = 3.18245, 0.28868  # Student's t with 3 degrees of freedom; the standard error of 0, 1, 1, 0
    assert (gain["difference"], gain["n"]) == (0.5, 3)
    assert gain["ci95"] == [pytest.approx(0.5 - t * error, abs=1e-4), pytest.approx(0.5 + t * error, abs=1e-4)]


def test_a_few_seeds_that_differ_give_students_interval_over_them(results: Results) -> None:
    """Three runs of which each judges all pairs in the same way: 1, 1 and 0 points gained."""
    for seed, bits in enumerate(("1111", "1111", "0000")):
        results.add(FULL, seed, make_record(0.5, 0.75, bits))
        results.add("no_margin", seed, make_record(0.5, 0.25, "0000"))
    found = summary.summarize(results)["ablations"]["no_margin"]["hallucination"]
    t, error = 4.30265, 1 / 3
    assert found["ci95"] == [pytest.approx(2 / 3 - t * error, abs=1e-4), pytest.approx(2 / 3 + t * error, abs=1e-4)]


def test_outcomes_are_grouped_by_kind_of_question(results: Results) -> None:
    for seed, bits in ((0, "1110"), (1, "0110")):
        results.add(FULL, seed, make_record(0.5, 0.75, bits))
    found = summary.summarize(results)["kinds"]
    assert found[summary.HALLUCINATION] == {
        "start": {"existence": 1.0, "attribute": 0.0, "count": 0.0, "relation": 0.0},
        FULL: {"existence": 0.5, "attribute": 1.0, "count": 1.0, "relation": 0.0},
    }
    assert found[summary.CONSISTENCY][FULL] == {"compare": 0.25, "odd_one_out": 1.0, "two_relations": 1.0}
    items = exchanges("dev", "hallucination", HALLUCINATION, 6)
    assert kinds_of("hallucination", 6) == [exchange.kind for _, exchange in items]


def test_outcomes_are_grouped_by_whether_the_image_has_a_held_out_combination(results: Results, tmp_path: Path) -> None:
    held_out = [item.has_new_combination for item in items("dev", 8, Ledger(str(tmp_path / "images")))[:8]]
    assert new_combinations("dev", "hallucination", 8) == held_out
    assert 0 < sum(held_out) < 8
    record = make_record(0.5, 0.75, "".join(str(int(not new)) for new in held_out))
    results.add(FULL, 0, record | {"hits": record["hits"] | {"first": dict.fromkeys(summary.GROUPS, "00001111")}})
    found = summary.summarize(results, "dev")["combinations"]
    assert found[summary.HALLUCINATION][FULL] == {"without": 1.0, "with": 0.0}


def test_sampling_seeds_of_critiques_do_not_depend_on_the_image_folder() -> None:
    def seeds(folder: str) -> list[int]:
        drawn: list[int] = []

        def criticise(requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
            drawn.extend(request.seed for request in requests)
            return [[Completion("")] * sampling.n for _ in requests]

        prompts = [SampledResponses("q", f"{folder}/{i}.png", ("a", "b"), (0, 0), (1, 1)) for i in range(2)]
        rewards(prompts, COMPACT, criticise, 2, 8, blind=False)
        return drawn

    assert seeds("here") == seeds("there")
    assert len(set(seeds("here"))) == 4


def test_the_gain_of_each_round_is_paired_by_item_over_the_runs_that_judged_all_items_in_each(results: Results) -> None:
    record = make_record(0.5, 0.75, "1110")
    record["rounds"] = [*record["rounds"], record["rounds"][-1]]
    whole = record | {"hits": record["hits"] | {
        "round 1": dict.fromkeys(summary.LABELS.values(), "1100"), "round 2": dict.fromkeys(summary.LABELS.values(), "1110"),
    }}  # fmt: skip
    results.add(FULL, 0, whole)
    results.add(FULL, 1, record)  # round 1 was judged on fewer items
    steps = summary.summarize(results)["steps"]
    assert list(steps) == ["round 1 minus start", "round 2 minus round 1"]
    assert [steps[name]["hallucination"]["difference"] for name in steps] == [0.25, 0.25]  # of 1000, 1100, 1110
    assert steps["round 2 minus round 1"]["consistency"]["n"] == 1


def test_a_round_costs_the_mean_of_its_pairs_and_seconds(results: Results) -> None:
    for seed, seconds in ((0, 10.0), (1, 20.0)):
        times = {"select": seconds, "train": 2 * seconds, "evaluate": 5.0}
        results.add(FULL, seed, make_record(0.5, 0.75) | {"pairs": [100 * (seed + 1)], "seconds_by_round": [times]})
    results.add(FULL, 2, make_record(0.5, 0.75))  # an older record
    found = summary.summarize(results)["costs"]
    assert found == {"pairs": [150.0], "select": [15.0], "train": [30.0], "evaluate": [5.0]}
    assert "| pairs kept | 150 |" in page.tables({"costs": found})["costs"]
    results.add(FULL, 1, (results.run(FULL, 1) or {}) | {"cpu_seconds_by_round": [{"train": 70.0}]})
    found = summary.summarize(results)["costs"]
    assert found == {"pairs": [200.0], "train_cpu": [70.0]}  # of the only record that has them
    assert "| train, CPU s | 70 |" in page.tables({"costs": found})["costs"]


def test_outcomes_after_each_round_are_kept_if_all_rounds_judged_the_same_items() -> None:
    rounds = [{"hits": {"a": bits}} for bits in ("10", "11", "01")]
    assert _hits_between(rounds) == {"round 1": {"a": "11"}, "round 2": {"a": "01"}}
    assert _hits_between([*rounds, {"hits": {"a": "1"}}]) == {}


def test_a_page_is_filled_with_the_tables_of_the_summary(results: Results) -> None:
    for arm in (FULL, SELF, "no_margin"):
        results.add(arm, 0, make_record(0.5, 0.75, "1110"))
    found = summary.summarize(results)
    marked = "".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in page.tables(found))
    filled = page.fill(f"# Results\n{marked}", found)
    assert "| hallucination pair accuracy, round 3 minus round 0 | +0.250 | 1 |" in filled
    assert "| circle | against prior | 0.500 | 0.500 | 0.500 |" in filled
    assert page.fill(filled, found) == filled


@pytest.mark.parametrize(("name", "table"), [("docs/results.md", "gains"), ("README.md", "gains")])
def test_the_pages_show_the_committed_results(name: str, table: str) -> None:
    base = load(ROOT / "jobs" / "configs" / "study.yaml", ["evaluation.split=test", "evaluation.pairs=2000"])
    found = summary.summarize(Results(ROOT / "docs" / "study.json", method_of(base), ROOT / "none.json"))
    text = (ROOT / name).read_text()
    assert f"<!-- table: {table} -->" in text
    assert page.fill(text, found) == text


def test_results_are_loaded_and_those_of_another_method_rejected(tmp_path: Path, results: Results) -> None:
    results.add(FULL, 3, make_record(0.5, 0.6))
    assert Results(results.path, METHOD, tmp_path / "none.json").seeds(FULL) == [3]
    with pytest.raises(UserError, match="another method"):
        Results(results.path, OTHER_METHOD, tmp_path / "none.json")


def test_a_record_counts_while_its_arm_is_defined_as_it_was(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    for arm in (FULL, "no_margin"):
        results.add(arm, 0, make_record(0.5, 0.6))
    monkeypatch.setitem(ARMS, "no_margin", replace(ARMS["no_margin"], overrides=("selection.margin=0.5",)))
    assert results.arms == [FULL]
    assert results.run("no_margin", 0) is None
    results.add("no_margin", 1, make_record(0.5, 0.6))
    assert results.seeds("no_margin") == [1]


def test_a_study_starts_from_committed_results_of_the_same_method(tmp_path: Path) -> None:
    committed = tmp_path / "docs.json"
    record = make_record(0.5, 0.6) | {"arm": ARMS[FULL].definition()}
    committed.write_text(json.dumps({"method": METHOD, "arms": {FULL: {"0": record}}}))
    assert Results(tmp_path / "new" / "study.json", METHOD, committed).seeds(FULL) == [0]
    assert Results(tmp_path / "new" / "study.json", OTHER_METHOD, committed).seeds(FULL) == []


def test_each_arm_changes_only_the_keys_it_names() -> None:
    base = load(ROOT / "jobs" / "configs" / "study.yaml", [])
    full = config_of(base, FULL, 0, "x").model_dump(mode="json")
    for name, arm in ARMS.items():
        other = config_of(base, name, 0, "x").model_dump(mode="json")
        changed = {change.partition(":")[0] for change in differences(full, other)} - {"name"}
        named = {override.partition("=")[0] for override in arm.overrides}
        assert changed == (named | {"rounds", "prompts.per_round"} if arm.single_round else named), name
    assert config_of(base, "one_round", 0, "x").prompts.per_round == (base.prompts.until_round(base.most_rounds),)


def test_the_method_depends_on_the_settings_and_the_assets_and_not_on_name_folder_or_seed() -> None:
    assert is_method(METHOD, method_of(Config(name="y", folder="z", seed=9)))
    assert not is_method(METHOD, method_of(Config(rounds=9)))
    assert not is_method(METHOD | {"assets": "others"}, METHOD)
    assert not is_method("a digest, as in older files", METHOD)


def test_the_cards_of_the_assets_do_not_belong_to_the_method(tmp_path: Path) -> None:
    def of(card: str, weights: str) -> str:
        (tmp_path / "card.json").write_text(card)
        (tmp_path / "model.safetensors").write_text(weights)
        return fingerprint(tmp_path, without=CARDS)

    assert of("a", "x") == of("b", "x")
    assert of("a", "x") != of("a", "y")


def test_an_interrupted_run_goes_on_only_with_the_same_method_and_arm(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(str(tmp_path / "no_margin-0"))
    results.bind("no_margin", ledger)
    results.bind("no_margin", ledger)
    with pytest.raises(UserError, match="move that folder away"):
        Results(tmp_path / "other.json", OTHER_METHOD).bind("no_margin", ledger)
    monkeypatch.setitem(ARMS, "no_margin", replace(ARMS["no_margin"], overrides=("selection.margin=0.5",)))
    with pytest.raises(UserError, match="move that folder away"):
        results.bind("no_margin", ledger)


def without(section: str, key: str) -> dict[str, Any]:
    """The settings of the method as they were stored before a key existed."""
    settings = METHOD["settings"]
    return settings | {section: {name: value for name, value in settings[section].items() if name != key}}


def test_results_stay_valid_when_a_key_is_added_that_has_its_default() -> None:
    older = METHOD | {"settings": without("train", "fits")}
    assert is_method(older, METHOD)
    assert not is_method(older, method_of(load(None, ["train.fits=2"])))
    # before this key existed, the newest version wrote
    assert not is_method(METHOD | {"settings": without("critic", "writer")}, METHOD)
    gone = METHOD | {"settings": METHOD["settings"] | {"removed": 1}}
    assert not is_method(gone, METHOD)
    assert is_method(gone, gone)


def test_only_the_study_imports_the_oracle() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("vlrm_ray", "actors", "jobs")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "jobs.study.oracle"
    ]
    assert users == ["jobs/evaluations/study.py"]
