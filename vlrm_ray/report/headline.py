"""What a run comes to, in a sentence that claims no more than the intervals allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrm_ray.report.build import CONSISTENCY, HEADLINE
from vlrm_ray.report.tables import round_name
from vlrm_ray.report.words import percent, signed

Facts = Mapping[str, Any]
_NAMES = {HEADLINE[0]: "hallucination pairs", HEADLINE[1]: "reasoning pairs"}


@dataclass(frozen=True)
class Tile:
    """One figure at the top of the page; `tone` is good, bad or quiet."""

    title: str
    value: str
    detail: str
    tone: str


@dataclass(frozen=True)
class Headline:
    """The main finding and what stands beside it."""

    title: str
    sentence: str
    tiles: Sequence[Tile]


def headline(report: Facts) -> Headline:
    """The first of `HEADLINE` that was measured twice leads, whatever it shows."""
    gains, measured = report.get("gains", {}), [r for r in report["rounds"] if r["metrics"]]
    leading = next((name for name in HEADLINE if name in gains), None)
    if leading:
        title, sentence = _title(leading, gains[leading], measured), _sentence(leading, gains[leading])
    elif measured:
        title = "Only the start was measured so far"
        sentence = "A gain needs a second evaluation; what was measured is below."
    else:
        title = "Nothing was measured yet"
        sentence = "No evaluation has finished; what the run has gathered so far is below."
    tiles = [_tile(name, gains[name]) for name in HEADLINE if name in gains]
    return Headline(title, sentence, [*tiles, *_controls(measured, gains)])


def _title(name: str, gain: Facts, measured: Sequence[Facts]) -> str:
    before, after = (percent(r["metrics"][name]["value"]) for r in (measured[0], measured[-1]))
    if _tone(gain) == "quiet":
        return f"No measurable gain on {_NAMES[name]}: {before} before, {after} after"
    verb = "rose" if _tone(gain) == "good" else "fell"
    return f"Accuracy on {_NAMES[name]} {verb} from {before} to {after}"


def _sentence(name: str, gain: Facts) -> str:
    low, high = (100 * end for end in gain["ci95"])
    since = f"Between {round_name(gain['from_round'])} and {round_name(gain['to_round'])}, over {gain['n']} {'of the same ' if gain['paired'] else ''}{_NAMES[name]},"
    change = f"{since} the change is {signed(100 * gain['value'])} points with a 95\u00a0% interval from {signed(low)} to {signed(high)}."
    return f"{change} {_meaning(gain)}"


def _meaning(gain: Facts) -> str:
    return {
        "good": "The interval excludes zero: chance is an unlikely explanation.",
        "bad": "The interval excludes zero: the model got worse.",
        "quiet": "The interval includes zero: this may be chance, and is no evidence of a gain.",
    }[_tone(gain)]


def _tone(gain: Facts) -> str:
    low, high = gain["ci95"]
    return "good" if low > 0 else "bad" if high < 0 else "quiet"


def _tile(name: str, gain: Facts) -> Tile:
    return Tile(_NAMES[name].capitalize(), f"{signed(100 * gain['value'])} points", _interval(gain), _tone(gain))


def _interval(gain: Facts) -> str:
    low, high = (signed(100 * end) for end in gain["ci95"])
    zero = "includes" if _tone(gain) == "quiet" else "excludes"
    return f"95\u00a0% interval {low} to {high}: {zero} zero"


def _controls(measured: Sequence[Facts], gains: Facts) -> list[Tile]:
    """Whether the model looks, and whether its critiques hold, in the last evaluated round."""
    if not measured:
        return []
    found, tiles = measured[-1]["metrics"], []
    name, blind = HEADLINE[0], f"blind_{HEADLINE[0]}"
    if name in found and blind in found:
        low, high = found[blind]["ci95"]
        looks = found[name]["ci95"][0] > high
        detail = (
            f"95\u00a0% interval {100 * low:.0f}–{100 * high:.0f}\u00a0%; with the image {percent(found[name]['value'])}: "
            + ("it looks" if looks else "no proof that it looks")
        )
        tiles.append(Tile("Image removed", percent(found[blind]["value"]), detail, "good" if looks else "bad"))
    if CONSISTENCY in found:
        detail = "both judgements right, facts true, same when rephrased"
        tone = "quiet"
        if CONSISTENCY in gains:
            tone = _tone(gains[CONSISTENCY])
            detail = f"{signed(100 * gains[CONSISTENCY]['value'])} points, {_interval(gains[CONSISTENCY])}; {detail}"
        tiles.append(Tile("Reasoning consistency", percent(found[CONSISTENCY]["value"]), detail, tone))
    return tiles
