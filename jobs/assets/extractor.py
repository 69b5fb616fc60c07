"""Trains the tiny claim extractor (Qwen3 architecture, text only) on statements about scenes.

The model learns to output the claims of the rule-based extractor as JSON that follows the schema of claims. Examples
on which the rule-based extractor misses the known claims are left out.
"""

import json
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from jobs.assets.training import learning_rates, optimizers, publish, restore, save, schedule, update
from vlrm_ray import torchvision_shim
from vlrm_ray.claims import Extractor, make_extractor
from vlrm_ray.claims.gold import claim_key
from vlrm_ray.claims.llm import INSTRUCTIONS, prompt
from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.types import Claim

torchvision_shim.install()
import transformers as hf  # noqa: E402  (needs the shim)

log = logging.getLogger(__name__)
PAD, END, USER, ASSISTANT = "<pad>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
IGNORE = -100
_GLUE = (
    r'\{"question":"|","response":"|\{"claims":\[|\{"type":"|","subject":"|","value":"|","object":"|","negated":true'
    r'|,"quote":"|","quote":"|"\},|"\}\]\}|"\}|\]\}| ?\w+|\s|[^\w\s]'
)
"""Pattern of the pre-tokenizer. Each fixed part of the JSON becomes one token, which makes decoding cheap."""


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of the training."""

    steps: int = 500
    batch: int = 64
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class Example:
    """A prompt and the answer to it."""

    prompt: str
    answer: str


def answer_of(claims: tuple[Claim, ...], response: str) -> str:
    """The claims as JSON by the schema of claims, without fields that have their default value.

    Args:
        claims: the claims.
        response: the text that the claims' spans refer to.
    """
    items = []
    for claim in claims:
        item: dict[str, Any] = {"type": claim.type.value, "subject": str(claim.subject)}
        item |= {"value": claim.value} if claim.value else {}
        item |= {"object": str(claim.object)} if claim.object else {}
        item |= {"negated": True} if claim.negated else {}
        items.append(item | {"quote": response[slice(*claim.span)]})
    return json.dumps({"claims": items}, separators=(",", ":"))


def example(seed: int, teacher: Extractor) -> Example | None:
    """A true or false statement about the scene of a seed with its claims.

    Returns:
        The example, or None if the teacher's claims differ from the known ones.
    """
    rng = random.Random(f"extract-{seed}")
    exchange = any_exchange(UNBIASED_WORLD.sample(seed), rng, ROUND_KINDS)
    statement = exchange.right if rng.random() < 0.5 else exchange.wrong
    question = exchange.question if rng.random() < 0.7 else exchange.rephrased if rng.random() < 0.5 else ""
    claims = teacher.claims(statement.text, question)
    if set(map(claim_key, claims)) != set(map(claim_key, statement.claims)):
        return None
    return Example(prompt(statement.text, question), answer_of(claims, statement.text))


def examples(first: int) -> Iterator[Example]:
    """Yield the examples of the seeds `first`, `first + 1`, ... without end."""
    teacher = make_extractor("rule")
    for seed in count(first):
        made = example(seed, teacher)
        if made is not None:
            yield made


def build_tokenizer() -> hf.PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on examples. The instructions, which never change, are one token."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_GLUE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=[PAD, END, USER, ASSISTANT], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    corpus = list(islice(examples(0), 4000))
    bpe.train_from_iterator((t for e in corpus for t in (e.prompt.removeprefix(INSTRUCTIONS), e.answer)), trainer)
    bpe.add_tokens([AddedToken(INSTRUCTIONS, normalized=False)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, padding_side="left", chat_template=CHAT_TEMPLATE,
        model_input_names=["input_ids", "attention_mask"], clean_up_tokenization_spaces=False,
    )  # fmt: skip


def build_model(tokenizer: hf.PreTrainedTokenizerFast, seed: int) -> hf.Qwen3ForCausalLM:
    """Create the untrained model of about 0.7 M parameters."""
    torch.manual_seed(seed)
    config = hf.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-6,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    model = hf.Qwen3ForCausalLM(config)
    model.set_attn_implementation("eager")  # twice as fast as sdpa at this size on a CPU
    model.generation_config = hf.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of its answer."""


