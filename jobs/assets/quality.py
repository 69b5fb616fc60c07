"""How good the assets are, on fresh scenes that no training has seen."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from jobs.assets.detector import EXPERT_WORLD
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.experts.geometry import iou
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange, exchange
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import COLORS, OPEN, SHAPES, USUAL_COLOR, Scene, Thing
from vlrm_ray.types import Verdict

FRESH = 60_000_000
"""First seed of scenes for quality."""


@dataclass
class Share:
    """Hits out of tries."""

    hits: int = 0
    tries: int = 0
    missed: list[str] = field(default_factory=list)

    def count(self, hit: bool, what: str = "") -> None:
        """Count one try."""
        self.hits += hit
        self.tries += 1
        if not hit and len(self.missed) < 5:
            self.missed.append(what)

    @property
    def value(self) -> float:
        """Share of hits."""
        return round(self.hits / max(1, self.tries), 4)


def experts(vision_experts: VisionExperts, scenes: int = 300) -> dict[str, float]:
    """Found objects, right colours and exactly read signs, on scenes without correlations."""
    found, colors, words = Share(), Share(), Share()
    drawn = [EXPERT_WORLD.sample(FRESH + i) for i in range(scenes)]
    pictures = [paint(scene) for scene in drawn]
    seen = vision_experts.inspect([np.asarray(p.image) for p in pictures])
    for scene, picture, evidence in zip(drawn, pictures, seen, strict=True):
        for thing, box in zip(scene.things, picture.boxes, strict=True):
            match = max(evidence.objects, key=lambda o: iou(o.box, box), default=None)
            there = match is not None and match.name == thing.shape and iou(match.box, box) > 0.5
            found.count(there, thing.name)
            if there and match is not None and thing.shape in SHAPES:
                colors.count(match.color == thing.color, f"{thing.color} as {match.color}")
        if scene.sign is not None:
            texts = [w.text for w in evidence.words]
            words.count(texts == [scene.sign.word], f"{scene.sign.word} as {texts}")
    return {"objects_found": found.value, "color_accuracy": colors.value, "signs_read_exactly": words.value}


@dataclass(frozen=True)
class Asked:
    """A yes-or-no or attribute question whose answer is known."""

    request: Request
    answer: str
    usual: bool


class VlmQuality:
    """Whether the tiny VLM sees, and how prejudiced it is; `generate` is an engine's verb."""

    def __init__(
        self,
        generate: Callable[[Sequence[Request], Sampling], list[list[Completion]]],
        place: Callable[[Scene], str],
        blank: str,
    ) -> None:
        self.generate, self.place, self.blank = generate, place, blank

    def measure(self, scenes: int = 300) -> dict[str, float]:
        """All figures; 15 points between with_image and blank, and between usual and unusual, are asked for."""
        existence = self._existence(scenes)
        attributes = self._attributes(scenes)
        blind = [Asked(Request(a.request.text, self.blank), a.answer, a.usual) for a in existence]
        told = {"existence_with_image": self._right(existence), "existence_blank_image": self._right(blind)}
        for usual, name in ((True, "attribute_agreeing_with_prior"), (False, "attribute_against_prior")):
            told[name] = self._right([a for a in attributes if a.usual is usual])
        return told | {"responses_contradicted": self._contradicted(scenes)}

    def _right(self, asked: Sequence[Asked]) -> float:
        answers = self.generate([a.request for a in asked], Sampling(24))
        share = Share()
        for a, (completion,) in zip(asked, answers, strict=True):
            share.count(completion.text.startswith(a.answer))
        return share.value

    def _existence(self, scenes: int) -> list[Asked]:
        asked = []
        for index in range(scenes):
            scene = OPEN.sample(FRESH + 1_000_000 + index)
            said = exchange(scene, random.Random(index), "existence")
            assert said is not None
            asked.append(Asked(Request(said.question, self.place(scene)), said.right.text.split(",")[0], True))
        return asked

    def _attributes(self, scenes: int) -> list[Asked]:
        """Is the shape of this colour there? Of things that have, and that have not, their usual colour."""
        asked = []
        for index in range(scenes):
            scene = OPEN.sample(FRESH + 2_000_000 + index)
            rng = random.Random(index)
            thing = _recolored(rng.choice(scene.shapes), rng, usual=index % 2 == 0)
            things = (thing, *(t for t in scene.things if t.cell != thing.cell and t.shape != thing.shape))
            alone = Scene(scene.seed, tuple(sorted(things, key=lambda t: t.cell)))
            request = Request(f"What color is the {thing.shape}?", self.place(alone))
            asked.append(Asked(request, f"The {thing.shape} is {thing.color}", index % 2 == 0))
        return asked

    def _contradicted(self, scenes: int) -> float:
        """Share of free responses to round prompts that ground truth contradicts."""
        from vlrm_ray.claims.rules import RuleExtractor
        from vlrm_ray.experts.reliability import Calibrations
        from vlrm_ray.experts.verifier import Verifier

        extractor, verifier = RuleExtractor(), Verifier(Calibrations(exhaustive=frozenset(SHAPES) | {"sign"}))
        drawn = [OPEN.sample(FRESH + 3_000_000 + i) for i in range(scenes)]
        said = [any_exchange(s, random.Random(i), ROUND_KINDS) for i, s in enumerate(drawn)]
        requests = [
            Request(q.question, self.place(s), seed=i) for i, (s, q) in enumerate(zip(drawn, said, strict=True))
        ]
        share = Share()
        for scene, question, (answer,) in zip(drawn, said, self.generate(requests, Sampling(48, 1.0)), strict=True):
            claims = extractor.claims(answer.text, question.question)
            checked = verifier.check_all(claims, true_evidence(scene))
            share.count(any(c.finding.verdict is Verdict.CONTRADICTED for c in checked))
        return share.value


def _recolored(thing: Thing, rng: random.Random, *, usual: bool) -> Thing:
    others = [c for c in COLORS if c != USUAL_COLOR[thing.shape]]
    color = USUAL_COLOR[thing.shape] if usual else rng.choice(others)
    return Thing(thing.shape, color, thing.row, thing.col, thing.size, thing.dx, thing.dy)


def blank_picture(side: int) -> Image.Image:
    """A picture with nothing on it."""
    return Image.new("RGB", (side, side), (235, 235, 235))
