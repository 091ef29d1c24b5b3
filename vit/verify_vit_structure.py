"""Prove the structure of the ViT: parameters, patches, positions, equality with torch's own layers.

``python vit/verify_vit_structure.py`` prints a PASS or FAIL line for each claim of the chapter;
``--trace`` prints the shape ledger, every tensor of one forward pass.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn

from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger
from vit.cnn_baseline import CNNConfig, ResidualCNN, cnn_parameter_count
from vit.patch_embedding import PatchEmbedding, to_images, to_patches
from vit.position_encodings import RotaryPositions2D
from vit.pretrained import load_pretrained, save_pretrained
from vit.torch_reference import convolution_of, torch_hidden
from vit.vit_components import EncoderLayer, attend_fused, attend_written_out
from vit.vit_config import POSITIONS, ViTConfig, parameter_count
from vit.vit_model import ViT

SMALL = ViTConfig(
    image_size=24, patch_size=4, channels=3, n_classes=7, d_model=32, n_heads=4, n_layers=3, d_ff=48
)
MEANINGS = {
    "images": "(B, C, H, W) normalized pixels",
    "patches": "(B, N, C P P) the squares, flattened",
    "embedding": "(B, T, D) [class token, if there is one; E x + b of each patch] + positions",
    "attention": "(B, H, T, T) row t: how token t spreads its attention over all tokens",
    "layer": "(B, T, D) residual stream after the layer",
    "hidden": "(B, T, D) the stream, normalized",
    "features": "(B, D) the class token's vector, or the mean over the patches",
    "logits": "(B, classes) a score for each class",
}

ORIGINS = {
    "images": Origin(ViT.forward),
    "patches": Origin(to_patches, "1", "return split"),
    "embedding": Origin(ViT.embed, "3", "self.positions(x)"),
    "attention": Origin(attend_written_out, "4", "scores.softmax"),
    "layer": Origin(EncoderLayer.forward, "4", "self.dropout.add(y, hidden)"),
    "hidden": Origin(ViT.features, "5", "hidden = "),
    "features": Origin(ViT.features, "5", "features = "),
    "logits": Origin(ViT.forward, "5", 'named["logits"] = '),
}


def small_model(dtype: torch.dtype = torch.float64, **changes: Any) -> ViT:
    """Returns a small random model whose weights are all far from zero."""
    torch.manual_seed(0)
    model = ViT(replace(SMALL, **changes)).to(dtype).eval()
    randomize(model)
    return model


def randomize(model: nn.Module) -> None:
    """Draws all weights from N(0, 0.2^2)."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)


def small_batch(dtype: torch.dtype = torch.float64) -> Tensor:
    """Returns images, (4, 3, 24, 24)."""
    torch.manual_seed(1)
    return torch.randn(4, SMALL.channels, SMALL.image_size, SMALL.image_size, dtype=dtype)


def designs() -> Iterator[ViT]:
    """Yields a small model of every design."""
    for positions, pooling, stem in product(POSITIONS, ("cls", "mean"), ("patches", "conv")):
        yield small_model(positions=positions, pooling=pooling, stem=stem)


def check_parameter_count() -> float:
    """ViT (every design) and CNN have as many parameters as their closed formulas say."""
    worst = 0
    for model in designs():
        count = sum(p.numel() for p in model.parameters())
        worst = max(worst, abs(count - parameter_count(model.config)))
    cnn = ResidualCNN(CNNConfig(n_blocks=2))
    count = sum(p.numel() for p in cnn.parameters())
    return float(max(worst, abs(count - cnn_parameter_count(cnn.config))))


def check_patches_are_bijective() -> float:
    """Cutting an image into patches loses nothing: put together they are the same image."""
    images, p = small_batch(), SMALL.patch_size
    patches = to_patches(images, p)  # (B, N, C P P)
    return largest(to_images(patches, p, SMALL.channels) - images)


def check_convolution() -> float:
    """A patch embedding is a convolution with a stride of its kernel's size."""
    stem = cast(PatchEmbedding, small_model().stem)
    return largest(stem(small_batch()) - convolution_of(stem, SMALL.channels)(small_batch()))


def check_encoder_equals_torch() -> float:
    """The vectors are nn.TransformerEncoder's with the same weights, and so are the gradients."""
    model, images = small_model(), small_batch()
    embedding = model.embed(images)
    hidden = model(images, return_intermediates=True)[1]["hidden"]
    expected = torch_hidden(model, embedding)
    weight = torch.randn_like(hidden)
    parameters = [model.class_token, model.stem.linear.weight]
    ours = torch.autograd.grad((hidden * weight).sum(), parameters)  # type: ignore[arg-type]
    theirs = torch.autograd.grad((expected * weight).sum(), parameters)  # type: ignore[arg-type]
    pairs = zip(ours, theirs, strict=True)
    return max(largest(hidden - expected), *(largest((a - b) / b.abs().max()) for a, b in pairs))


