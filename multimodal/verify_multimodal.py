"""Prove the structure of the two models: losses, masks, prefixes, gradients, the split.

``python multimodal/verify_multimodal.py`` prints a PASS or FAIL line for each claim of the chapter;
``--trace`` prints the shape ledger, every tensor of one forward pass of the model that sees.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import math
from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.gpt_components import attend_written_out
from gpt.gpt_config import GPTConfig
from gpt.gpt_config import parameter_count as gpt_parameters
from multimodal.captions import build_tokenizer
from multimodal.contrastive_components import contrastive_loss, similarities
from multimodal.contrastive_model import DualEncoder, patch_features
from multimodal.multimodal_data import encode_captions
from multimodal.scenes import SPLITS, belongs, combinations_of, sample_scenes
from multimodal.vision_language_model import Projector, VisionLanguageModel
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger
from vit.vit_config import ViTConfig
from vit.vit_config import parameter_count as vit_parameters

VISION = ViTConfig(
    image_size=16, patch_size=8, channels=3, n_classes=12, d_model=16, n_heads=2, n_layers=2,
    d_ff=24, pooling="mean", stem="conv",
)  # fmt: skip
LANGUAGE = GPTConfig(
    vocab_size=build_tokenizer().vocab_size,
    max_len=24,
    d_model=32,
    n_heads=4,
    n_kv_heads=4,
    n_layers=2,
    d_ff=48,
)
MEANINGS = {
    "images": "(B, 3, H, W) numbers around 0",
    "tokens": "(B, T) <bos> and the question",
    "features": "(B, N, D_v) what the vision encoder says of each patch",
    "prefix": "(B, N, D) the same, projected into GPT's width",
    "embedding": "(B, N + T, D) prefix and token embeddings, positions added",
    "attention": "(B, H, N + T, N + T) who reads whom",
    "block": "(B, N + T, D) residual stream after the block",
    "logits": "(B, T, V) a score for every possible next token, at the text's places",
}

ORIGINS = {
    "images": Origin(VisionLanguageModel.features),
    "tokens": Origin(VisionLanguageModel.forward),
    "features": Origin(patch_features, "4", "layer(x)"),
    "prefix": Origin(Projector.forward, "5", "self.contract"),
    "embedding": Origin(VisionLanguageModel._run, "5", "gpt.dropout"),
    "attention": Origin(attend_written_out, "6", "scores.softmax"),
    "block": Origin(VisionLanguageModel._run, "6", "block(x, mask"),
    "logits": Origin(VisionLanguageModel.intermediates, "7", "gpt.project"),
}


def randomize(model: nn.Module) -> None:
    """Draws all weights from N(0, 0.2^2), so that no part is hidden by small numbers."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)


def dual_encoder() -> DualEncoder:
    """Returns a small random pair of encoders."""
    torch.manual_seed(0)
    model = DualEncoder(VISION, LANGUAGE)
    randomize(model.vision)
    randomize(model.text)
    return model.double().eval()


def seeing_model() -> VisionLanguageModel:
    """Returns a small random language model that sees."""
    torch.manual_seed(0)
    model = VisionLanguageModel(VISION, LANGUAGE)
    randomize(model)
    return model.double().eval()


def small_batch() -> tuple[Tensor, Tensor]:
    """Returns images, (3, 3, 16, 16), and tokens, (3, 7)."""
    torch.manual_seed(1)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    return images, torch.randint(3, LANGUAGE.vocab_size, (3, 7))


def check_loss_by_hand() -> float:
    """The contrastive loss is the mean of both directions' -log softmax of the diagonal."""
    torch.manual_seed(0)
    scores = torch.randn(4, 4, dtype=torch.float64)
    total = 0.0
    for i in range(4):
        own = scores[i, i].exp()
        total -= math.log(own / scores[i].exp().sum()) + math.log(own / scores[:, i].exp().sum())
    return abs(float(contrastive_loss(scores)) - total / 8)


def check_loss_without_knowledge() -> float:
    """Equal scores cost ln B; with k equal captions of each kind perfect scores cost ln k."""
    flat = contrastive_loss(torch.zeros(8, 8)) - math.log(8)
    twins = torch.block_diag(*[torch.ones(2, 2)] * 4) * 1000
    return max(abs(float(flat)), abs(float(contrastive_loss(twins)) - math.log(2)))


