"""The ways of writing that are placed on the roofline: what each costs, and how fast it is.

Random weights: the speed does not depend on them. Only speculative decoding depends on how often
the draft is right. So its target is built so that a small draft is always right: every layer of it
but the first adds nothing. The multiplications are the same, and what is seen is the most that
speculation can bring with a draft of this size.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from gpt.context_window import Context
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from gpt.speculative import speculate
from optimization.roofline_counts import (
    Cost,
    Roof,
    decode_cost,
    prefill_cost,
    speculative_cost,
    weight_bytes,
)
from optimization.roofline_machine import Machine, in_turns

BATCHES = (1, 8, 64)


@dataclass(frozen=True)
class Point:
    """One way of writing, or of reading a prompt."""

    name: str
    cost: Cost  # of a token
    roof: Roof  # that holds for it
    rates: tuple[float, ...]  # tokens/s of each turn

    @property
    def rate(self) -> float:
        """Tokens a second, the median."""
        return statistics.median(self.rates)

    @property
    def possible(self) -> float:
        """Tokens a second that the roof allows."""
        return self.roof.tokens_per_second(self.cost)

    @property
    def share(self) -> float:
        """What is reached of what is possible, in %."""
        return 100 * self.rate / self.possible

    @property
    def limit(self) -> str:
        """What the roof is made of at this point."""
        return "memory" if self.cost.intensity < self.roof.ridge else "arithmetic"


@dataclass(frozen=True)
class Work:
    """What is timed."""

    context: int  # tokens of each prompt
    steps: int  # tokens written behind it
    draft_tokens: int  # proposals a round of speculative decoding
    rounds: int  # turns

    @property
    def mean_context(self) -> float:
        """Tokens that a new token attends to on average, itself included."""
        return self.context + (self.steps + 1) / 2


def always_right_pair(config: GPTConfig) -> tuple[GPT, GPT]:
    """Returns a target and a draft of one layer that compute the same.

    Args:
        config: the target's shape.
    """
    torch.manual_seed(0)
    target, draft = GPT(config).eval(), GPT(replace(config, n_layers=1)).eval()
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            later = name.startswith("blocks.") and not name.startswith("blocks.0.")
            if later and ("attention.output" in name or "feed_forward.contract" in name):
                parameter.zero_()
    draft.load_state_dict(target.state_dict(), strict=False)
    return target, draft


def prompts_of(config: GPTConfig, batch: int, length: int) -> list[list[int]]:
    """Returns random prompts, always the same."""
    generator = torch.Generator().manual_seed(0)
    tokens: list[list[int]] = torch.randint(
        config.vocab_size, (batch, length), generator=generator
    ).tolist()
    return tokens


def decoding(model: GPT, batch: int, work: Work) -> Callable[[], None]:
    """Returns a program that writes ``work.steps`` tokens in each of B rows.

    The prompts are read before, once: a turn goes back to their end.
    """
    context = Context(model, prompts_of(model.config, batch, work.context))
    first = context.scores()[:, -1].argmax(dim=-1).tolist()

    def run() -> None:
        context.append(first)
        for _ in range(work.steps):
            context.append(context.scores()[:, -1].argmax(dim=-1).tolist())
        context.forget(work.steps + 1)

    return run


def measure_points(config: GPTConfig, machine: Machine, work: Work) -> list[Point]:
    """Times every way in turns and places it below its roof.

    Args:
        config: the model's shape.
        machine: its ``read`` has the weights' sizes.
        work: what is timed.
    """
    target, draft = always_right_pair(config)
    fast, small = pack_weights(target), pack_weights(target, "int8")
    fast_draft, prompt = pack_weights(draft), prompts_of(config, 1, work.context)
    context, proposals = work.mean_context, work.draft_tokens
    programs: dict[str, Callable[[], object]] = {}
    costs: dict[str, Cost] = {}
    tokens: dict[str, int] = {}

    def add(name: str, program: Callable[[], object], cost: Cost, count: int) -> None:
        programs[name], costs[name], tokens[name] = program, cost, count

    add("prompt", lambda: Context(fast, prompt).scores(), prefill_cost(config, work.context),
        work.context)  # fmt: skip
    for batch in BATCHES:
        name = "1 stream" if batch == 1 else f"{batch} streams"
        add(name, decoding(fast, batch, work), decode_cost(config, batch, context),
            batch * work.steps)  # fmt: skip
    add("1 stream, int8", decoding(small, 1, work), decode_cost(config, 1, context, "int8"),
        work.steps)  # fmt: skip
    add("8 streams, int8", decoding(small, 8, work), decode_cost(config, 8, context, "int8"),
        8 * work.steps)  # fmt: skip
    add(
        "speculative",
        lambda: speculate(fast, fast_draft, prompt[0][:1], work.steps, draft_tokens=proposals),
        speculative_cost(config, draft.config, (work.steps + 1) / 2, proposals, 1.0), work.steps,
    )  # fmt: skip
    seconds = in_turns(programs, work.rounds)
    return [
        Point(
            name, costs[name], _roof(machine, config, name),
            tuple(tokens[name] / turn for turn in seconds[name]),
        )
        for name in programs
    ]  # fmt: skip


def _roof(machine: Machine, config: GPTConfig, name: str) -> Roof:
    weights = "int8" if "int8" in name else "float32"
    return machine.roof(weights, weight_bytes(config, weights))
