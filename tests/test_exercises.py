"""The coded exercises: solutions pass, open ones and typical mistakes do not, commands answer."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import run_entry
from tutorial_kit.exercise_cases import Case, Exercise, difference, find_fault
from tutorial_kit.texts import Texts

FAMILIES = ("cbow", "transformer", "bert", "vit", "gpt", "instruction_tuning")
BOOKS = {name: importlib.import_module(f"{name}.exercise_checks").EXERCISES for name in FAMILIES}
ALL = [(family, exercise) for family in FAMILIES for exercise in BOOKS[family]]


def named(pair: object) -> str:
    return pair.function if isinstance(pair, Exercise) else str(pair)


def module(family: str, name: str = "exercises") -> Any:
    return importlib.import_module(f"{family}.{name}")


# --- typical mistakes: function -> (what a learner writes, the clue that must come) -------------


def halves_rotated(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    width = x.shape[-1]
    angles = positions[:, None] * base ** (-torch.arange(0, width, 2) / width)
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def without_crossing(logits: torch.Tensor, p: float) -> torch.Tensor:
    ordered, places = logits.sort(descending=True)
    dropped = torch.empty_like(places, dtype=torch.bool)
    dropped[places] = ordered.softmax(-1).cumsum(-1) > p
    return logits.masked_fill(dropped, -math.inf)


def left_sorted(logits: torch.Tensor, p: float) -> torch.Tensor:
    ordered = logits.sort(descending=True).values
    shares = ordered.softmax(-1)
    return ordered.masked_fill(shares.cumsum(-1) - shares >= p, -math.inf)


def cut_from_the_front(word: str, vocabulary: list[str]) -> list[str]:
    pieces, start = [], 0
    for end in range(1, len(word) + 1):
        piece = ("##" if start else "") + word[start:end]
        if piece in vocabulary:
            pieces.append(piece)
            start = end
    return pieces if start == len(word) else ["[UNK]"]


def cut_with_rest_unknown(word: str, vocabulary: list[str]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            if ("##" if start else "") + word[start:end] in vocabulary:
                break
        else:
            return [*pieces, "[UNK]"]
        pieces.append(("##" if start else "") + word[start:end])
        start = end
    return pieces


def labels_at_masks_alone(
    tokens: torch.Tensor, chosen: torch.Tensor, draws: torch.Tensor, random_ids: torch.Tensor,
    mask_id: int,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    inputs, _ = module("bert", "exercise_solutions").hide_tokens(
        tokens, chosen, draws, random_ids, mask_id
    )
    return inputs, torch.where(inputs == mask_id, tokens, -100)


def overwritten(a: torch.Tensor, b: torch.Tensor, share: torch.Tensor, n: int) -> torch.Tensor:
    rows, target = torch.arange(len(a)), torch.zeros(len(a), n)
    target[rows, a] = share
    target[rows, b] = 1 - share
    return target


def stretched_as_a_line(table: torch.Tensor, new: int) -> torch.Tensor:
    line = F.interpolate(table[1:].T[None], size=new * new, mode="linear")[0].T
    return torch.cat([table[:1], line])


def street_distance(weights: torch.Tensor, grid: int, patch: int) -> torch.Tensor:
    number = torch.arange(grid * grid)
    places = patch * torch.stack([number // grid, number % grid], dim=1).float()
    return (weights * (places[:, None] - places[None]).abs().sum(-1)).sum(-1).mean()


def first_layer_left(weights: torch.Tensor) -> torch.Tensor:
    total = torch.eye(weights.shape[-1])
    for step in (weights.mean(1) + torch.eye(weights.shape[-1])) / 2:
        total = total @ step
    return total


def each_beam_for_itself(
    sums: torch.Tensor, log_p: torch.Tensor, beams: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values, tokens = (sums[:, None] + log_p).topk(max(1, beams // len(sums)), dim=1)
    parents = torch.arange(len(sums)).repeat_interleave(values.shape[1])
    return values.flatten(), parents, tokens.flatten()


def sums_forgotten(
    sums: torch.Tensor, log_p: torch.Tensor, beams: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    best = log_p.flatten().topk(beams)
    return best.values, best.indices // log_p.shape[1], best.indices % log_p.shape[1]


def analogy(vectors: torch.Tensor, a: int, b: int, c: int, exclude: bool, unit: bool) -> int:
    if unit:
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
    scores = vectors @ (vectors[b] - vectors[a] + vectors[c])
    if exclude:
        scores[[a, b, c]] = -math.inf
    return int(scores.argmax())


def gradients_with_the_wrong_sign(
    hidden: torch.Tensor, target: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    right = module("cbow", "exercise_solutions").negative_sampling_gradients(hidden, target, noise)
    return tuple(-gradient for gradient in right)


def gradient_of_the_target_alone(
    hidden: torch.Tensor, target: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    _, of_target, of_noise = module("cbow", "exercise_solutions").negative_sampling_gradients(
        hidden, target, noise
    )
    return ((target @ hidden).sigmoid() - 1) * target, of_target, of_noise


def mask_without_end(tokens: list[int], assistant: int, end: int) -> list[bool]:
    right = module("instruction_tuning", "exercise_solutions").loss_mask(tokens, assistant, end)
    return [trained and token != end for trained, token in zip(right, tokens, strict=True)]


def mask_from_the_first_reply_on(tokens: list[int], assistant: int, end: int) -> list[bool]:
    first = tokens.index(assistant)
    return [place > first for place in range(len(tokens))]


def gae_without_lambda(
    rewards: torch.Tensor, values: torch.Tensor, discount: float, lam: float
) -> torch.Tensor:
    return module("instruction_tuning", "exercise_solutions").gae(rewards, values, discount, 1.0)


def gae_that_goes_on(
    rewards: torch.Tensor, values: torch.Tensor, discount: float, lam: float
) -> torch.Tensor:
    later, advantages = torch.zeros(()), torch.zeros_like(rewards)
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + discount * values[min(t + 1, len(values) - 1)] - values[t]
        later = advantages[t] = delta + discount * lam * later
    return advantages


def log_probs(logits: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Without the shift."""
    of_token = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return (of_token * mask).sum(1)


