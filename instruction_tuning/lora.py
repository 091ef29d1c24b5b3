"""LoRA: train a small correction of each weight instead of the weight (Hu et al. 2021).

A weight W, (O, I), stays as it is; beside it stands a product of two thin matrices of rank r:

    y = W x + b + (alpha / r) B A x,    A: (r, I),    B: (O, r)        (section 4.1, eq. 3)

B starts at zero, so at first nothing changes. r (I + O) numbers are trained instead of I O, and
only they are saved. After the training (alpha / r) B A can be added to W: no cost remains. Without
the correction the layer is the model it started from, which serves as the reference for free.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """A frozen linear layer and its correction."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        """Takes ``linear`` as it is and freezes it.

        Args:
            linear: any layer, I -> O.
            rank: r, the width between A and B.
            alpha: the correction is scaled by alpha / r, so that another rank needs no other
                learning rate.

        Raises:
            ValueError: the rank is below 1.
        """
        super().__init__()
        if rank < 1:
            raise ValueError(
                f"lora rank={rank} leaves no correction to train: A would have {rank} rows. "
                "Use a rank of at least 1, or train all weights."
            )
        self.linear = linear.requires_grad_(False)
        like = linear.weight.detach()
        self.lora_a = nn.Parameter(like.new_empty(rank, linear.in_features))  # (r, I)
        self.lora_b = nn.Parameter(like.new_zeros(linear.out_features, rank))  # (O, r)
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as nn.Linear draws a weight
        self.scale = alpha / rank
        self.active = True  # False: the layer is the original one
        self.original: Tensor | None = None  # (O, I), the weight before it was merged

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        y = self.linear(x)  # (..., O)
        if not self.active or self.original is not None:
            return y
        return y + self.scale * ((x @ self.lora_a.T) @ self.lora_b.T)

    def correction(self) -> Tensor:
        """Returns (alpha / r) B A, (O, I)."""
        return self.scale * (self.lora_b @ self.lora_a)

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the correction to the weight; a second call does nothing."""
        if self.original is None:
            self.original = self.linear.weight.clone()
            self.linear.weight += self.correction()

    @torch.no_grad()
    def unmerge(self) -> None:
        """Puts the original weight back, bit for bit: a subtraction would leave rounding behind."""
        if self.original is not None:
            self.linear.weight.copy_(self.original)
            self.original = None


def add_lora(
    model: nn.Module,
    names: Sequence[str] = ("qkv", "output"),
    rank: int = 8,
    alpha: float = 16.0,
) -> list[str]:
    """Freezes a model and puts a trainable correction beside the named linear layers.

    Args:
        model: any module; it is changed in place.
        names: the ends of the layers' names: "qkv" takes every "blocks.i.attention.qkv",
            "blocks.0.attention.qkv" only that one.
        rank: r.
        alpha: scale times r.

    Returns:
        The full names of the layers that got one.

    Raises:
        ValueError: a name fits no linear layer, a layer shares its weight with another, the model
            has corrections already, or the rank is below 1.
    """
    if any(True for _ in lora_layers(model)):
        raise ValueError(
            "the model has LoRA layers already: a second correction would train beside the first. "
            "Merge it with merge_lora and remove_lora, then add the new one."
        )
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    found = {end: [name for name in linear if f".{name}".endswith(f".{end}")] for end in names}
    for end, layers in found.items():
        if not layers:
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear})) or "none"
            raise ValueError(
                f"LoRA on {end!r}: the model has no linear layer of that name, so nothing would be "
                f"trained. Its linear layers are: {known}."
            )
    users = Counter(
        id(m._parameters["weight"]) for m in model.modules() if "weight" in m._parameters
    )
    chosen = [name for name in linear if any(name in layers for layers in found.values())]
    for name in chosen:
        if users[id(linear[name].weight)] > 1:
            raise ValueError(
                f"LoRA on {name!r}: its weight is also another layer's (tied), and merging would "
                "change both. Leave this name out, or train a model with tie_weights=False."
            )
    corrected = {name: LoRALinear(linear[name], rank, alpha) for name in chosen}
    model.requires_grad_(False)
    for name, layer in corrected.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.train(model.training))
    return chosen


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """Yields (name, layer) of each layer with a correction."""
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module


def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Returns A and B of every layer: what an optimizer is given."""
    return [matrix for _, layer in lora_layers(model) for matrix in (layer.lora_a, layer.lora_b)]


def merge_lora(model: nn.Module) -> None:
    """Adds every correction to its weight: the model is as fast as before, and gives the same."""
    for _, layer in lora_layers(model):
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Takes every correction out of its weight again, to train on."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def remove_lora(model: nn.Module) -> None:
    """Turns the layers back into plain ones as they are now, and lets all weights be trained.

    After ``merge_lora`` what was learned stays; without it the model is the one it started from.
    """
    for name, layer in list(lora_layers(model)):
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.linear)
    model.requires_grad_(True)


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """Inside ``with`` the model is the one it started from: a reference that takes no memory."""
    layers = [layer for _, layer in lora_layers(model)]
    merged = [layer for layer in layers if layer.original is not None]
    for layer in merged:
        layer.unmerge()
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer in layers:
            layer.active = True
        for layer in merged:
            layer.merge()
