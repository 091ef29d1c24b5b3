"""Size, quality and speed of one trained model after each technique: the chapter's table.

Every row is measured the same way: the bytes of its file, the perplexity of held-out text, and the
tokens a second that it writes, all ways in turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from gpt.train_gpt import evaluate
from optimization.decoding_speeds import (
    Way,
    held_out_prompts,
    measure_speeds,
    speculative_writer,
    writer,
)
from optimization.pruning import block_matrices
from optimization.quantized_model import dynamic_model, quantize_model, stored_bytes

NEW_TOKENS = 48  # that each way writes behind each prompt
BATCH = 8
BASELINE = "float32, cache"


@dataclass(frozen=True)
class Contestant:
    """One technique, ready to be measured."""

    name: str
    scored: GPT  # whose perplexity it is
    size: int  # bytes of its file
    way: Way  # writes


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    megabytes: float  # of the file, 10^6 bytes
    perplexity: float  # of held-out text
    tokens_per_s: float
    ratio: float  # times as fast as the baseline


def perplexity(model: GPT, tokens: Tensor) -> float:
    """Returns exp of the mean cross-entropy over a split: among how many tokens the model wavers.

    Args:
        model: on the CPU.
        tokens: (N,), the split; cut into windows that do not overlap.
    """
    return math.exp(evaluate(model, tokens, model.config.max_len, torch.device("cpu")))


def rise(model: GPT, baseline: float, tokens: Tensor) -> float:
    """Returns by how much a model's perplexity is above a baseline, in percent."""
    return 100 * (perplexity(model, tokens) / baseline - 1)


@torch.inference_mode()
def written_loss(model: GPT, tokens: Tensor) -> float:
    """Returns the mean cross-entropy with one token in each call, as a model reads while it writes.

    For exact weights it is what ``evaluate`` gives. int8 layers round their input with one scale
    for each call: with one token in it the scale is finer than with thousands.

    Args:
        model: on the CPU.
        tokens: (N,), held-out text; its whole windows are read, each through a cache of its own.

    Returns:
        Nats per token.

    Raises:
        ValueError: there is no whole window.
    """
    window = model.config.max_len
    count = (len(tokens) - 1) // window
    if not count:
        raise ValueError(
            f"{len(tokens)} tokens hold no window of {window} and the token behind it. "
            f"Give {window + 1} or more."
        )
    losses = []
    for start in range(0, count * window, window):
        cache = model.new_cache(1)
        for place in range(start, start + window):
            logits = model(tokens[None, place : place + 1], cache)[0, -1]  # (V,)
            losses.append(-logits.log_softmax(-1)[tokens[place + 1]].item())
    return sum(losses) / len(losses)


def written_rise(model: GPT, exact: GPT, tokens: Tensor) -> float:
    """Returns the rise of the perplexity in percent, both models read token by token."""
    return 100 * math.expm1(written_loss(model, tokens) - written_loss(exact, tokens))


def sparse_bytes(model: GPT) -> int:
    """Returns the bytes of a file that leaves zeros of the blocks out and marks them by one bit."""
    matrices = list(block_matrices(model).values())
    zeros = sum(int((weight == 0).sum()) for weight in matrices)
    marks = sum(weight.numel() for weight in matrices) // 8
    return stored_bytes(model, "float32") - 4 * zeros + marks


def _stored(name: str, model: GPT, prompts: Sequence[Sequence[int]], size: int = 0) -> Contestant:
    """Returns a float32 model that writes one prompt as the baseline does."""
    way = writer(model, prompts[:1], NEW_TOKENS)
    return Contestant(name, model, size or stored_bytes(model, "float32"), way)


def contestants(
    teacher: GPT, students: dict[str, GPT], pruned: dict[str, GPT], prompts: Sequence[Sequence[int]]
) -> list[Contestant]:
    """Returns everything that the table compares; the first one is the baseline.

    Each differs from the baseline in one thing, so that it can be seen what that thing brings.

    Args:
        teacher: the trained model.
        students: name -> small model; the last one is also the teacher's draft.
        pruned: name -> the teacher with something left out.
        prompts: token ids, ``BATCH`` of them.
    """
    one, full = prompts[:1], stored_bytes(teacher, "float32")
    last, student = list(students.items())[-1]
    drafted = speculative_writer(teacher, student, one, NEW_TOKENS)
    int8, packed = quantize_model(teacher), pack_weights(teacher)
    rows = [
        Contestant(BASELINE, teacher, full, writer(teacher, one, NEW_TOKENS)),
        Contestant("no cache", teacher, full, writer(teacher, one, NEW_TOKENS, use_cache=False)),
        Contestant(f"batch of {BATCH}", teacher, full, writer(teacher, prompts, NEW_TOKENS)),
        Contestant("draft", teacher, full + stored_bytes(student, "float32"), drafted),
        Contestant("packed", teacher, full, writer(packed, one, NEW_TOKENS)),
        Contestant("int8", int8, stored_bytes(teacher, "int8"), writer(int8, one, NEW_TOKENS)),
    ]
    dynamic = dynamic_model(teacher)
    rows.append(
        Contestant(
            "int8, torch dynamic", dynamic, dynamic_bytes(teacher), writer(dynamic, one, NEW_TOKENS)
        )
    )
    rows += [_stored(name, model, prompts, sparse_bytes(model)) for name, model in pruned.items()]
    rows += [_stored(name, model, prompts) for name, model in students.items()]
    small = quantize_model(student)
    way = writer(small, one, NEW_TOKENS)
    rows.append(Contestant(f"{last}, int8", small, stored_bytes(student, "int8"), way))
    return rows


def dynamic_bytes(model: GPT) -> int:
    """Returns the bytes of a dynamically quantized model: int8 linear layers, float32 embeddings.

    A tied matrix counts twice: as the float32 embedding and as the int8 head.
    """
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    tied = model.config.tie_weights
    head = model.head.weight.numel() if tied else 0
    return stored_bytes(model, "float32") - 4 * (linear - head) + linear


def measure(rows: Sequence[Contestant], tokens: Tensor, rounds: int = 5) -> list[Row]:
    """Measures all contestants; a model that several share is scored once.

    Args:
        rows: from ``contestants``.
        tokens: (N,), held-out text.
        rounds: of the timing.
    """
    scores: dict[int, float] = {}
    for row in rows:
        if id(row.scored) not in scores:
            scores[id(row.scored)] = perplexity(row.scored, tokens)
    speeds = measure_speeds({row.name: row.way for row in rows}, rows[0].name, rounds)
    return [
        Row(
            row.name, row.size / 1e6, scores[id(row.scored)], speeds[row.name].tokens_per_s,
            speeds[row.name].ratio,
        )
        for row in rows
    ]  # fmt: skip


def prompts_of(tokens: Tensor) -> list[list[int]]:
    """Returns the prompts of a table: ``BATCH`` pieces of a held-out text."""
    return held_out_prompts(tokens, BATCH)