def mean_log_probs(logits: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    right = module("instruction_tuning", "exercise_solutions").reply_log_probs(logits, tokens, mask)
    return right / mask.sum(1)


def smoothed_over_the_others(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float
) -> torch.Tensor:
    scored = labels != -100
    log_p, labels = logits[scored].log_softmax(-1), labels[scored]
    q = torch.full_like(log_p, smoothing / (log_p.shape[1] - 1))
    q[torch.arange(len(labels)), labels] = 1 - smoothing
    return -(q * log_p).sum(-1).mean()


Mistake = tuple[Callable[..., Any], str]
MISTAKES: dict[str, dict[str, list[Mistake]]] = {
    "gpt": {
        "causal_mask": [
            (lambda n: torch.ones(n, n).bool().triu(), "rows"),
            (lambda n: torch.ones(n, n).bool().tril(-1), "itself"),
            (lambda n: torch.ones(n, n).tril(), "itself"),  # not boolean
        ],
        "bits_per_byte": [
            (lambda nats, tokens, n_bytes: nats * tokens / n_bytes, "units"),
            (lambda nats, tokens, n_bytes: nats / math.log(2) * n_bytes / tokens, "units"),
        ],
        "perplexity": [
            (lambda losses, tokens: losses.mean().exp(), "weights"),
            (lambda losses, tokens: (losses.exp() * tokens).sum() / tokens.sum(), "weights"),
            (lambda losses, tokens: 2 ** ((losses * tokens).sum() / tokens.sum()), "exp"),
        ],
        "token_losses": [
            (lambda z, y: -z.softmax(-1).log().gather(-1, y[..., None])[..., 0], "overflow"),
            (lambda z, y: -z.log_softmax(-1).gather(-1, y.roll(-1, 1)[..., None])[..., 0], "shift"),
            (lambda z, y: z.log_softmax(-1).gather(-1, y[..., None])[..., 0], "equation"),
        ],
        "attention_weights": [
            (lambda q, k, m: (q @ k.mT).masked_fill(~m, -math.inf).softmax(-1), "scale"),
            (lambda q, k, m: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * m, "mask"),
            (lambda q, k, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~m, -math.inf).softmax(1),
             "batch"),
        ],
        "keep_top_p": [(without_crossing, "crossing"), (left_sorted, "order")],
        "cached_mask": [
            (lambda past, new: torch.ones(new, past + new).bool().tril(), "past"),
            (lambda past, new: torch.ones(new, past + new).bool(), "empty"),
        ],
        "rotate": [
            (halves_rotated, "pairs"),
            (lambda x, t, base: module("gpt", "exercise_solutions").rotate(x, -t, base),
             "direction"),
        ],
    },
    "transformer": {
        "sinusoidal_positions": [
            (lambda n, d: torch.cat([(angles := torch.outer(torch.arange(n).double(), 1e4 ** (
                -torch.arange(0, d, 2) / d))).sin(), angles.cos()], dim=1), "neighbors"),
            (lambda n, d: torch.stack([(angles := torch.outer(torch.arange(n).double(), 1e4 ** (
                -torch.arange(d // 2) / d))).sin(), angles.cos()], dim=2).flatten(1), "neighbors"),
        ],
        "split_heads": [
            (lambda x, h: x.reshape(len(x), h, x.shape[1], -1), "tokens"),
            (lambda x, h: x.unflatten(-1, (-1, h)).permute(0, 3, 1, 2), "tokens"),
        ],
        "padding_mask": [
            (lambda tokens, pad: (tokens == pad)[:, None, None], "meaning"),
            (lambda tokens, pad: tokens != pad, "meaning"),
            (lambda tokens, pad: (tokens != pad)[None, :, None], "shape"),
        ],
        "teacher_forcing": [
            (lambda target, pad: (target[:, :-1], target[:, 1:]), "padding"),
            (lambda target, pad: (target[:, 1:], target[:, 1:]), "shift"),
        ],
        "smoothed_loss": [
            (smoothed_over_the_others, "share"),
            (lambda z, y, e: F.cross_entropy(z, y.clamp(min=0), label_smoothing=e), "ignored"),
        ],
        "best_hypothesis": [
            (lambda sums, lengths, alpha: sums.index(max(sums)), "divide"),
            (lambda sums, lengths, alpha: max(range(len(sums)), key=lambda i: sums[i] * (
                (5 + lengths[i]) / 6) ** alpha), "divide"),
        ],
        "brevity_penalty": [
            (lambda c, r: sum(min(1.0, math.exp(1 - b / a)) for a, b in zip(c, r, strict=True))
             / len(c), "together"),
            (lambda c, r: math.exp(1 - sum(r) / sum(c)), "long"),
            (lambda c, r: min(1.0, sum(c) / sum(r)), "short"),
        ],
        "beam_step": [(each_beam_for_itself, "compete"), (sums_forgotten, "compete")],
    },
    "bert": {
        "segment_ids": [
            (lambda a, b: [0] * (a + 1) + [1] * (b + 2), "special"),
            (lambda a, b: [0] * (a + 2) + [1] * b, "special"),
        ],
        "unigram_entropy": [
            (lambda n: -((p := n / n.sum()) * p.log()).sum(), "never"),
            (lambda n: -((p := n / n.sum()) * p.log2()).sum(), "shares"),
        ],
        "cut_word": [(cut_from_the_front, "longest"), (cut_with_rest_unknown, "missing")],
        "masked_loss": [
            (lambda z, y: (F.cross_entropy(z.mT, y.clamp(min=0), reduction="none")
                           * (y != -100)).mean(), "chosen"),
            (lambda z, y: F.cross_entropy(z.mT, y.clamp(min=0), ignore_index=0), "zero"),
            (lambda z, y: torch.stack([F.cross_entropy(a, b) for a, b in zip(z, y, strict=True)]
                                      ).mean(), "mean"),
        ],
        "mean_pool": [
            (lambda h, mask: h.mean(1), "padding"),
            (lambda h, mask: (h * mask[..., None]).mean(1), "padding"),
        ],
        "hide_tokens": [(labels_at_masks_alone, "labels")],
        "choose_whole_words": [(lambda draws, starts, rate: draws < rate, "first")],
    },
    "vit": {
        "token_count": [
            (lambda h, w, p, cls: (h // p) * (w // p), "both"),
            (lambda h, w, p, cls: (h // p) ** 2 + cls, "both"),
            (lambda h, w, p, cls: (h // p) * (w // p) + 1, "class"),
        ],
        "add_class_token": [
            (lambda x, c, p: torch.cat([c.expand(len(x), 1, -1), x + p[1:]], dim=1), "positions"),
            (lambda x, c, p: torch.cat([x, c.expand(len(x), 1, -1)], dim=1) + p, "positions"),
        ],
        "cut_patches": [
            (lambda x, p: x.reshape(len(x), -1, x.shape[1] * p * p), "squares"),
            (lambda x, p: x.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 4, 5, 1).flatten(3)
             .flatten(1, 2), "channels"),
            (lambda x, p: x.unfold(2, p, p).unfold(3, p, p).permute(0, 3, 2, 1, 4, 5).flatten(3)
             .flatten(1, 2)[:, [0, 2, 1, 3]] if x.shape[2] == x.shape[3] else
             x.unfold(2, p, p).unfold(3, p, p).permute(0, 3, 2, 1, 4, 5).flatten(3).flatten(1, 2),
             "rows"),
        ],
        "mixed_targets": [
            (overwritten, "same"),
            (lambda a, b, share, n: F.one_hot(a, n).float(), "share"),
        ],
        "resize_positions": [(stretched_as_a_line, "image")],
        "attention_distance": [(street_distance, "straight")],
        "rollout": [
            (first_layer_left, "product"),
            (lambda w: torch.linalg.multi_dot([*w.mean(1).flip(0), torch.eye(w.shape[-1])]),
             "residual"),
            (lambda w: module("vit", "exercise_solutions").rollout(w[:, :1]), "heads"),
        ],
    },
    "cbow": {
        "noise_distribution": [
            (lambda n, power: (n / n.sum()) ** power, "sum"),
            (lambda n, power: n / n.sum(), "sum"),
        ],
        "context_of": [
            (lambda words, t, w: words[t - w : t] + words[t + 1 : t + 1 + w], "start"),
            (lambda words, t, w: words[max(0, t - w) : t + 1 + w], "target"),
        ],
        "keep_probability": [
            (lambda n, t: (r := t / (n / n.sum())).sqrt() + r, "most"),
            (lambda n, t: (t / (n / n.sum())).sqrt().clamp(max=1), "formula"),
        ],
        "negative_sampling_loss": [
            (lambda h, u, noise: -F.logsigmoid(u @ h) - F.logsigmoid(-(noise @ h)).mean(), "count"),
            (lambda h, u, noise: -F.logsigmoid(u @ h) - F.logsigmoid(noise @ h).sum(), "signs"),
            (lambda h, u, noise: -(u @ h).sigmoid().log() - (1 - (noise @ h).sigmoid()).log().sum(),
             "overflow"),
        ],
        "solve_analogy": [
            (lambda v, a, b, c: analogy(v, a, b, c, exclude=False, unit=True), "exclude"),
            (lambda v, a, b, c: analogy(v, a, b, c, exclude=True, unit=False), "length"),
            (lambda v, a, b, c: analogy(v, b, a, c, exclude=True, unit=True), "arrow"),
        ],
        "positive_pmi": [
            (lambda n: ((p := n / n.sum()) / (p.sum(1, True) * p.sum(0, True))).log(), "positive"),
            (lambda n: (n / (n.sum(1, keepdim=True) * n.sum(0, keepdim=True))).log().clamp(min=0),
             "positive"),
            (lambda n: ((p := n / n.sum()) / (p.sum(1, True) * p.sum(0, True))).clamp(min=0),
             "chance"),
        ],
        "negative_sampling_gradients": [
            (gradients_with_the_wrong_sign, "error"),
            (gradient_of_the_target_alone, "sum"),
        ],
    },
    "instruction_tuning": {
        "loss_mask": [(mask_without_end, "end"), (mask_from_the_first_reply_on, "turns")],
        "pass_at_k": [(lambda c, n, k: 1 - (1 - c / n) ** k, "again")],
        "kl_k3": [
            (lambda p, q: (p - q).exp() - 1 - (p - q), "ratio"),
            (lambda p, q: (q - p).exp() - (q - p), "zero"),
        ],
        "reply_log_probs": [(log_probs, "shift"), (mean_log_probs, "sum")],
        "dpo_loss": [
            (lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - pr)).mean(), "reference"),
            (lambda pc, pr, rc, rr, beta: -F.logsigmoid(pc - rc - pr + rr).mean(), "beta"),
            (lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - rc - pr + rr).mean()),
             "pairs"),
        ],
        "merge_lora": [
            (lambda w, a, b, alpha: w + alpha * (b @ a), "scale"),
            (lambda w, a, b, alpha: w + b @ a, "scale"),
        ],
        "group_advantages": [
            (lambda r: (r - r.mean(1, True)) / (r.std(1, keepdim=True, correction=0) + 1e-4),
             "divisor"),
            (lambda r: (r - r.mean()) / (r.std() + 1e-4), "groups"),
            (lambda r: (r - r.mean(1, True)) / r.std(1, keepdim=True), "equal"),
        ],
        "gae": [(gae_without_lambda, "delta"), (gae_that_goes_on, "end")],
    },
}  # fmt: skip
EVERY_MISTAKE = [
    pytest.param(family, exercise, *mistake, id=f"{family}-{exercise.function}-{place}")
    for family, exercise in ALL
    for place, mistake in enumerate(MISTAKES[family][exercise.function])
]


@pytest.mark.parametrize(("family", "exercise"), ALL, ids=named)
def test_a_solution_passes_and_has_the_parameters_of_the_stub(
    family: str, exercise: Exercise
) -> None:
    solution = getattr(module(family, "exercise_solutions"), exercise.function)
    assert find_fault(exercise, solution) is None
    stub = getattr(module(family), exercise.function)
    assert inspect.signature(solution) == inspect.signature(stub)


@pytest.mark.parametrize(("family", "exercise"), ALL, ids=named)
def test_an_open_exercise_says_what_to_write_and_where(family: str, exercise: Exercise) -> None:
    fault = find_fault(exercise, getattr(module(family), exercise.function))
    assert fault is not None and not fault.clue
    assert fault.text == (
        f"exercise {exercise.number} is open: write {exercise.function} in {family}/exercises.py"
    )


@pytest.mark.parametrize(("family", "exercise", "attempt", "clue"), EVERY_MISTAKE)
def test_a_typical_mistake_is_refused_with_the_clue_that_fits(
    family: str, exercise: Exercise, attempt: Callable[..., Any], clue: str
) -> None:
    fault = find_fault(exercise, attempt)
    assert fault is not None
    assert "expected" in fault.text and "got" in fault.text and "\n" not in fault.text
    assert fault.clue == clue, fault


@pytest.mark.parametrize("family", FAMILIES)
def test_exercises_are_numbered_and_go_from_easy_to_hard(family: str) -> None:
    book = BOOKS[family]
    assert len(book) >= 6 and [e.number for e in book] == list(range(1, len(book) + 1))
    levels = [("easy", "medium", "hard").index(e.level) for e in book]
    assert levels == sorted(levels) and set(levels) == {0, 1, 2}
    assert [e.function for e in book] == list(MISTAKES[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_text_is_there_and_used(family: str) -> None:
    templates = Texts(PROJECT_ROOT / family, "en").templates
    wanted = set()
    for exercise in BOOKS[family]:
        parts = ["title", "task", "hint.1", "hint.2"]
        parts += [f"clue.{case.clue}" for case in exercise.cases()]
        wanted |= {f"exercise.{exercise.function}.{part}" for part in parts}
    assert {key for key in templates if key.startswith("exercise.")} == wanted
    for key in wanted:
        assert templates[key].format() == templates[key], f"{key} holds a placeholder"


# --- the command line ---------------------------------------------------------------------------


def call(family: str, *arguments: str) -> int:
    return module(family).main(arguments)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arguments", [(), ("list",)], ids=str)
def test_list_names_every_exercise(family, arguments, capsys):
    assert call(family, *arguments) == 0
    told = capsys.readouterr().out
    assert all(e.function in told and e.level in told for e in BOOKS[family])
    assert f"python -m {family}.exercises show 1" in told


@pytest.mark.parametrize("family", FAMILIES)
def test_show_hint_and_solution_of_every_exercise(family, capsys):
    for exercise in BOOKS[family]:
        number = str(exercise.number)
        assert call(family, "show", number) == 0
        told = capsys.readouterr().out
        assert f"def {exercise.function}(" in told and "NotImplementedError" in told
        line = int(re.search(r"exercises.py, line (\d+)", told)[1])
        source = (PROJECT_ROOT / family / "exercises.py").read_text("utf-8").splitlines()
        assert source[line - 1].startswith(f"def {exercise.function}(")
        assert call(family, "hint", number) == 0
        assert f"exercises hint {number} 2" in capsys.readouterr().out
        assert call(family, "hint", number, "2") == 0
        assert capsys.readouterr().out.startswith("Hint 2 of 2: ")
        assert call(family, "solution", number) == 0
        told = capsys.readouterr().out
        assert told.startswith(f"def {exercise.function}(") and "NotImplementedError" not in told


@pytest.mark.parametrize("family", FAMILIES)
def test_check_tells_open_solved_and_wrong_apart_in_one_line(family, capsys, monkeypatch):
    first = BOOKS[family][0]
    assert call(family, "check", "1") == 1
    told = capsys.readouterr().out
    assert told.startswith("FAIL  1  exercise 1 is open: ") and told.count("\n") == 1

    wrong, clue = MISTAKES[family][first.function][0]
    monkeypatch.setattr(module(family), first.function, wrong)
    assert call(family, "check", "1") == 1
    told = capsys.readouterr().out
    assert told.startswith(f"FAIL  1  {first.function}(") and told.count("\n") == 1
    texts = Texts(PROJECT_ROOT / family, "en")
    assert texts.get(f"exercise.{first.function}.clue.{clue}") in told
    assert told.endswith(f"More: python -m {family}.exercises hint 1\n")

    solutions = module(family, "exercise_solutions")
    monkeypatch.setattr(module(family), first.function, getattr(solutions, first.function))
    assert call(family, "check", "1") == 0
    assert capsys.readouterr().out.startswith(f"PASS  1  {first.function}: all ")
    assert call(family, "check") == 1, "the others are open"
    told = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in told] == ["PASS"] + ["FAIL"] * (len(BOOKS[family]) - 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["check", "99"], "exercise 99 does not exist: gpt has 1 to 8"),
        (["show", "0"], "exercise 0 does not exist"),
        (["hint", "1", "9"], "hint 9 does not exist: exercise 1 has 1 to 2"),
        (["check", "three"], "argument number: invalid int value: 'three'"),
        (["solution"], "the following arguments are required: number"),
        (["chek", "1"], "invalid choice: 'chek'"),
    ],
    ids=str,
)
def test_a_wrong_number_is_one_line_and_exit_code_2(arguments, text, capsys):
    with pytest.raises(SystemExit) as left:
        run_entry(lambda: call("gpt", *arguments))
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and text in shown.err and shown.err.count("\n") == 1
    assert not shown.out


def test_a_function_that_is_gone_is_asked_for(monkeypatch):
    monkeypatch.delattr(module("gpt"), "rotate")
    with pytest.raises(ValueError, match="gpt/exercises.py has no function rotate any more"):
        call("gpt", "check", "8")


@pytest.mark.parametrize(
    "family",
    ["gpt", *(pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES if f != "gpt")],
)
def test_the_script_starts_as_a_file_from_another_folder(family, tmp_path):
    script = PROJECT_ROOT / family / "exercises.py"
    done = subprocess.run(
        [sys.executable, str(script), "check", "1"], cwd=tmp_path, capture_output=True, text=True,
        encoding="utf-8", env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 1 and not done.stderr
    assert done.stdout.startswith("FAIL  1  exercise 1 is open: ")
    assert not list(tmp_path.iterdir())


# --- the comparison -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (1.0, 1.00001, None),
        (1.0, torch.tensor([1.0]), None),
        (2, 2, None),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), None),
        (torch.tensor([-math.inf]), torch.tensor([-math.inf]), None),
        (1.0, None, "expected 1, got None (NoneType)"),
        (1.0, math.nan, "expected 1, got nan"),
        ([0, 1], (0, 1), "expected [0, 1], got (0, 1) (tuple)"),
        (torch.zeros(2), torch.zeros(2, 1), "expected shape (2,), got shape (2, 1)"),
        (torch.zeros(1).bool(), torch.zeros(1), "expected torch.bool, got torch.float32"),
        (torch.zeros(2), torch.tensor([0.0, math.nan]), "expected [0, 0], got [0, nan]"),
        (torch.zeros(5, 5), torch.eye(5), "at [0, 0] expected 0, got 1"),
        (torch.zeros(2), [0.0, 0.0], "expected [0, 0], got [0, 0] (list)"),
        ((1, 2), (1, 3), "value 2: expected 2, got 3"),
        ((1, 2), 1, "expected 2 values, got 1"),
    ],
    ids=str,
)
def test_a_difference_is_told_with_both_sides(expected, got, text):
    assert difference(expected, got) == text


def test_an_answer_that_raises_or_changes_its_input_is_no_crash():
    def cases() -> list[Case]:
        return [Case((torch.zeros(2), 1), torch.ones(2), "clue")]

    exercise = Exercise(1, "easy", "plus", cases)

    def broken(x: torch.Tensor, n: int) -> torch.Tensor:
        return x + [n, n, n]  # type: ignore[operator]

    fault = find_fault(exercise, broken)
    line = broken.__code__.co_firstlineno + 1
    assert fault is not None and fault.clue == "clue"
    assert fault.text.startswith(f"plus([0, 0], 1) raised TypeError in line {line}: ")
    missing = find_fault(exercise, lambda x: x)
    assert missing is not None and "raised TypeError" in missing.text
    assert find_fault(exercise, lambda x, n: x.add_(n)) is None
    assert find_fault(exercise, lambda x, n: x.sub_(n)).text.startswith("plus([0, 0], 1): expected")