def check_attention_modes() -> float:
    """The written-out attention and the fused one agree, and the weights of each row sum to 1."""
    q, k, v = torch.randn(3, 3, 4, 12, 8, dtype=torch.float64)
    mixed, weights = attend_written_out(q, k, v)
    return max(largest(mixed - attend_fused(q, k, v)), largest(weights.sum(-1) - 1))


def check_class_token_alone() -> float:
    """Behind the last layer only the class token is computed: logits stay those of all tokens."""
    worst = 0.0
    for model in designs():
        logits, _ = model(small_batch(), return_intermediates=True)
        worst = max(worst, largest((logits - model(small_batch())) / logits.abs().max()))
    return worst


def check_a_bag_of_patches() -> float:
    """Without positions the patches are a set: in another order they give the same logits."""
    model, images, p = small_model(positions="none"), small_batch(), SMALL.patch_size
    order = torch.randperm(SMALL.n_patches)
    mixed = to_images(to_patches(images, p)[:, order], p, SMALL.channels)
    return largest(model(images) - model(mixed))


def check_positions_matter() -> float:
    """With any of the four encodings another order of the patches gives other logits."""
    images, p = small_batch(), SMALL.patch_size
    mixed = to_images(to_patches(images, p).flip(1), p, SMALL.channels)
    models = [small_model(positions=name) for name in POSITIONS if name != "none"]
    return float(sum((largest(model(images) - model(mixed)) < 1e-3) for model in models))


def check_rotary_is_relative() -> float:
    """Rotary positions: the same query and key have one score at equal distances, wherever."""
    places = torch.arange(6, dtype=torch.float64)
    q, k = torch.randn(2, 8, dtype=torch.float64)
    rotary = RotaryPositions2D(places, 8, 0)
    scores = rotary.rotate(q.expand(36, 8)) @ rotary.rotate(k.expand(36, 8)).T  # (N, N)
    maps = scores.unflatten(1, (6, 6)).unflatten(0, (6, 6))  # (row, column, row, column)
    return largest(maps[:4, :3, :4, :3] - maps[2:, 3:, 2:, 3:])


def check_resizing() -> float:
    """Resized to its own size a model is the same; to another size it reads other images."""
    worst = 0.0
    for model in designs():
        same = model.resized(SMALL.image_size)
        worst = max(worst, largest(same(small_batch()) - model(small_batch())))
        larger = model.resized(36)(torch.randn(2, 3, 36, 36, dtype=torch.float64))
        worst = max(worst, float((~larger.isfinite()).sum()))
    return worst


def check_images_alone() -> float:
    """An image's logits do not depend on the others in its minibatch, in training either."""
    cnn = ResidualCNN(CNNConfig(SMALL.image_size, SMALL.channels, SMALL.n_classes)).double()
    randomize(cnn)
    models = (small_model(stem="conv").train(), cnn.train())
    whole = [model(small_batch())[:1] for model in models]
    alone = [model(small_batch()[:1]) for model in models]
    return max(largest((a - b) / a.abs().max()) for a, b in zip(whole, alone, strict=True))


def check_folder() -> float:
    """A Hugging Face folder written by us and read again holds the same model."""
    model, names = small_model(), tuple("abcdefg")
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(folder, model, names)
        again, same_names = load_pretrained(folder)
    return largest(model(small_batch()) - again(small_batch())) + (names != same_names)


CHECKS: list[Check] = [
    (check_parameter_count, 0.0),
    (check_patches_are_bijective, 0.0),
    (check_convolution, 1e-12),
    (check_encoder_equals_torch, 1e-12),
    (check_attention_modes, 1e-12),
    (check_class_token_alone, 1e-12),
    (check_a_bag_of_patches, 1e-10),
    (check_positions_matter, 0.0),
    (check_rotary_is_relative, 1e-12),
    (check_resizing, 0.0),
    (check_images_alone, 1e-12),
    (check_folder, 0.0),
]


@torch.no_grad()
def trace(pooling: str) -> str:
    """Returns the shape ledger: every tensor of one forward pass of a small model."""
    images = small_batch(torch.float32)
    _, named = small_model(torch.float32, pooling=pooling)(images, return_intermediates=True)
    dotted = {re.sub(r"_(\d+)$", r".\1", name): tensor for name, tensor in named.items()}
    return shape_ledger({"images": images} | dotted, MEANINGS, ORIGINS)


def forward_once() -> str:
    """Runs one small forward pass; returns its logits' shape in words."""
    return f"logits {tuple(small_model()(small_batch()).shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = verify_parser("Prove the structure of the ViT, claim by claim.")
    parser.add_argument("--pooling", choices=["cls", "mean"], default="cls", help="for --trace")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace(args.pooling))
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
