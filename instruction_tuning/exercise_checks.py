"""What the exercises on instruction tuning are checked with: by hand, by the chapter's code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from instruction_tuning import losses, sample_statistics
from instruction_tuning.chat_template import ASSISTANT, END, encode_chat
from instruction_tuning.lora import LoRALinear
from tutorial_kit.exercise_cases import Case, Exercise
from tutorial_kit.word_tokenizer import WordTokenizer


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Returns random numbers, the same ones every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_mask_cases() -> Iterator[Case]:
    """The chapter's chat; two words; two turns."""
    tokenizer = WordTokenizer(["ab", "ba", "sure", " ba"])
    special = tokenizer.special_tokens
    for texts, clue in (
        (("ab", "ba"), "end"),
        (("ab", "sure ba"), "end"),
        (("ab", "ba", "ba", "ab"), "turns"),
    ):
        roles = ("user", "assistant") * (len(texts) // 2)
        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        ids, mask = encode_chat(turns, tokenizer)
        yield Case((ids, special[ASSISTANT], special[END]), mask, clue)


def pass_at_k_cases() -> Iterator[Case]:
    """None right; one of four; three of ten."""
    for right, samples, k, clue in ((0, 8, 4, "formula"), (1, 4, 2, "again"), (3, 10, 5, "again")):
        row = torch.arange(samples)[None] < right
        yield Case((right, samples, k), sample_statistics.pass_at_k(row, k), clue)


def kl_k3_cases() -> Iterator[Case]:
    """Equal models; one token by hand; many."""
    equal = torch.tensor([-1.0, -2.0])
    yield Case((equal, equal.clone()), torch.zeros(2), "zero")
    half, quarter = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    yield Case((half, quarter), torch.tensor([math.log(2) - 0.5]), "ratio")
    policy, reference = -drawn(2, 5).abs(), -drawn(2, 5, seed=1).abs()
    yield Case((policy, reference), losses.kl_k3(policy, reference), "ratio")


def reply_log_probs_cases() -> Iterator[Case]:
    """A reply of one token; then two replies of different lengths."""
    for rows, replies, clue in ((1, [(3, 4)], "shift"), (2, [(1, 5), (3, 4)], "sum")):
        logits = drawn(rows, 5, 6)
        tokens = torch.randint(6, (rows, 5), generator=torch.Generator().manual_seed(1))
        place, borders = torch.arange(5), torch.tensor(replies)
        mask = (place >= borders[:, :1]) & (place < borders[:, 1:])  # (B, T)
        log_probs = losses.token_log_probs(logits, tokens)
        expected = losses.sequence_log_probs(log_probs, mask[:, 1:])
        yield Case((logits, tokens, mask), expected, clue)


def dpo_loss_cases() -> Iterator[Case]:
    """At the start; after the reference's own preference; with several pairs."""
    chosen, rejected = torch.tensor([-3.0]), torch.tensor([-5.0])
    yield Case((chosen, rejected, chosen.clone(), rejected.clone(), 0.5), math.log(2), "reference")
    one = chosen + 1, rejected, chosen, rejected
    yield Case((*one, 2.0), math.log(1 + math.exp(-2)), "beta")
    pc, pr, rc, rr = (10 * drawn(4, seed=seed) for seed in range(4))  # policy, then reference
    yield Case((pc, pr, rc, rr, 0.1), losses.dpo_loss(pc, pr, rc, rr, 0.1)[0].item(), "pairs")


def merge_lora_cases() -> Iterator[Case]:
    """B at its start; then a trained correction of rank 2, and one of rank 1."""
    for rank, alpha, trained, clue in (
        (2, 16.0, False, "start"),
        (2, 4.0, True, "scale"),
        (1, 3.0, True, "scale"),
    ):
        layer = LoRALinear(nn.Linear(3, 4, bias=False), rank, alpha)
        with torch.no_grad():
            layer.linear.weight.copy_(drawn(4, 3))
            layer.lora_a.copy_(drawn(rank, 3, seed=5))
            layer.lora_b.copy_(drawn(4, rank, seed=1) * trained)
        weight, a, b = (
            x.detach().clone() for x in (layer.linear.weight, layer.lora_a, layer.lora_b)
        )
        layer.merge()
        yield Case((weight, a, b, alpha), layer.linear.weight.detach().clone(), clue)


def group_advantages_cases() -> Iterator[Case]:
    """One right reply of four; two requests; replies that are all right."""
    for rewards, clue in (
        ([[9.0, 0.0, 0.0, 0.0]], "divisor"),
        ([[8.0, 0.0, 8.0, 0.0], [50.0, 55.0, 45.0, 70.0]], "groups"),
        ([[1.0, 1.0, 1.0, 1.0]], "equal"),
    ):
        numbers = torch.tensor(rewards)
        yield Case((numbers,), losses.group_advantages(numbers), clue)


def gae_cases() -> Iterator[Case]:
    """One token; trust in the values; trust in the rewards; between them."""
    rewards, values = torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.tensor([0.2, 0.4, 0.1, 0.6])
    yield Case((torch.tensor([1.0]), torch.tensor([0.3]), 0.9, 0.9), torch.tensor([0.7]), "end")
    for discount, lam, clue in ((0.9, 0.0, "delta"), (1.0, 1.0, "backward"), (0.9, 0.8, "both")):
        mask = torch.ones(1, 4, dtype=torch.bool)
        expected = losses.gae(rewards[None], values[None], mask, discount, lam)[0][0]
        yield Case((rewards, values, discount, lam), expected, clue)


EXERCISES = (
    Exercise(1, "easy", "loss_mask", loss_mask_cases),
    Exercise(2, "easy", "pass_at_k", pass_at_k_cases),
    Exercise(3, "easy", "kl_k3", kl_k3_cases),
    Exercise(4, "medium", "reply_log_probs", reply_log_probs_cases),
    Exercise(5, "medium", "dpo_loss", dpo_loss_cases),
    Exercise(6, "medium", "merge_lora", merge_lora_cases),
    Exercise(7, "medium", "group_advantages", group_advantages_cases),
    Exercise(8, "hard", "gae", gae_cases),
)
