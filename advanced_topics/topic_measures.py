"""The five architecture topics: what each varies and how it is measured.

Trainings differ from the baseline, a small rotary GPT, in the named settings alone: same steps,
same minibatches for the same seed. What is reported is measured on the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure

from advanced_topics.advanced_config import Rescale
from advanced_topics.grouped_attention import measured_cache_bytes
from advanced_topics.live_memory import peak_bytes
from advanced_topics.online_softmax import plain_attention, tiled_attention
from advanced_topics.topic_figures import (
    ExpertRow,
    GroupRow,
    MemoryRow,
    Values,
    experts_figure,
    experts_finding,
    groups_figure,
    groups_finding,
    memory_figure,
    memory_finding,
    positions_figure,
    positions_finding,
    recall_figure,
    recall_finding,
)
from advanced_topics.topic_runs import (
    BINS,
    STRETCH,
    measure_curve,
    measure_recall,
    measure_text,
    recall_config,
    text_config,
)
from tutorial_kit.verify import largest


def key_of(label: str) -> str:
    """Returns a label as a part of a result's name.

    >>> key_of("delta rule"), key_of("linear, half the first weights")
    ('delta_rule', 'linear_half_the_first_weights')
    """
    return label.replace(",", "").replace(" ", "_")


class Outcome(NamedTuple):
    """What a topic found, of whatever size: numbers to record, a sentence, a figure."""

    numbers: Mapping[tuple[str, str], Values]  # (what, label) -> one number a seed
    finding: str
    figure: Figure


POSITIONS: dict[str, tuple[dict[str, Any], Rescale]] = {
    "learned": ({"positions": "learned"}, "none"),
    "sine": ({"positions": "sine"}, "none"),
    "rotary": ({}, "none"),
    "rotary, interpolated": ({}, "interpolate"),
    "rotary, NTK-aware": ({}, "ntk"),
    "ALiBi": ({"positions": "alibi"}, "none"),
}
GROUPS: dict[str, dict[str, Any]] = {
    "4 key/value heads": {},
    "2 key/value heads": {"n_kv_heads": 2},
    "1 key/value head": {"n_kv_heads": 1},
    "1 head, wider feed-forward": {"n_kv_heads": 1, "d_ff": 304},  # as many parameters as with 4
}
EXPERTS: dict[str, dict[str, Any]] = {
    "one feed-forward": {},
    "8 experts": {"n_experts": 8},
    "8 experts, balanced": {"n_experts": 8, "balance": 0.02},
}
MIXERS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "delta rule": {"mixer": "delta"},
    "linear": {"mixer": "linear"},
    "linear, half the first weights": {"mixer": "linear", "init": 0.125},
}
PAIRS = (4, 8, 16, 32, 64)  # the last is beyond training
LENGTHS = {"standard": (128, 256, 512, 1024, 2048), "quick": (128, 256, 512), "smoke": (16, 32)}
TINY = 1e-15  # unit in which differences of float64 numbers are told


def positions(level: str, seeds: Sequence[int], labels: Sequence[str]) -> Outcome:
    """Trains on short windows, reads windows four times as long."""
    curves, numbers = {}, {}
    known = BINS // STRETCH  # stretches inside the training length
    for name in labels:
        settings, rescale = POSITIONS[name]
        configs = [text_config(level, settings, seed) for seed in seeds]
        curves[name] = [measure_curve(config, rescale) for config in configs]
        for what, part in (("inside", slice(known)), ("twice", slice(known, 2 * known)),
                           ("four", slice(-known, None))):  # fmt: skip
            numbers[what, name] = [sum(curve[part]) / known for curve in curves[name]]
    inside, far = ({name: numbers[what, name] for name in labels} for what in ("inside", "four"))
    finding = positions_finding(inside, far)
    return Outcome(
        numbers, finding, positions_figure(curves, finding, configs[0].window, STRETCH)
    )  # fmt: skip


def groups(level: str, seeds: Sequence[int], labels: Sequence[str]) -> Outcome:
    """Shares key/value heads among query heads; the cache is a real one."""
    rows, numbers = [], {}
    for name in labels:
        configs = [text_config(level, GROUPS[name], seed) for seed in seeds]
        outcomes = [measure_text(config) for config in configs]
        model = configs[0].model
        cache = measured_cache_bytes(model.n_layers, model.n_kv_heads, model.d_head, model.max_len)
        rows.append(GroupRow(name, [o["loss"] for o in outcomes], cache / model.max_len))
        numbers["loss", name] = rows[-1].losses
        numbers["cache", name] = [rows[-1].cache] * len(seeds)
        numbers["parameters", name] = [o["parameters"] for o in outcomes]
    finding = groups_finding(rows)
    return Outcome(numbers, finding, groups_figure(rows, finding))


def experts(level: str, seeds: Sequence[int], labels: Sequence[str]) -> Outcome:
    """Replaces each feed-forward by eight, of which a token uses one."""
    rows, numbers = [], {}
    for name in labels:
        outcomes = [measure_text(text_config(level, EXPERTS[name], seed)) for seed in seeds]
        loads = [[o[key] for key in sorted(o) if key.startswith("load.")] for o in outcomes]
        numbers["loss", name] = [o["loss"] for o in outcomes]
        numbers["parameters", name] = [o["parameters"] for o in outcomes]
        numbers["active", name] = [o["active"] for o in outcomes]
        for what in ("busiest", "overflow"):
            if what in outcomes[0]:
                numbers[what, name] = [100 * o[what] for o in outcomes]
        rows.append(ExpertRow(name, numbers["loss", name], loads if loads[0] else []))
    finding = experts_finding(rows)
    return Outcome(numbers, finding, experts_figure(rows, finding))


def attention_difference(seed: int, length: int = 200, tile: int = 64) -> tuple[float, float]:
    """Largest differences between plain and tiled attention in float64: outputs, gradients."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v, slope = (
        torch.randn(2, 4, length, 16, dtype=torch.float64, generator=generator) for _ in range(4)
    )
    leaves = [x.requires_grad_() for x in (q, k, v)]
    outputs = [plain_attention(q, k, v), tiled_attention(q, k, v, tile)]
    plain, tiled = (torch.autograd.grad((out * slope).sum(), leaves) for out in outputs)
    worst = max(largest(a - b) for a, b in zip(plain, tiled, strict=True))
    return largest((outputs[0] - outputs[1]).detach()), worst


