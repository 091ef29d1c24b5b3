"""What ``vit`` is measured beside: transformers' ViT, of the same size and without dropout.

The size is that of small ViTs for CIFAR-10: pictures of 32 x 32 pixels in color, patches of 4 x 4,
so 64 patches and the class token, D=128, four heads, F=256, six layers. Both sides get the same
random pictures: neither speed nor memory depends on what is in them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vit.vit_config import ViTConfig

PEER, TUNED = "transformers", "transformers_tuned"  # TUNED: after the kit's tune_cpu, as ours
SIDES = ("ours", PEER, TUNED)
SHAPE = ViTConfig(
    image_size=32, patch_size=4, channels=3, n_classes=10, d_model=128, n_heads=4, n_layers=6,
    d_ff=256, dropout=0.0, positions="learned", pooling="cls", stem="patches",
)  # fmt: skip
ROWS = 128  # pictures in a minibatch

Batch = tuple[Tensor, Tensor]  # images (B, C, H, W) and labels (B,)


def import_peer(side: str) -> None:
    """Imports transformers' ViT for the sides that are one."""
    if side != "ours":
        from transformers import ViTForImageClassification  # noqa: F401


def peer_config(config: ViTConfig) -> Any:
    """Returns transformers' settings of the same model; it knows only the paper's own form."""
    import transformers

    transformers.logging.set_verbosity_error()
    c = config
    return transformers.ViTConfig(
        image_size=c.image_size, patch_size=c.patch_size, num_channels=c.channels,
        hidden_size=c.d_model, num_attention_heads=c.n_heads, num_hidden_layers=c.n_layers,
        intermediate_size=c.d_ff, hidden_act="gelu", layer_norm_eps=c.norm_eps,
        hidden_dropout_prob=c.dropout, attention_probs_dropout_prob=0.0, num_labels=c.n_classes,
    )  # fmt: skip


def random_batches(
    count: int, rows: int, config: ViTConfig, generator: torch.Generator
) -> list[Batch]:
    """Returns minibatches of random pictures with random labels.

    Args:
        count: minibatches.
        rows: pictures in each, B.
        config: of the model that reads them.
        generator: decides all.
    """
    shape = (rows, config.channels, config.image_size, config.image_size)
    return [
        (
            torch.randn(shape, generator=generator),
            torch.randint(config.n_classes, (rows,), generator=generator),
        )
        for _ in range(count)
    ]
