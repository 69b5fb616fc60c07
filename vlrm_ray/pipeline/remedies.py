"""What a user can do about rows that a stage lost, by the reason: one table for all messages that name such rows."""

from vlrm_ray.engines import REFUSED, TOO_LONG
from vlrm_ray.experts.failing_images import EXPERT_FAILED
from vlrm_ray.pipeline.holdout import HELD_OUT
from vlrm_ray.pipeline.prompt_rows import NO_RESPONSE
from vlrm_ray.preferences import pairing, selection
from vlrm_ray.preferences.difficulty import MASTERED
from vlrm_ray.store.decoding import FORMATS

_REMEDIES = {
    "generate": {
        HELD_OUT: "lower evaluation.holdout or raise prompts.per_round",
        TOO_LONG: "raise policy.engine.max_model_len or shorten the questions",
        NO_RESPONSE: "give every row responses, or set policy.samples above 0",
        "image_missing": "correct the image paths (a relative path starts at the prompt file's folder), then run the command again",
        "image_url_not_fetched": "list their hosts in prompts.allow_hosts, or download the images and give their paths",
    },
    "pair": {
        pairing.NO_CLAIMS: "use experts that know what the images show (experts.detector), or other questions",
        pairing.INCOMPLETE: "check experts.extractor and its model, or lower policy.max_tokens",
        pairing.ONE_SIDED: "calibrate the detector for what such claims name (python jobs/evaluate.py calibrate)",
        pairing.LENGTH: "raise pairing.max_length_ratio or policy.samples",
        pairing.DUPLICATE: "raise policy.temperature or policy.samples",
    },
    "critique": {TOO_LONG: "raise critic.engine.max_model_len"},
    "select": {
        HELD_OUT: "lower evaluation.holdout or raise prompts.per_round",
        MASTERED: "the newest version has little left to learn from such prompts; raise prompts.per_round or selection.mastered",
        TOO_LONG: "raise critic.engine.max_model_len",
        selection.CITES_EXPERTS: "raise critic.k",
        selection.FALSE_STATEMENTS: "raise critic.k, or set selection.checked=false",
        selection.MARGIN: "lower selection.margin or raise prompts.per_round",
        selection.LABEL_MASS: "lower selection.label_mass, or check critic.model and critic.format",
        selection.NO_JUDGEMENT: "raise critic.max_tokens, or check critic.model and critic.format",
    },
}
"""By stage and reason."""
_BY_PREFIX = {
    "generate": {
        REFUSED: "check policy.model and policy.engine",
        EXPERT_FAILED: "look at the experts' logs in the Ray dashboard, and convert these images or give the experts more memory",
        "image_url_": "check the addresses and whether all nodes reach them, then run the command again",
    },
    "select": {REFUSED: "check critic.model and critic.engine"},
}
"""By stage and the beginning of a reason that has no remedy of its own."""


def for_reason(stage: str, reason: str) -> str:
    """What to do about rows that a stage lost for a reason; "" if nothing in particular."""
    if remedy := _REMEDIES.get(stage, {}).get(reason):
        return remedy
    return next((text for start, text in _BY_PREFIX.get(stage, {}).items() if reason.startswith(start)), "")


def for_prompts(reason: str) -> str:
    """What to do about prompts that are quarantined for a reason."""
    any_other = f"give readable images ({', '.join(FORMATS)}) and questions, then run the command again"
    return for_reason("generate", reason) or any_other


def for_pairs(reason: str) -> str:
    """What to do about pairs that are quarantined for a reason."""
    return for_reason("select", reason) or "check that the critics' nodes can read the images"
