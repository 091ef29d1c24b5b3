"""The two models that ``transformer`` is measured beside, of the same size and with its dropout.

torch.nn.Transformer leaves embeddings, positions and projection to its user; here they are what the
paper says, one matrix for all three. MarianMTModel is the encoder-decoder of transformers.

Dropout, the same on all sides: the output of each part and the embedded tokens, with p = 0.1. Off
are the other two places that torch's class knows, attention weights and the inside of the
feed-forward. What cannot be made equal: on a CPU ours drops 26 of 256, not 0.1; Marian adds a bias
of zeros to its logits, and gives sines and cosines each a half of the dimensions.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.batching import Batch, cut_by_budget, pad_pairs
from transformer.positional_encoding import sinusoidal_table
from transformer.transformer_components import causal_mask
from transformer.transformer_config import TransformerConfig

SIZE = TransformerConfig(
    vocab_size=8000, max_len=64, d_model=256, n_heads=8, n_layers=3, n_decoder_layers=3, d_ff=1024
)  # post-norm, as both peers
SPECIAL_TOKENS = {"<pad>": 0, "<bos>": 1, "<eos>": 2}
SOURCE_TOKENS, LONGER, SCATTER = 15.3, 1.1, (4.6, 2.5)  # Multi30k, joint vocabulary of 8,000
SHORTEST, LONGEST = 4, 45
EPOCH = 29_000  # pairs, as in Multi30k: so many find neighbors of nearly their length


class TorchTransformer(nn.Module):
    """torch.nn.Transformer with what it needs to read tokens and to score them."""

    positions: Tensor  # (max_len, D); a buffer

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        c = config
        self.scale = math.sqrt(c.d_model)
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)  # (V, D), also the projection
        nn.init.normal_(self.embedding.weight, 0.0, c.d_model**-0.5)
        self.register_buffer("positions", sinusoidal_table(c.max_len, c.d_model).float())
        self.dropout = nn.Dropout(c.dropout)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "enable_nested_tensor")  # of no use in training
            self.transformer = nn.Transformer(
                c.d_model, c.n_heads, c.n_layers, c.n_decoder_layers, c.d_ff, c.dropout,
                batch_first=True, norm_first=c.norm == "pre",
            )  # fmt: skip
        if c.norm == "post":  # torch adds a final norm in both designs, the paper in none
            self.transformer.encoder.norm = self.transformer.decoder.norm = None
        for module in self.transformer.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            elif isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
                module.dropout.p = 0.0  # the one inside the feed-forward

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D)."""
        rows = self.positions[: tokens.shape[1]]
        return cast(Tensor, self.dropout(self.embedding(tokens) * self.scale + rows))

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor) -> Tensor:
        """(B, S) and (B, T) ids, (B, S) True at tokens -> logits (B, T, V)."""
        padding = ~source_mask
        hidden = self.transformer(
            self.embed(source), self.embed(target), tgt_mask=~causal_mask(target.shape[1]),
            src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_is_causal=True,
        )  # fmt: skip
        return F.linear(hidden, self.embedding.weight)


def marian_model(config: TransformerConfig, special_tokens: dict[str, int] = SPECIAL_TOKENS) -> Any:
    """Returns transformers' MarianMTModel of the same size, with random weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    c = config
    return transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=c.vocab_size, max_position_embeddings=c.max_len, d_model=c.d_model,
            encoder_layers=c.n_layers, decoder_layers=c.n_decoder_layers,
            encoder_attention_heads=c.n_heads, decoder_attention_heads=c.n_heads,
            encoder_ffn_dim=c.d_ff, decoder_ffn_dim=c.d_ff, activation_function="relu",
            dropout=c.dropout, attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True,
            pad_token_id=special_tokens["<pad>"], eos_token_id=special_tokens["<eos>"],
            decoder_start_token_id=special_tokens["<bos>"], forced_eos_token_id=None,
        )
    )  # fmt: skip


def random_pairs(
    count: int, vocab_size: int, generator: torch.Generator
) -> list[tuple[list[int], list[int]]]:
    """Returns pairs of random tokens, as long as Multi30k's sentences and their translations are.

    Args:
        count: pairs.
        vocab_size: V; the special tokens are not drawn.
        generator: decides all.
    """
    source_scatter, target_scatter = SCATTER
    noise = torch.randn(2, count, generator=generator)  # of the two lengths
    source = (SOURCE_TOKENS + source_scatter * noise[0]).clamp(SHORTEST, LONGEST)
    target = (LONGER * source + target_scatter * noise[1]).clamp(SHORTEST, LONGEST)
    eos, first = SPECIAL_TOKENS["<eos>"], len(SPECIAL_TOKENS)

    def words(length: int) -> list[int]:
        return torch.randint(first, vocab_size, (length,), generator=generator).tolist()

    return [
        ([*words(a), eos], words(b))
        for a, b in zip(source.round().int().tolist(), target.round().int().tolist(), strict=True)
    ]


def random_batches(
    count: int, vocab_size: int, tokens_per_batch: int, generator: torch.Generator
) -> list[Batch]:
    """Returns minibatches of random pairs of similar length, in random order, as in training.

    Args:
        count: minibatches, at most those of one epoch.
        vocab_size: V.
        tokens_per_batch: the most padded source and target tokens together.
        generator: decides all.
    """
    pairs = random_pairs(EPOCH, vocab_size, generator)
    lengths = [(len(source), len(target) + 1) for source, target in pairs]
    order = sorted(range(len(pairs)), key=lambda row: (lengths[row][0] // 2, lengths[row][1]))
    batches = cut_by_budget(order, lengths, tokens_per_batch)
    chosen = torch.randperm(len(batches), generator=generator).tolist()[:count]
    return [pad_pairs([pairs[row] for row in batches[place]], SPECIAL_TOKENS) for place in chosen]
