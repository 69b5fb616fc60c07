"""Small made-up files in the public formats of the benchmarks; no row is from a real benchmark."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, Row, Status

GROUND = {"gt_answer_details": "made up", "sample_note": "made up"}


def png(color: tuple[int, int, int] = (200, 30, 30), size: int = 32) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (size, size), color).save(data, "PNG")
    return data.getvalue()


def silent(text: str) -> None:
    """A log function that prints nothing."""


def judged(item: Item, outcome: str) -> Judgement:
    """A judgement with the outcome `right`, `wrong`, `tie`, `unparsed` or `quarantined`."""
    if outcome in ("right", "wrong"):
        pick = item.better if outcome == "right" else 1 - item.better
        rewards = (0.9, 0.2) if pick == 0 else (0.2, 0.9)
        return Judgement(item.key, item.first, Status.DECIDED, pick, rewards)
    return Judgement(item.key, item.first, Status(outcome))


def predicted(benchmark: Benchmark, items: Sequence[Item], outcomes: Sequence[str]) -> list[Row]:
    return [benchmark.predict(i, judged(i, o)) for i, o in zip(items, outcomes, strict=True)]


# --- VL-RewardBench ---------------------------------------------------------------------------------

VL_IDS = (
    "wildvision-battle-0", "vlfeedback0", "hallucination_pair-0", "RLAIF-V-0", "RLHF-V-0", "mathverse_0",
    "mmmu_pro_0", "hallucination_pair-0",
)  # fmt: skip
VL_OUTCOMES = ("right", "wrong", "right", "unparsed", "right", "wrong", "right", "tie")


def vl_rows(image: Any) -> list[Row]:
    """Eight pairs of all sources; the last has the same id as the third and the reverse ranking."""
    return [
        {
            "id": name, "query": f"What is it? {i}", "response": [f"one {i}", f"two, longer {i}"], "image": image,
            "human_ranking": [1, 0] if i == 7 else [0, 1], "models": ["a", "b"], "judge": "human", "rationale": "",
            "query_source": "made up", "ground_truth": "",
        }
        for i, name in enumerate(VL_IDS)
    ]  # fmt: skip


def vl_parquet(folder: Path, rows: Sequence[Row] | None = None) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    path = folder / "data" / "test-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows or vl_rows({"bytes": png(), "path": "x.png"}))), path)
    return path


# --- Multimodal RewardBench -------------------------------------------------------------------------

MM_OUTCOMES = ("right", "wrong", "right", "unparsed", "tie", "right")


def mm_rows() -> list[Row]:
    """Six rows of four tasks; Better alternates between Output1 and Output2."""
    categories_and_ids = (
        ("safety", "PAIRS_0"), ("safety", "hateful_0"), ("reasoning", "MathVista_0"), ("reasoning", "emma_0"),
        ("vqa", "vqa_0"), ("open_generation/correctness_task", "nocaps_0"),
    )  # fmt: skip
    return [
        {
            "ID": name, "Text": f"Question {i}?", "Image": "images/a.png", "Output1": f"one {i}",
            "Output2": f"two, longer {i}", "Better": f"Output{1 + i % 2}", "Category": category,
        }
        for i, (category, name) in enumerate(categories_and_ids)
    ]  # fmt: skip


def mm_json(folder: Path, rows: Sequence[Row] | None = None) -> Path:
    (folder / "data" / "images").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "images" / "a.png").write_bytes(png())
    path = folder / "data" / "all_data.json"
    path.write_text(json.dumps(rows or mm_rows()))
    return path


# --- MM-RLHF-RewardBench ----------------------------------------------------------------------------

RLHF_OUTCOMES = ("right", "right", "right", "wrong", "tie", "right", "right", "quarantined")


def rlhf_rows() -> list[Row]:
    """Eight pairs of five ids: one id of one task, one half right, one tied, one of two tasks, one with a video."""
    media = (
        ("a", "image", "mcq/0.png"), ("a", "image", "mcq/0.png"), ("b", "image", "long/1.png"),
        ("b", "image", "long/1.png"), ("c", "image", "safety/2.png"), ("d", "image", "short/3.png"),
        ("d", "image", "mcq/0.png"), ("e", "video", "video/4"),
    )  # fmt: skip
    return [
        {
            "id": name, kind: path, "prompt": f"Question {i}?", "chosen": f"chosen, longer {i}", "rejected": f"rej {i}",
            "chosen_reason": "", "rejected_reason": "",
        }
        for i, (name, kind, path) in enumerate(media)
    ]  # fmt: skip


def rlhf_jsonl(folder: Path, rows: Sequence[Row] | None = None) -> Path:
    for name in ("mcq/0.png", "long/1.png", "safety/2.png", "short/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png())
    return lines(folder / "mm_reward_bench.jsonl", rows or rlhf_rows())


# --- POPE -------------------------------------------------------------------------------------------

POPE_LABELS = ("yes", "no", "yes", "no", "yes", "no")
POPE_OUTCOMES = ("right", "right", "wrong", "wrong", "right", "tie")


def pope_files(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(png())
    for strategy in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": i, "image": "a.png", "text": f"Is there a cup{i} in the image?", "label": label}
            for i, label in enumerate(POPE_LABELS, 1)
        ]
        lines(folder / f"coco_pope_{strategy}.json", rows)


# --- AMBER ------------------------------------------------------------------------------------------

AMBER_TYPES = (
    ("generative", ["sky"]), ("discriminative-hallucination", "no"), ("discriminative-hallucination", "no"),
    ("discriminative-attribute-state", "yes"), ("discriminative-attribute-number", "no"),
    ("discriminative-attribute-action", "no"), ("discriminative-relation", "yes"), ("relation", "no"),
)  # fmt: skip
AMBER_OUTCOMES = ("right", "wrong", "right", "right", "unparsed", "wrong", "right")


def amber_files(folder: Path) -> None:
    (folder / "data" / "query").mkdir(parents=True)
    annotations = [
        {"id": i, "type": kind, "truth": truth, **({"hallu": ["cloud"]} if kind == "generative" else {})}
        for i, (kind, truth) in enumerate(AMBER_TYPES, 1)
    ]
    queries = [{"id": i, "image": "AMBER_1.jpg", "query": f"Is the sky sunny {i}?"} for i in range(1, 9)]
    (folder / "data" / "annotations.json").write_text(json.dumps(annotations))
    (folder / "data" / "query" / "query_all.json").write_text(json.dumps(queries))


# --- HallusionBench ---------------------------------------------------------------------------------

HALLUSION: tuple[tuple[str, str, str, str, str, str], ...] = (
    # category, visual_input, set, figure, question, outcome
    ("VD", "1", "0", "0", "0", "right"),
    ("VD", "1", "0", "0", "1", "wrong"),
    ("VD", "2", "0", "1", "0", "wrong"),
    ("VD", "2", "0", "1", "1", "unparsed"),
    ("VS", "0", "0", "0", "0", "tie"),
    ("VS", "0", "0", "0", "1", "wrong"),
    ("VS", "1", "0", "1", "0", "right"),
    ("VS", "1", "0", "1", "1", "wrong"),
    ("VS", "2", "0", "2", "0", "right"),
    ("VS", "2", "0", "2", "1", "unparsed"),
)
HALLUSION_OUTCOMES = tuple(row[-1] for row in HALLUSION)


def hallusion_rows() -> list[Row]:
    """One set of each category with two questions per figure; the true answer to the first of them is yes."""
    return [
        {
            "category": category, "subcategory": "chart", "visual_input": visual, "set_id": set_, "figure_id": figure,
            "question_id": question, "question": f"Is it so? {question}", "gt_answer": str(1 - int(question)),
            "filename": None if visual == "0" else f"./{category}/chart/{set_}_{figure}.png", **GROUND,
        }
        for category, visual, set_, figure, question, _ in HALLUSION
    ]  # fmt: skip


def hallusion_json(folder: Path, rows: Sequence[Row] | None = None) -> Path:
    for row in hallusion_rows():
        if row["filename"]:
            (folder / row["filename"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / row["filename"]).write_bytes(png())
    path = folder / "HallusionBench.json"
    path.write_text(json.dumps(rows or hallusion_rows()))
    return path


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --- own labels -------------------------------------------------------------------------------------


def label_rows() -> list[Row]:
    """Six pairs: four of three groups, one without a group, and one that people found equally good."""
    groups = ("counting", "counting", "places", "text in images", None, "places")
    return [
        {"image": "a.png", "question": f"What is at {i}?", "chosen": f"A cup {i}.", "rejected": f"No cup at all {i}."}
        | ({} if group is None else {"group": group})
        | ({"tie": True} if i == 5 else {})
        for i, group in enumerate(groups)
    ]


def label_lines(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(png())
    lines(folder / "labels.jsonl", label_rows())
