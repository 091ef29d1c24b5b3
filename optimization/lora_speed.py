"""What an unmerged LoRA correction costs while a model writes, and that merging changes no output.

Hu et al. 2021, section 4.1: (W + (alpha / r) B A) x = W x + (alpha / r) B (A x). On the left is one
product, as fast as before the tuning; on the right there are three, of which two are thin. Thin
products are few operations, but each is a call of its own. Unmerged corrections pay where one base
model serves many tunings.
"""

from __future__ import annotations

import copy

import torch

from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from instruction_tuning.lora import add_lora, lora_layers, merge_lora, remove_lora

LAYERS = ("qkv", "output", "expand", "contract")  # every matrix of a block


def tuned_pair(model: GPT, rank: int = 8, seed: int = 0) -> tuple[GPT, GPT]:
    """Returns a model with LoRA beside its matrices, and the same with the corrections merged.

    The corrections are random, of the size that a short tuning gives them: the speed does not
    depend on what was learned.

    Args:
        model: stays as it is.
        rank: of the corrections.
        seed: of their numbers.

    Returns:
        Unmerged and merged, both in evaluation mode.
    """
    unmerged = copy.deepcopy(model)
    add_lora(unmerged, LAYERS, rank=rank)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, layer in lora_layers(unmerged):
            layer.lora_b.copy_(0.01 * torch.randn(layer.lora_b.shape, generator=generator))
    merged = copy.deepcopy(unmerged)
    merge_lora(merged)
    remove_lora(merged)
    return unmerged.eval(), merged.eval()


def packed_pair(model: GPT, rank: int = 8) -> tuple[GPT, GPT]:
    """Returns ``tuned_pair`` with packed float32 weights, ready to be timed."""
    unmerged, merged = tuned_pair(model, rank)
    return pack_weights(unmerged), pack_weights(merged)


@torch.no_grad()
def largest_difference(unmerged: GPT, merged: GPT, tokens: torch.Tensor) -> float:
    """Returns how far the logits of the two differ, relative to the largest logit.

    Args:
        unmerged: a model.
        merged: another.
        tokens: (B, T).
    """
    one, other = unmerged(tokens), merged(tokens)  # (B, T, V)
    return ((one - other).abs().max() / one.abs().max()).item()
