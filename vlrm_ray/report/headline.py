"""What a run comes to, in a sentence that claims no more than the intervals allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrm_ray.report.build import HEADLINE
from vlrm_ray.report.tables import round_name

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
    return Headline(title, sentence, [*tiles, *_controls(measured)])


def _title(name: str, gain: Facts, measured: Sequence[Facts]) -> str:
    before, after = (100 * r["metrics"][name]["value"] for r in (measured[0], measured[-1]))
    verb = {"good": "rose", "bad": "fell", "quiet": "did not change measurably"}[_tone(gain)]
    figures = f"from {before:.1f} % to {after:.1f} %"
    return f"Accuracy on {_NAMES[name]} {verb}{':' if _tone(gain) == 'quiet' else ''} {figures}"


def _sentence(name: str, gain: Facts) -> str:
    low, high = (100 * end for end in gain["ci95"])
    since = f"Between {round_name(gain['from_round'])} and {round_name(gain['to_round'])}, over {gain['n']} {'of the same ' if gain['paired'] else ''}{_NAMES[name]},"
    change = (
        f"{since} the change is {100 * gain['value']:+.1f} points with a 95 % interval from {low:+.1f} to {high:+.1f}."
    )
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
    low, high = (100 * end for end in gain["ci95"])
    zero = "includes" if _tone(gain) == "quiet" else "excludes"
    detail = f"95 % interval {low:+.1f} to {high:+.1f}: {zero} zero"
    return Tile(_NAMES[name].capitalize(), f"{100 * gain['value']:+.1f} points", detail, _tone(gain))


def _controls(measured: Sequence[Facts]) -> list[Tile]:
    """Whether the model looks, and whether its critiques hold, in the last evaluated round."""
    if not measured:
        return []
    found, tiles = measured[-1]["metrics"], []
    name, blind = HEADLINE[0], f"blind_{HEADLINE[0]}"
    if name in found and blind in found:
        low, high = found[blind]["ci95"]
        looks = found[name]["ci95"][0] > high
        detail = (
            f"95 % interval {100 * low:.0f}–{100 * high:.0f} %; with the image {100 * found[name]['value']:.1f} %: "
            + ("it looks" if looks else "no proof that it looks")
        )
        tiles.append(Tile("Image removed", f"{100 * found[blind]['value']:.1f} %", detail, "good" if looks else "bad"))
    if "reasoning_consistency" in found:
        low, high = found["reasoning_consistency"]["ci95"]
        value = f"{100 * found['reasoning_consistency']['value']:.1f} %"
        detail = (
            f"95 % interval {100 * low:.0f}–{100 * high:.0f} %; both judgements right, facts true, same when rephrased"
        )
        tiles.append(Tile("Reasoning consistency", value, detail, "quiet"))
    return tiles
