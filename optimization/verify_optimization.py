"""Prove what the chapter claims: bounds, sizes, losses, masks, and that fast ways write the same.

``python optimization/verify_optimization.py`` prints a PASS or FAIL line for each claim;
``--trace`` prints the shape ledger of one step of distillation and of one rounded layer.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from gpt.generation import generate
from gpt.gpt_components import FeedForward
from gpt.gpt_config import RECIPES
from gpt.gpt_model import GPT, next_token_loss
from gpt.int8_weights import Int8Linear, error_bound, quantize_rows
from gpt.speculative import speculate
from gpt.text_data import TextData
from gpt.verify_structure import small_model
from optimization.distillation import distillation_loss, soft_target_loss
from optimization.lora_speed import largest_difference, tuned_pair
from optimization.pruning import Scope, neuron_scores, prune, remove_neurons, retrain, zero_share
from optimization.quantized_model import load_stored, save_model, stored_bytes
from optimization.rounding import round_model
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.tokenizers import CharTokenizer
from tutorial_kit.verify import Check, largest, run_checks, shape_ledger

MEANINGS = {
    "tokens": "(B, T) token ids, read by both models",
    "teacher": "(B, T, V) logits v of the teacher",
    "student": "(B, T, V) logits z of the student",
    "wanted": "(B, T, V) the teacher's probabilities at temperature 2",
    "loss": "() half cross-entropy, half T^2 times the divergence",
    "x": "(B, T, D) input of the student's output layer",
    "integers": "(V, D) int8, its weights after rounding",
    "scales": "(V) float32, one step s for each row",
    "bound": "(B, T, V) s / 2 times the sum of |x|: how far a logit can move",
}
VOCAB = 50


def floats(recipe: str = "modern") -> GPT:
    """Returns a small float32 model whose weights are all far from zero."""
    return small_model(recipe, torch.float32)


def logits_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits of a student and a teacher, (2, 5, 50), float64."""
    torch.manual_seed(1)
    z, v = torch.randn(2, 2, 5, VOCAB, dtype=torch.float64)
    return z, 2 * v


def check_error_bound() -> float:
    """No output of a rounded layer is further off than s / 2 times the sum of |x|."""
    torch.manual_seed(0)
    worst = 0.0
    for _ in range(20):
        linear, x = torch.nn.Linear(96, 64), torch.randn(7, 96)
        layer = Int8Linear(linear, fast=False)
        excess = (layer(x) - linear(x)).abs() - error_bound(x, layer.scales)
        worst = max(worst, excess.max().item())
    return worst


def check_stored_exactly() -> float:
    """A float32 file holds the model; an int8 file holds exactly the rounded one, tied or not."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path, tokens = Path(folder) / "model.safetensors", torch.randint(VOCAB, (2, 16))
        for recipe in RECIPES:
            model = floats(recipe)
            save_model(path, model, "float32")
            worst = max(worst, largest(load_stored(path)(tokens) - model(tokens)))
            save_model(path, model, "int8")
            difference = load_stored(path)(tokens) - round_model(model, 8)(tokens)
            worst = max(worst, largest(difference))
    return worst


def check_size() -> float:
    """An int8 file has 1 byte a weight of a matrix, 4 a row, and 4 a number of a vector."""
    worst = 0.0
    for recipe in RECIPES:
        weights = list(floats(recipe).parameters())
        expected = sum(w.numel() + 4 * len(w) if w.ndim == 2 else 4 * w.numel() for w in weights)
        worst = max(worst, abs(stored_bytes(floats(recipe), "int8") - expected))
    return worst


def check_soft_loss() -> float:
    """The soft loss is T^2 times torch's kl_div, at every temperature."""
    z, v = logits_pair()
    worst = 0.0
    for t in (0.5, 1.0, 2.0, 8.0):
        z_soft, v_soft = (x.flatten(0, 1).div(t).log_softmax(-1) for x in (z, v))
        expected = t * t * F.kl_div(z_soft, v_soft, reduction="batchmean", log_target=True)
        worst = max(worst, largest(soft_target_loss(z, v, t) - expected))
    return worst


def soft_gradient(temperature: float) -> torch.Tensor:
    """Returns the gradient of one position's soft loss by the student's logits, (2, 5, V)."""
    z, v = logits_pair()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_target_loss(z, v, temperature), z)
    return 10 * gradient  # the loss is the mean over 10 positions


def check_soft_gradient() -> float:
    """Its gradient by a logit is T (student - teacher), in probabilities (the chapter's eq. 5)."""
    z, v = logits_pair()
    expected = 3.0 * ((z / 3.0).softmax(-1) - (v / 3.0).softmax(-1))
    return largest(soft_gradient(3.0) - expected)


