"""Measures the assets on fresh scenes, which no training uses."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from jobs.assets.detector import EXPERT_WORLD
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.experts.geometry import iou
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.preferences.critique import COMPACT, parse_critique
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.language import (
    HALLUCINATION,
    REASONING,
    ROUND_KINDS,
    any_exchange,
    describe_scene,
    make_exchange,
)
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import COLORS, PRIOR_COLOR, SHAPES, UNBIASED_WORLD, Scene, SceneObject
from vlrm_ray.types import Verdict

FIRST_SEED = 60_000_000
"""First scene for quality measurements."""


@dataclass
class Share:
    """Counts hits; `missed` describes the first five misses."""

    hits: int = 0
    tries: int = 0
    missed: list[str] = field(default_factory=list)

    def count(self, hit: bool, description: str = "") -> None:
        """Count one try."""
        self.hits += hit
        self.tries += 1
        if not hit and len(self.missed) < 5:
            self.missed.append(description)

    @property
    def value(self) -> float:
        """Share of hits, rounded to 4 decimals."""
        return round(self.hits / max(1, self.tries), 4)


def experts(vision_experts: VisionExperts, scenes: int = 300) -> dict[str, float]:
    """Shares of detected objects, of correct colours, and of exactly read signs, on scenes without correlations."""
    detected, colors, words = Share(), Share(), Share()
    sampled = [EXPERT_WORLD.sample(FIRST_SEED + i) for i in range(scenes)]
    rendered = [paint(scene) for scene in sampled]
    inspected = vision_experts.inspect([np.asarray(r.image) for r in rendered])
    for scene, drawing, evidence in zip(sampled, rendered, inspected, strict=True):
        for obj, box in zip(scene.objects, drawing.boxes, strict=True):
            match = max(evidence.objects, key=lambda d: iou(d.box, box), default=None)
            correct = match is not None and match.name == obj.shape and iou(match.box, box) > 0.5
            detected.count(correct, obj.name)
            if correct and match is not None and obj.shape in SHAPES:
                colors.count(match.color == obj.color, f"{obj.color} as {match.color}")
        if scene.sign is not None:
            texts = [w.text for w in evidence.words]
            words.count(texts == [scene.sign.word], f"{scene.sign.word} as {texts}")
    return {"objects_found": detected.value, "color_accuracy": colors.value, "signs_read_exactly": words.value}


@dataclass(frozen=True)
class KnownQuestion:
    """A question with a known answer.

    Attributes:
        request: the request to the model.
        answer: how a correct response begins.
        matches_prior: whether the answer agrees with the model's prior.
    """

    request: Request
    answer: str
    matches_prior: bool


class VlmQuality:
    """Measures whether the tiny VLM uses the image, and how strong its prior is.

    Args:
        generate: the engine's `generate`.
        store_image: stores a scene's image and returns its path.
        blank: path of an image without objects.
    """

    def __init__(
        self,
        generate: Callable[[Sequence[Request], Sampling], list[list[Completion]]],
        store_image: Callable[[Scene], str],
        blank: str,
    ) -> None:
        self.generate, self.store_image, self.blank = generate, store_image, blank

    def measure(self, scenes: int = 300) -> dict[str, float]:
        """All metrics, each on that many scenes.

        `existence_*` is the accuracy on existence questions with the image and with a blank one. `attribute_*` is the
        accuracy on colour questions where the truth agrees with the prior, and where it does not. The tests require a
        difference of 15 points within both. `told_*` are the shares of critiques with exactly the right check if they go on
        from the true facts, by kind of question, for numbers by whether the response is true.
        """
        existence = self._existence(scenes)
        attributes = self._attributes(scenes)
        blank = [KnownQuestion(Request(q.request.text, self.blank), q.answer, q.matches_prior) for q in existence]
        result = {"existence_with_image": self._accuracy(existence), "existence_blank_image": self._accuracy(blank)}
        for matches_prior, name in ((True, "attribute_agreeing_with_prior"), (False, "attribute_against_prior")):
            result[name] = self._accuracy([q for q in attributes if q.matches_prior is matches_prior])
        return result | {"responses_contradicted": self._contradicted(scenes)} | self._told(scenes)

    def _accuracy(self, questions: Sequence[KnownQuestion]) -> float:
        answers = self.generate([q.request for q in questions], Sampling(24))
        share = Share()
        for question, (completion,) in zip(questions, answers, strict=True):
            share.count(completion.text.startswith(question.answer))
        return share.value

    def _existence(self, scenes: int) -> list[KnownQuestion]:
        questions = []
        for index in range(scenes):
            scene = UNBIASED_WORLD.sample(FIRST_SEED + 1_000_000 + index)
            exchange = make_exchange(scene, random.Random(index), "existence")
            assert exchange is not None
            request = Request(exchange.question, self.store_image(scene))
            questions.append(KnownQuestion(request, exchange.right.text.split(",")[0], True))
        return questions

    def _attributes(self, scenes: int) -> list[KnownQuestion]:
        """Questions for the colour of a shape, which has the prior's colour in every other scene."""
        questions = []
        for index in range(scenes):
            scene = UNBIASED_WORLD.sample(FIRST_SEED + 2_000_000 + index)
            rng = random.Random(index)
            matches_prior = index % 2 == 0
            obj = _recolored(rng.choice(scene.shapes), rng, matches_prior=matches_prior)
            objects = (obj, *(o for o in scene.objects if o.cell != obj.cell and o.shape != obj.shape))
            unambiguous = Scene(scene.seed, tuple(sorted(objects, key=lambda o: o.cell)))
            request = Request(f"What color is the {obj.shape}?", self.store_image(unambiguous))
            questions.append(KnownQuestion(request, f"The {obj.shape} is {obj.color}", matches_prior))
        return questions

    def _told(self, scenes: int) -> dict[str, float]:
        shares: dict[str, Share] = defaultdict(Share)
        wanted, requests = [], []
        for kind in (*HALLUCINATION, *REASONING):
            for index in range(scenes):
                scene = UNBIASED_WORLD.sample(FIRST_SEED + 4_000_000 + index)
                exchange = make_exchange(scene, random.Random(index), kind)
                if exchange is None:
                    continue
                for side in (exchange.right, exchange.wrong):
                    prompt, prefix = COMPACT.prompt(exchange.question, side.text), COMPACT.prefix(describe_scene(scene))
                    requests.append(Request(prompt, self.store_image(scene), prefix=prefix))
                    truth = f"_{str(side.true).lower()}" if kind == "count" else ""
                    wanted.append((f"told_{kind}{truth}", ", ".join(map(str, side.checks))))
        for (name, check), (critique,) in zip(wanted, self.generate(requests, Sampling(48)), strict=True):
            found = parse_critique(critique.text).check
            shares[name].count(found.strip(" .") == check, found)
        return {name: share.value for name, share in shares.items()}

    def _contradicted(self, scenes: int) -> float:
        """Share of sampled responses to the rounds' kinds of questions that ground truth contradicts."""
        from vlrm_ray.claims.rules import RuleExtractor
        from vlrm_ray.experts.reliability import Calibrations
        from vlrm_ray.experts.verifier import Verifier

        extractor, verifier = RuleExtractor(), Verifier(Calibrations(exhaustive=frozenset(SHAPES) | {"sign"}))
        sampled = [UNBIASED_WORLD.sample(FIRST_SEED + 3_000_000 + i) for i in range(scenes)]
        questions = [any_exchange(s, random.Random(i), ROUND_KINDS).question for i, s in enumerate(sampled)]
        requests = [
            Request(question, self.store_image(scene), seed=i)
            for i, (scene, question) in enumerate(zip(sampled, questions, strict=True))
        ]
        answers = self.generate(requests, Sampling(48, 1.0))
        share = Share()
        for scene, question, (answer,) in zip(sampled, questions, answers, strict=True):
            claims = extractor.claims(answer.text, question)
            checked = verifier.check_all(claims, true_evidence(scene))
            share.count(any(c.finding.verdict is Verdict.CONTRADICTED for c in checked))
        return share.value


def _recolored(obj: SceneObject, rng: random.Random, *, matches_prior: bool) -> SceneObject:
    others = [c for c in COLORS if c != PRIOR_COLOR[obj.shape]]
    color = PRIOR_COLOR[obj.shape] if matches_prior else rng.choice(others)
    return SceneObject(obj.shape, color, obj.row, obj.col, obj.size, obj.dx, obj.dy)


def blank_image(side: int) -> Image.Image:
    """A grey RGB image of side x side pixels without objects."""
    return Image.new("RGB", (side, side), (235, 235, 235))
