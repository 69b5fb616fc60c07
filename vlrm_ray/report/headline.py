"""The top of the page: the main result in a sentence that the confidence interval supports, and the key metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlrm_ray.evaluation.gains import CONSISTENCY, HEADLINE, benchmark_of, main_metrics
from vlrm_ray.report.tables import JsonObject, round_label
from vlrm_ray.report.text import percent, signed

_NAMES = dict(zip(HEADLINE, ("hallucination pairs", "reasoning pairs", "held-out pairs"), strict=True))
_MEANINGS = {
    "hallucination_pair_accuracy": "which of two responses is true, where one fact of the image decides",
    "reasoning_pair_accuracy": "the same, where several facts must be combined",
    "held_out_pair_accuracy": "which of two responses about your images the vision experts call true",
}
"""What the main metrics say, for readers who do not know their names."""


@dataclass(frozen=True)
class Tile:
    """A metric at the top of the page.

    Attributes:
        title: name of the metric.
        value: its value.
        detail: interval and explanation.
        tone: `good`, `bad` or `quiet`.
    """

    title: str
    value: str
    detail: str
    tone: str


@dataclass(frozen=True)
class Headline:
    """The main result: a title, a sentence with the interval, and the key metrics."""

    title: str
    sentence: str
    tiles: Sequence[Tile]


def headline(report: JsonObject) -> Headline:
    """The headline of a report, about the first main metric that was measured twice."""
    gains, measured = report.get("gains", {}), [r for r in report["rounds"] if r["metrics"]]
    names = main_metrics(gains)
    if names:
        title, sentence = _title(names[0], gains[names[0]], measured), _sentence(names[0], gains[names[0]])
    elif len(measured) > 1:
        title = f"{len(measured)} rounds have been evaluated, without a main metric"
        sentence = "No accuracy was measured in the first and the last of them. The metrics measured so far are below."
    elif measured:
        title = f"Only {round_label(measured[0]['round'])} has been evaluated so far"
        sentence = "A gain can be computed after a second evaluation. The metrics measured so far are below."
    else:
        title = "Nothing has been evaluated yet"
        sentence = "No evaluation has finished. The data collected so far is below."
    tiles = [_gain_tile(name, gains[name]) for name in names]
    return Headline(title, sentence, [*tiles, *_control_tiles(measured, gains)])


def _title(name: str, gain: JsonObject, measured: Sequence[JsonObject]) -> str:
    before, after = (percent(r["metrics"][name]["value"]) for r in (measured[0], measured[-1]))
    if _tone(gain) == "quiet":
        return f"No significant change in accuracy on {_items(name)}: {before} before, {after} after"
    verb = "rose" if _tone(gain) == "good" else "fell"
    return f"Accuracy on {_items(name)} {verb} from {before} to {after}"


def _sentence(name: str, gain: JsonObject) -> str:
    low, high = (signed(100 * end) for end in gain["ci95"])
    pairs = f"{gain['n']} {_items(name)}" + (" (the same ones in both rounds)" if gain["paired"] else "")
    rounds = f"from {round_label(gain['from_round'])} to {round_label(gain['to_round'])}"
    change = f"{signed(100 * gain['value'])} percentage points, 95\u00a0% interval {low} to {high}"
    return f"Change {rounds}, measured on {pairs}: {change}. {_interpretation(gain)}"


def _interpretation(gain: JsonObject) -> str:
    return {
        "good": "The interval excludes zero, so chance is an unlikely explanation of the gain.",
        "bad": "The interval excludes zero: the model got worse.",
        "quiet": "The interval includes zero, so the change may be due to chance and is no evidence of a gain.",
    }[_tone(gain)]


def _items(name: str) -> str:
    """What a main metric is measured on."""
    return _NAMES.get(name) or f"items of the benchmark {benchmark_of(name)}"


def _tone(gain: JsonObject) -> str:
    low, high = gain["ci95"]
    return "good" if low > 0 else "bad" if high < 0 else "quiet"


def _gain_tile(name: str, gain: JsonObject) -> Tile:
    return Tile(
        _items(name)[0].upper() + _items(name)[1:],
        f"{signed(100 * gain['value'])} points",
        "; ".join(text for text in (_interval(gain), _MEANINGS.get(name)) if text),
        _tone(gain),
    )


def _interval(gain: JsonObject) -> str:
    low, high = (signed(100 * end) for end in gain["ci95"])
    zero = "includes" if _tone(gain) == "quiet" else "excludes"
    return f"95\u00a0% interval {low} to {high}, {zero} zero"


def _control_tiles(measured: Sequence[JsonObject], gains: JsonObject) -> list[Tile]:
    """Accuracy without the image and reasoning consistency, in the last evaluated round."""
    if not measured:
        return []
    tiles = [_blind_tile(measured[-1]["metrics"]), _consistency_tile(measured[-1]["metrics"], gains)]
    return [tile for tile in tiles if tile is not None]


def _blind_tile(metrics: Mapping[str, JsonObject]) -> Tile | None:
    """Accuracy without the image; good if it is significantly lower than with the image."""
    name = next((name for name in HEADLINE if name in metrics and f"blind_{name}" in metrics), None)
    if name is None:
        return None
    blind = f"blind_{name}"
    low, high = metrics[blind]["ci95"]
    uses_image = metrics[name]["ci95"][0] > high
    detail = (
        f"95\u00a0% interval {100 * low:.0f}–{100 * high:.0f}\u00a0%; guessing gives 50\u00a0%, with the image it is "
        f"{percent(metrics[name]['value'])}: "
        + ("the model uses the image" if uses_image else "no evidence that the model uses the image")
    )
    return Tile("Accuracy without the image", percent(metrics[blind]["value"]), detail, "good" if uses_image else "bad")


def _consistency_tile(metrics: Mapping[str, JsonObject], gains: JsonObject) -> Tile | None:
    """Share of reasoning pairs that the model judges consistently."""
    if CONSISTENCY not in metrics:
        return None
    detail = "both judgements right, stated facts true, same result for the rephrased question"
    tone = "quiet"
    if CONSISTENCY in gains:
        tone = _tone(gains[CONSISTENCY])
        detail = f"{signed(100 * gains[CONSISTENCY]['value'])} points, {_interval(gains[CONSISTENCY])}; {detail}"
    return Tile("Reasoning consistency", percent(metrics[CONSISTENCY]["value"]), detail, tone)
