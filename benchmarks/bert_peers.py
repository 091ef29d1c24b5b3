"""What ``bert`` is measured beside: transformers' BERT, of the same size and with its dropout.

Dropout, the same on both sides: the embedded tokens and the output of each part, with p = 0.1. Off
is the third place that the paper's code knows, the attention weights. What cannot be made equal: on
a CPU ours drops 26 of 256, not 0.1.
"""

from __future__ import annotations

from typing import Any

import torch

from bert.bert_config import BertConfig
from bert.bert_data import PretrainingBatch

PEER, TUNED = "transformers", "transformers_tuned"  # TUNED: after the kit's tune_cpu, as ours
SIDES = ("ours", PEER, TUNED)
SIZES = {  # heads of 64 numbers and a feed-forward of 4 D, as in all published sizes
    f"{width}x4": BertConfig(
        vocab_size=8000, max_len=128, d_model=width, n_heads=width // 64, n_layers=4, d_ff=4 * width
    )
    for width in (128, 256)
}
MASK_RATE = 0.15
SPECIAL = 5  # ids of special tokens, which are not drawn


def import_peer(side: str) -> None:
    """Imports transformers' BERT for the sides that are one."""
    if side != "ours":
        from transformers import BertForPreTraining, BertModel  # noqa: F401


def peer_config(config: BertConfig) -> Any:
    """Returns transformers' settings of the same model, without dropout of attention weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    c = config
    return transformers.BertConfig(
        vocab_size=c.vocab_size, max_position_embeddings=c.max_len, hidden_size=c.d_model,
        num_attention_heads=c.n_heads, num_hidden_layers=c.n_layers, intermediate_size=c.d_ff,
        type_vocab_size=c.n_segments, layer_norm_eps=c.norm_eps, hidden_act="gelu",
        hidden_dropout_prob=c.dropout, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def random_batches(
    count: int, rows: int, config: BertConfig, generator: torch.Generator
) -> list[PretrainingBatch]:
    """Returns minibatches of random tokens, without padding, with MLM and NSP labels.

    Args:
        count: minibatches.
        rows: sequences in each, B; all are ``config.max_len`` long, T.
        config: of the model that reads them.
        generator: decides all.
    """
    shape = (rows, config.max_len)
    halves = (torch.arange(config.max_len) >= config.max_len // 2).long().expand(shape)
    batches = []
    for _ in range(count):
        tokens = torch.randint(SPECIAL, config.vocab_size, shape, generator=generator)  # (B, T)
        hidden = torch.rand(shape, generator=generator) < MASK_RATE
        batches.append(
            PretrainingBatch(
                tokens=tokens,
                mask=torch.ones(shape, dtype=torch.bool),
                segments=halves.contiguous(),
                labels=tokens.where(hidden, -100),
                next_labels=torch.randint(2, (rows,), generator=generator),
            )
        )
    return batches
