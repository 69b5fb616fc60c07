"""Generate stage: takes the responses that a prompt brings, and samples others of the policy.

The policy writes them with the whole image, with a degraded image and without one. With `policy.samples: 0` there is no
policy, and the given responses are all there is.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from vlrm_ray.config import Config, Policy
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.ids import digest, seed_of
from vlrm_ray.pipeline.holdout import HELD_OUT, is_skipped
from vlrm_ray.pipeline.prompt_rows import NO_RESPONSE
from vlrm_ray.pipeline.stages.engine_pool import EnginePool
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import GIVEN, Row, from_table, with_columns
from vlrm_ray.types import Candidate, ImageCondition, Prompt

FINISHED = 1
"""Version of `finished_text`: responses that another one has finished are not taken from the cache."""
_THOUGHT_START, _THOUGHT_END = "<think>", "</think>"
_WHOLE_SENTENCES = re.compile(r".*[.!?][\"'”’)\]]*(?=\s|$)", re.DOTALL)
Texts = tuple[str, ...]
"""The responses to one prompt under one image condition."""


class Generate:
    """Collects the given responses to the prompts of a part, and asks the policy for others."""

    def __init__(self, config: Config, engines: EnginePool, store: Ledger | None, model: str) -> None:
        """Prepare the stage.

        Args:
            config: configuration of the run.
            engines: the policy generators; none with `policy.samples: 0`.
            store: ledger that caches the responses; None without a cache.
            model: fingerprint of the policy, for the cache.
        """
        self.config, self.policy, self.engines = config, config.policy, engines
        self.counts = samples_of(self.policy)
        self.caches = (
            {condition: self._cache(condition, n, store, model) for condition, n in self.counts.items()}
            if store
            else {}
        )

    async def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in `candidates`. Ids and seeds are derived from content, so a part that is made again is the same."""
        rows = from_table(table, ["given"])
        for row in rows:
            if not row.quarantined and is_skipped(self.config, row.round, row.prompt.sha256):
                row.asked, row.unusable = 1, {HELD_OUT: 1}
        usable = [row for row in rows if not row.quarantined and not row.unusable]
        refused: dict[str, str] = {}
        conditions = [condition for condition, n in self.counts.items() if n]
        texts = await asyncio.gather(*(self._texts(usable, condition, refused) for condition in conditions))
        for index, row in enumerate(usable):
            row.quarantined = refused.get(row.prompt.prompt_id, "" if conditions or row.given else NO_RESPONSE)
            if row.quarantined:
                continue
            row.asked = len(row.given) + sum(self.counts.values())
            row.candidates = self._given(row) + tuple(
                Candidate(self._id(row, condition, sample), text, condition)
                for condition, answers in zip(conditions, texts, strict=True)
                for sample, text in enumerate(answers[index])
                if text
            )
        self.engines.board.add("generate", sum(len(row.candidates) for row in usable))
        table = table.drop_columns("given") if "given" in table.column_names else table
        return with_columns(table, rows, "quarantined", "asked", "candidates", *GIVEN)

    def _given(self, row: Row) -> tuple[Candidate, ...]:
        """The given responses of a row as candidates; also fills in their `sources`, and counts the `unusable` ones."""
        row.unusable = dict(Counter(response.problem for response in row.given if response.problem))
        candidates = []
        for index, response in enumerate(row.given):
            if not response.problem:
                content = (ImageCondition.GIVEN, index, response.text, response.source)
                prompt = row.prompt
                name = digest("candidate", prompt.sha256, prompt.question, row.round, *content, self.config.seed)
                candidates.append(Candidate(name, response.text, ImageCondition.GIVEN))
                row.sources[name] = response.source
        return tuple(candidates)

    async def _texts(self, rows: Sequence[Row], condition: ImageCondition, refused: dict[str, str]) -> list[Texts]:
        """The responses to each row's prompt, from the cache where it has them.

        A prompt that the engine refuses has none, and its id and the reason are added to `refused`.
        """
        cache = self.caches.get(condition)
        ids = [row.prompt.prompt_id for row in rows]
        known = await asyncio.to_thread(cache.get, ids) if cache else {}
        missing = [row for row in rows if row.prompt.prompt_id not in known]
        if known:
            self.engines.board.add("generate cache hits", len(known))
        made = await self._generate(missing, condition, refused)
        if cache:
            await asyncio.to_thread(cache.put, {prompt_id: texts for prompt_id, texts in made.items() if texts})
        return [(known | made)[prompt_id] for prompt_id in ids]

    async def _generate(
        self, rows: Sequence[Row], condition: ImageCondition, refused: dict[str, str]
    ) -> dict[str, Texts]:
        """The responses to each row's prompt by prompt id, none for a prompt that the engine refuses."""
        if not rows:
            return {}
        sampling = sampling_of(self.policy, self.counts[condition])
        requests = [request_of(row.prompt, condition) for row in rows]
        answers = await self.engines.generate("generate", rows[0].part, requests, sampling)
        made = {}
        for row, group in zip(rows, answers, strict=True):
            prompt_id, reason = row.prompt.prompt_id, group[0].refused
            made[prompt_id] = () if reason else tuple(finished_text(answer) for answer in group)
            if reason:
                refused[prompt_id] = reason
        self.engines.board.add("generate cut", sum(answer.cut for group in answers for answer in group))
        return made

    def _cache(self, condition: ImageCondition, n: int, store: Ledger, model: str) -> AnswerCache[str]:
        pixels = 0 if condition is ImageCondition.IMAGE_FREE else self.config.prompts.max_pixels
        return AnswerCache(
            store, f"candidates-{digest(FINISHED, model, condition, sampling_of(self.policy, n), pixels)}", str
        )

    def _id(self, row: Row, condition: ImageCondition, sample: int) -> str:
        prompt, policy = row.prompt, self.policy
        settings = (policy.model, policy.max_tokens, policy.temperature, policy.top_p)
        return digest(
            "candidate", prompt.sha256, prompt.question, row.round, condition, sample, settings, self.config.seed
        )


def samples_of(policy: Policy) -> dict[ImageCondition, int]:
    """Number of responses to a prompt by image condition; empty without a policy."""
    if not policy.samples:
        return {}
    return {
        ImageCondition.FULL: policy.samples,
        ImageCondition.IMAGE_FREE: policy.image_free,
        ImageCondition.IMAGE_DEGRADED: policy.image_degraded,
    }


def request_of(prompt: Prompt, condition: ImageCondition) -> Request:
    """The request for the responses to a prompt under an image condition."""
    return Request(prompt.question, prompt.image, condition, seed_of("sample", prompt.prompt_id, condition))


def sampling_of(policy: Policy, n: int) -> Sampling:
    """How `n` responses to a request are sampled."""
    return Sampling(policy.max_tokens, policy.temperature, policy.top_p, n, judgement="none")


def finished_text(answer: Completion) -> str:
    """The response of a completion: without what a model has thought before, and up to its last whole sentence if it was cut.

    It is empty if nothing is left.
    """
    _, tag, rest = answer.text.rpartition(_THOUGHT_END)
    text = rest.strip() if tag else "" if answer.text.startswith(_THOUGHT_START) else answer.text
    if not answer.cut:
        return text
    sentences = _WHOLE_SENTENCES.match(text)
    return sentences[0] if sentences else ""