def check_scores_are_cosines() -> float:
    """Lengths do not matter, and a vector's similarity with itself is the scale."""
    u = torch.randn(5, 12, dtype=torch.float64)
    longer = similarities(3 * u, 7 * u, 2.0)
    return max(largest(longer - similarities(u, u, 2.0)), largest(longer.diagonal() - 2.0))


def check_padding() -> float:
    """More padding behind a caption does not change its vector."""
    model = dual_encoder()
    tokens, lengths = encode_captions(["one red ring", "two small blue bars at the top"])
    wider = F.pad(tokens, (0, 5))
    return largest(model.text(tokens, lengths) - model.text(wider, lengths))


def check_prefix_is_text() -> float:
    """A prefix of one token's embedding makes it GPT itself, logit by logit."""
    model, (_, tokens) = seeing_model(), small_batch()
    model.projector, model.n_prefix = nn.Identity(), 1  # type: ignore[assignment]
    prefix = model.gpt.token_embedding(tokens[:, :1])  # one place: "all see it" is causal, too
    return largest(model(prefix, tokens[:, 1:]) - model.gpt(tokens)[:, 1:])


def check_future() -> float:
    """A later token changes no earlier score, and the picture changes all of them."""
    model, (images, tokens) = seeing_model(), small_batch()
    features = model.features(images)
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % LANGUAGE.vocab_size
    before, after = model(features, tokens), model(features, changed)
    blind = model(features.flip(0), tokens)
    unmoved = float((blind[0] - before[0]).abs().amax(dim=-1).min() < 1e-6)
    return max(largest((before - after)[:, :-1]), unmoved)


def check_parts() -> float:
    """Two questions behind each other get the scores that each gets alone."""
    model, (images, tokens) = seeing_model(), small_batch()
    features = model.features(images)
    together = model(features, torch.cat([tokens, tokens.flip(0)], dim=1), parts=2)
    alone = [model(features, part) for part in (tokens, tokens.flip(0))]
    return largest(together - torch.cat(alone, dim=1))


def check_attention_rows() -> float:
    """Attention sums to 1 in every row, and the picture's rows read no text."""
    model, (images, tokens) = seeing_model(), small_batch()
    weights = model.intermediates(model.features(images), tokens)["attention.1"]
    n = model.n_prefix
    return max(largest(weights.sum(dim=-1) - 1), largest(weights[:, :, :n, n:]))


def check_parameter_count() -> float:
    """Both models have as many parameters as the formulas of ViT and GPT and the parts say."""
    seeing, dual = seeing_model(), dual_encoder()
    d_v, d = VISION.d_model, LANGUAGE.d_model
    both = vit_parameters(VISION) + gpt_parameters(LANGUAGE)
    bridge = both + 2 * d_v + (d_v + 1) * d + (d + 1) * d
    pair = both + d * VISION.n_classes + 1
    counts = [sum(p.numel() for p in model.parameters()) for model in (seeing, dual)]
    return float(abs(counts[0] - bridge) + abs(counts[1] - pair))


def check_splits() -> float:
    """No combination and no description is in two parts of the world."""
    parts = [set(combinations_of(split)) for split in ("train", "unseen_validation", "unseen_test")]
    shared = sum(len(a & b) for a, b in combinations(parts, 2))
    for split in SPLITS[:3]:
        scenes = sample_scenes(split, 200, seed=0)
        others = [other for other in SPLITS[:3] if other != split]
        shared += sum(belongs(scene, other) for scene in scenes for other in others)
    return float(shared)


CHECKS: list[Check] = [
    (check_loss_by_hand, 1e-12),
    (check_loss_without_knowledge, 1e-6),
    (check_scores_are_cosines, 1e-12),
    (check_padding, 1e-12),
    (check_prefix_is_text, 1e-12),
    (check_future, 1e-12),
    (check_parts, 1e-12),
    (check_attention_rows, 1e-12),
    (check_parameter_count, 0.0),
    (check_splits, 0.0),
]


@torch.no_grad()
def trace() -> str:
    """Returns the shape ledger: every tensor of one forward pass of a small model."""
    images, tokens = small_batch()
    model = seeing_model()
    named = model.intermediates(model.features(images), tokens)
    return shape_ledger({"images": images, "tokens": tokens} | named, MEANINGS, ORIGINS)


def forward_once() -> str:
    """Runs one small forward pass; returns its logits' shape in words."""
    images, tokens = small_batch()
    model = seeing_model()
    return f"logits {tuple(model(model.features(images), tokens).shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return verify_parser("Prove the structure of the multimodal models, claim by claim.")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace())
        return 0
    with torch.no_grad():
        return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