def attention_peak(tiled: bool, length: int) -> int:
    """Peak of the tensors of one forward and backward pass, in bytes; two heads of 32 numbers."""
    q, k, v = (torch.randn(1, 2, length, 32, requires_grad=True) for _ in range(3))
    attend = tiled_attention if tiled else plain_attention
    return peak_bytes(lambda: attend(q, k, v).sum().backward())


def memory(level: str, seeds: Sequence[int], _labels: Sequence[str]) -> Outcome:
    """Compares attention in tiles with the plain one: results and peak of memory."""
    lengths = LENGTHS[level]
    rows = [MemoryRow(n, attention_peak(False, n), attention_peak(True, n)) for n in lengths]
    both = [attention_difference(seed) for seed in seeds]
    numbers: dict[tuple[str, str], Values] = {
        ("equal", "outputs"): [output / TINY for output, _ in both],
        ("equal", "gradients"): [gradient / TINY for _, gradient in both],
        ("ratio", "longest"): [rows[-1].plain / rows[-1].tiled] * len(seeds),
        ("peak", "plain"): [rows[-1].plain / 2**20] * len(seeds),
        ("peak", "tiled"): [rows[-1].tiled / 2**20] * len(seeds),
    }
    finding = memory_finding(rows, max(output for output, _ in both))
    return Outcome(numbers, finding, memory_figure(rows, finding))


def recall(level: str, seeds: Sequence[int], labels: Sequence[str]) -> Outcome:
    """Trains three mixers to recall pairs; more and more pairs are asked for."""
    accuracies: dict[str, dict[int, Values]] = {}
    for name in labels:
        configs = [recall_config(level, MIXERS[name], seed) for seed in seeds]
        pairs = tuple(n for n in PAIRS if n <= configs[0].keys)
        outcomes = [measure_recall(config, pairs) for config in configs]
        accuracies[name] = {n: [o[f"pairs.{n}"] for o in outcomes] for n in pairs}
    numbers = {
        (f"accuracy.{key_of(name)}", f"{n} pairs"): [100 * x for x in values]
        for name, found in accuracies.items()
        for n, values in found.items()
    }
    finding = recall_finding(accuracies, configs[0].model.d_head)
    return Outcome(numbers, finding, recall_figure(accuracies, finding, configs[0].pairs))