def check_high_temperature() -> float:
    """At a high temperature it is (z - v) / V of centered logits: it copies them (eq. 5)."""
    z, v = (x - x.mean(-1, keepdim=True) for x in logits_pair())
    return largest(soft_gradient(1e4) - (z - v) / VOCAB)


def check_weights_of_the_loss() -> float:
    """With w = 0 the loss is the plain one, with w = 1 it is 0 for a student like its teacher."""
    z, v = logits_pair()
    targets = torch.randint(VOCAB, z.shape[:2])
    plain = distillation_loss(z, v, targets, 2.0, 0.0) - next_token_loss(z, targets)
    return max(largest(plain), largest(distillation_loss(v, v, targets, 2.0, 1.0)))


def small_text() -> TextData:
    """Returns a text of 50 characters in random order."""
    tokenizer = CharTokenizer.from_text("".join(chr(97 + i) for i in range(VOCAB - 1)))
    torch.manual_seed(0)
    tokens = torch.randint(tokenizer.vocab_size, (400,))
    splits = ("train", "validation", "test")
    return TextData("random", tokenizer, dict.fromkeys(splits, tokens), dict.fromkeys(splits, 400))


def check_pruned_share() -> float:
    """Pruning leaves out exactly the share asked for, and training brings none of it back."""
    worst = 0.0
    scopes: tuple[Scope, ...] = ("layer", "global")
    for scope in scopes:
        model, masks = prune(floats(), 0.75, scope)
        worst = max(worst, abs(zero_share(model) - 0.75))
        before = [p.clone() for p in model.parameters()]
        retrain(model, small_text(), 2, masks=masks, batch_size=2)
        if all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)):
            return float("inf")  # nothing was trained
        worst = max(worst, abs(zero_share(model) - 0.75))
    return worst


def check_removed_neurons() -> float:
    """A model without its weakest neurons equals the large one whose neurons answer with zero."""
    worst, tokens = 0.0, torch.randint(VOCAB, (2, 16))
    for recipe in RECIPES:
        small, large = remove_neurons(floats(recipe), 0.5), floats(recipe)
        for feed_forward in large.modules():
            if isinstance(feed_forward, FeedForward):
                weak = neuron_scores(feed_forward).argsort()[: large.config.d_ff // 2]
                with torch.no_grad():
                    feed_forward.contract.weight[:, weak] = 0.0
        difference = small(tokens) - large(tokens)
        worst = max(worst, largest(difference) / large(tokens).abs().max().item())
    return worst


def check_merged() -> float:
    """Merging LoRA's correction into the weights changes no logit beyond rounding."""
    return largest_difference(*tuned_pair(floats()), torch.randint(VOCAB, (2, 16)))


def check_same_text() -> float:
    """Cache, batch and greedy draft change the speed alone: token for token the same text."""
    model, draft = floats(), remove_neurons(floats(), 0.9)
    prompts = torch.randint(VOCAB, (3, 5)).tolist()
    slow = [generate(model, [prompt], 30, use_cache=False)[0] for prompt in prompts]
    batch = generate(model, prompts, 30)
    drafted = [speculate(model, draft, prompt, 30).tokens for prompt in prompts]
    return float((slow != batch) + (slow != drafted))


CHECKS: list[Check] = [
    (check_error_bound, 1e-5),
    (check_stored_exactly, 0.0),
    (check_size, 0.0),
    (check_soft_loss, 1e-12),
    (check_soft_gradient, 1e-12),
    (check_high_temperature, 1e-4),
    (check_weights_of_the_loss, 1e-12),
    (check_pruned_share, 1e-4),
    (check_removed_neurons, 1e-5),
    (check_merged, 1e-5),
    (check_same_text, 0.0),
]


@torch.no_grad()
def trace() -> str:
    """Returns the shape ledger: one step of distillation, and the rounded output layer."""
    teacher, student = floats("gpt2"), floats("modern")
    tokens = torch.randint(VOCAB, (2, 16))
    v, z = teacher(tokens), student(tokens)
    x = student.final_norm(student.hidden(tokens))
    integers, scales = quantize_rows(student.head.weight)
    named = {
        "tokens": tokens, "teacher": v, "student": z, "wanted": (v / 2).softmax(-1),
        "loss": distillation_loss(z, v, tokens, 2.0, 0.5), "x": x, "integers": integers,
        "scales": scales, "bound": error_bound(x, scales),
    }  # fmt: skip
    return shape_ledger(named, MEANINGS)


def forward_once() -> str:
    """Runs one small forward pass; returns its logits' shape in words."""
    return f"logits {tuple(round_model(floats(), 8)(torch.randint(VOCAB, (2, 16))).shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return verify_parser("Prove the claims of the optimization chapter, one by one.")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace())
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