def rows_of(tokenizer: hf.PreTrainedTokenizerFast, batch: list[Example]) -> list[Row]:
    """Tokenize the examples; returns the rows sorted by length, shortest first."""
    rows = []
    for item in batch:
        prompt_ids = tokenizer.encode(f"{USER}{item.prompt}{ASSISTANT}", add_special_tokens=False)
        rows.append((prompt_ids, tokenizer.encode(f"{item.answer}{END}", add_special_tokens=False)))
    return sorted(rows, key=lambda row: len(row[0]) + len(row[1]))


def batch_of(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad the rows with the token `pad`.

    Returns:
        Token ids and labels, int64 of shape (rows, length); prompts and padding have the label `IGNORE`.
    """
    length = (
        -(-max(len(a) + len(b) for a, b in rows) // 32) * 32
    )  # few distinct shapes, as oneDNN compiles kernels per shape
    ids = torch.full((len(rows), length), pad)
    labels = torch.full_like(ids, IGNORE)
    for row, (prompt_ids, answer) in enumerate(rows):
        end = len(prompt_ids) + len(answer)
        ids[row, :end] = torch.tensor([*prompt_ids, *answer])
        labels[row, len(prompt_ids) : end] = torch.tensor(answer)
    return ids, labels


def train(model: hf.Qwen3ForCausalLM, tokenizer: hf.PreTrainedTokenizerFast, recipe: Recipe, state: Path) -> float:
    """Train by the recipe, resuming from the file `state` if it exists; returns the CPU seconds of all sessions."""
    opts = optimizers(model, recipe.muon_lr, recipe.adam_lr)
    rates = learning_rates(opts)
    first_step, spent = restore(state, model, opts)
    teacher = make_extractor("rule")
    for step in range(first_step, recipe.steps):
        start_time = time.process_time()
        seeds = range(step * recipe.batch, (step + 1) * recipe.batch)
        rows = rows_of(tokenizer, [e for s in seeds if (e := example(s, teacher))])
        cut = 2 * len(rows) // 3  # most rows are short, so two batches need little padding
        tokens = sum(len(answer) for _, answer in rows)
        loss = sum(
            _backward(model, batch_of(part, tokenizer.pad_token_id), tokens) for part in (rows[:cut], rows[cut:])
        )
        update(model, opts, rates, schedule(step / recipe.steps, recipe.steps))
        spent += time.process_time() - start_time
        if step % 25 == 24:
            log.info("step %d of %d, loss %.4f, %.0f s", step + 1, recipe.steps, loss, spent)
        if step % 100 == 99:
            save(state, model, opts, step + 1, spent)
    return spent


def _backward(model: hf.Qwen3ForCausalLM, batch: tuple[torch.Tensor, torch.Tensor], tokens: int) -> float:
    """Add a batch's gradient to the step's; returns its share of the loss.

    Args:
        model: the model.
        batch: output of `batch_of`.
        tokens: number of answer tokens in all batches of the step.
    """
    ids, labels = batch
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    chosen = labels[:, 1:] != IGNORE
    loss = cross_entropy(model.lm_head(hidden[chosen]), labels[:, 1:][chosen], reduction="sum") / tokens
    loss.backward()
    return float(loss.detach())


def build(out: Path, recipe: Recipe, state: Path, threads: int) -> dict[str, float]:
    """Train the extractor and write its folder.

    Args:
        out: folder of the asset.
        recipe: hyperparameters.
        state: file of the training state; an existing one is resumed.
        threads: CPU threads.

    Returns:
        CPU seconds and number of parameters.
    """
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium")  # bfloat16 matrix products on CPUs that support them
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, recipe.seed)
    spent = train(model, tokenizer, recipe, state)
    publish(model, tokenizer, out)
    return {"cpu_seconds": round(spent), "parameters": sum(p.numel() for p in model.parameters())}
