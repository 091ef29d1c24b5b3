"""Pruning: leave out the weights, or the neurons, that matter least; then train what is left.

Magnitude pruning (Han et al. 2015, section 3) sets the smallest weights of the blocks to zero. A
dense product multiplies by those zeros like by any number, so nothing becomes faster; the gain is a
file that can be compressed, or a processor with kernels for such patterns. Structured pruning
removes whole neurons of the feed-forward (the unit is as in Li et al. 2017, there filters): the
matrices become smaller, and every machine is faster.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from gpt.gpt_components import FeedForward
from gpt.gpt_model import GPT, next_token_loss
from gpt.text_data import TextData, WindowSampler
from tutorial_kit.device import seed_everything
from tutorial_kit.training import warmup_cosine

Scope = Literal["layer", "global"]
Masks = Mapping[str, Tensor]  # name of a matrix -> (D_out, D_in), True where a weight is kept


def block_matrices(model: GPT) -> dict[str, Tensor]:
    """Returns the matrices that are pruned: those of the blocks, not embedding and head."""
    return {
        f"blocks.{name}": weight
        for name, weight in model.blocks.named_parameters()
        if weight.ndim == 2
    }


def magnitude_masks(model: GPT, sparsity: float, scope: Scope = "global") -> dict[str, Tensor]:
    """Marks the weights to keep: all but the share with the smallest absolute value.

    Args:
        model: stays as it is.
        sparsity: share to leave out, 0 or more and below 1.
        scope: "layer" leaves out this share of each matrix; "global" compares all matrices with
            each other, so that some lose more.

    Raises:
        ValueError: the sparsity is out of range.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(
            f"sparsity={sparsity} is no share below 1: with 1 no weight would be left. "
            "Use 0 or more and less than 1."
        )
    sizes = {name: weight.detach().abs() for name, weight in block_matrices(model).items()}
    everything = torch.cat([size.flatten() for size in sizes.values()])
    masks = {}
    for name, size in sizes.items():
        compared = everything if scope == "global" else size.flatten()
        left_out = round(sparsity * compared.numel())
        threshold = compared.kthvalue(left_out).values if left_out else -1.0
        masks[name] = size > threshold
    return masks


@torch.no_grad()
def apply_masks(model: GPT, masks: Masks) -> None:
    """Sets the weights that are not kept to zero, in place."""
    matrices = block_matrices(model)
    for name, mask in masks.items():
        matrices[name].mul_(mask)


def prune(model: GPT, sparsity: float, scope: Scope = "global") -> tuple[GPT, dict[str, Tensor]]:
    """Returns a pruned copy of a model, and its masks; arguments as ``magnitude_masks``."""
    masks = magnitude_masks(model, sparsity, scope)
    pruned = copy.deepcopy(model).eval()
    apply_masks(pruned, masks)
    return pruned, masks


def zero_share(model: GPT) -> float:
    """Returns which share of the blocks' weights is exactly zero."""
    matrices = block_matrices(model).values()
    zeros = sum(int((weight == 0).sum()) for weight in matrices)
    return zeros / sum(weight.numel() for weight in matrices)


def neuron_scores(feed_forward: FeedForward) -> Tensor:
    """Returns how much each neuron of a feed-forward can change the stream, (F,).

    Neuron j adds f(w_j x) c_j. Behind a norm all x have about the same length, so its size grows
    with |w_j| |c_j|, and with |w_j|^2 |c_j| where f is a squared ReLU.

    Raises:
        ValueError: SwiGLU, whose neurons have two vectors w.
    """
    if feed_forward.activation == "swiglu":
        raise ValueError(
            "activation='swiglu' has two input vectors for each neuron, and neuron_scores knows "
            "one. Use a model with gelu or relu2."
        )
    power = 2 if feed_forward.activation == "relu2" else 1
    w, c = feed_forward.expand.weight.detach(), feed_forward.contract.weight.detach()
    return w.norm(dim=1) ** power * c.norm(dim=0)  # (F,)


@torch.no_grad()
def remove_neurons(model: GPT, share: float) -> GPT:
    """Returns a smaller model without the neurons of the lowest scores, the same share per block.

    Args:
        model: stays as it is.
        share: of the neurons to remove, 0 or more and below 1.

    Raises:
        ValueError: the share is out of range.
    """
    if not 0 <= share < 1:
        raise ValueError(
            f"share={share} of the neurons cannot be removed: one at least must be left. "
            "Use 0 or more and less than 1."
        )
    kept = max(1, round((1 - share) * model.config.d_ff))
    small = GPT(replace(model.config, d_ff=kept))
    weights = model.state_dict()
    for prefix, feed_forward in model.named_modules():
        if not isinstance(feed_forward, FeedForward):
            continue
        best = neuron_scores(feed_forward).topk(kept).indices.sort().values
        weights[f"{prefix}.contract.weight"] = weights[f"{prefix}.contract.weight"][:, best]
        for name in (f"{prefix}.expand.weight", f"{prefix}.expand.bias"):
            if name in weights:
                weights[name] = weights[name][best]
    small.load_state_dict(weights)
    return small.eval()


def retrain(
    model: GPT,
    data: TextData,
    steps: int,
    *,
    masks: Masks | None = None,
    batch_size: int = 32,
    lr: float = 5e-4,
    seed: int = 0,
) -> None:
    """Trains a pruned model a little more, in place; weights that were left out stay zero.

    Args:
        model: on the CPU; it ends in evaluation mode.
        data: the text; its training split is read.
        steps: updates.
        masks: from ``prune``; None trains every weight.
        batch_size: windows in a minibatch.
        lr: peak learning rate of AdamW.
        seed: of the order of the text: not the teacher's, which has seen its own.
    """
    seed_everything(seed)
    sampler = WindowSampler(data.tokens["train"], model.config.max_len, batch_size, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * warmup_cosine((step + 1) / steps, 0.1, 0.0)
        x, y = sampler.next_batch()  # (B, T), (B, T)
        loss = next_token_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if masks is not None:
            apply_masks(model, masks)
    model.eval()
