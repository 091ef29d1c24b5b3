"""The parts of the Transformer: feed-forward, "Add & Norm", and the two kinds of layer.

Figure 1 of the paper, box by box (Vaswani et al. 2017, section 3); attention.py has the boxes that
attend. ``AddNorm`` knows the paper's order, post-norm, and the one of most later models, pre-norm
(Xiong et al. 2020).

Difference from the paper: none in the layers. torch.nn.Transformer and many others also drop
attention weights and feed-forward activations; the paper drops the output of each part (section
5.4), and so does this.

Shapes: batch B, target length T, source length S, width D, heads H, head width K, feed-forward F.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from transformer.attention import (
    MultiHeadAttention,
    as_addend,
    attend_fused,
    attend_written_out,
    causal_mask,
)
from transformer.decoder_cache import LayerCache
from transformer.transformer_config import TransformerConfig
from tutorial_kit.dropout import Dropout

__all__ = [
    "AddNorm",
    "DecoderLayer",
    "EncoderLayer",
    "FeedForward",
    "MultiHeadAttention",
    "as_addend",
    "attend_fused",
    "attend_written_out",
    "causal_mask",
]

LAYER_NORM_EPS = 1e-5


class FeedForward(nn.Module):
    """max(0, x W_1 + b_1) W_2 + b_2, applied to each position alone (eq. 2)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, d_ff)  # D -> F
        self.contract = nn.Linear(d_ff, d_model)  # F -> D

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.contract(F.relu(self.expand(x), inplace=True))  # in place: nobody needs the sum


class AddNorm(nn.Module):
    """What surrounds each part: dropout, the residual connection and the norm.

    post (the paper, section 3.1):  x -> norm(x + part(x))
    pre (Xiong et al. 2020):        x -> x + part(norm(x))

    Pre-norm leaves the residual stream without a norm in its way, which makes training stable
    without warm-up; post-norm keeps every layer's output at the same size. Use: ``y = part(a.enter(
    x))``, then ``x = a.leave(x, y)``.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)
        self.dropout = Dropout(config.dropout)

    def enter(self, x: Tensor) -> Tensor:
        """Returns the part's input, (B, T, D)."""
        return self.norm(x) if self.pre else x

    def leave(self, x: Tensor, y: Tensor) -> Tensor:
        """Adds the part's output y to the residual stream x; returns (B, T, D)."""
        x = self.dropout.add(x, y)
        return x if self.pre else self.norm(x)


class EncoderLayer(nn.Module):
    """Self-attention over the source, then the feed-forward (figure 1, left)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        c = config
        self.attention = MultiHeadAttention(c.d_model, c.n_heads, c.scale_scores)
        self.around_attention = AddNorm(c)
        self.feed_forward = FeedForward(c.d_model, c.d_ff)
        self.around_feed_forward = AddNorm(c)

    def forward(
        self, x: Tensor, mask: Tensor | None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """One layer of the encoder.

        Args:
            x: (B, S, D).
            mask: (B, 1, 1, S), the source's padding, or None.
            need_weights: also return the attention weights.

        Returns:
            (B, S, D), and the weights (B, H, S, S) or None.
        """
        entry = self.around_attention.enter(x)
        mixed, weights = self.attention(entry, entry, mask, need_weights)
        x = self.around_attention.leave(x, mixed)  # (B, S, D)
        hidden = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, hidden), weights


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source, then the feed-forward (figure 1, right)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        c = config
        self.attention = MultiHeadAttention(c.d_model, c.n_heads, c.scale_scores)
        self.around_attention = AddNorm(c)
        self.cross_attention = MultiHeadAttention(c.d_model, c.n_heads, c.scale_scores)
        self.around_cross_attention = AddNorm(c)
        self.feed_forward = FeedForward(c.d_model, c.d_ff)
        self.around_feed_forward = AddNorm(c)

    def forward(
        self,
        x: Tensor,
        source: tuple[Tensor, Tensor],
        mask: Tensor | None,
        source_mask: Tensor | None,
        need_weights: bool = False,
        cache: LayerCache | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One layer of the decoder.

        Args:
            x: (B, T, D).
            source: keys and values of the source, (B, H, S, K) each, from
                ``cross_attention.project_memory``.
            mask: (T, T), ``causal_mask``; with a cache ``DecoderCache.mask``.
            source_mask: (B, 1, 1, S), the source's padding, or None.
            need_weights: also return the attention weights.
            cache: what this layer knows of the target so far, or None. With it, the T positions of
                x are no sequence: they are the newest tokens of T beams.

        Returns:
            (B, T, D), and the weights of the self-attention, (B, H, T, T), and of the attention to
            the source, (B, H, T, S), or None twice.
        """
        entry = self.around_attention.enter(x)
        mixed, weights = self.attention(entry, entry, mask, need_weights, cache)
        x = self.around_attention.leave(x, mixed)  # (B, T, D)
        entry = self.around_cross_attention.enter(x)
        mixed, cross_weights = self.cross_attention.attend(
            entry, *source, source_mask, need_weights
        )
        x = self.around_cross_attention.leave(x, mixed)  # (B, T, D)
        hidden = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, hidden), weights, cross_weights
