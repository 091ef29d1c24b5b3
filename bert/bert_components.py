"""The parts of BERT: embeddings, attention, feed-forward, and the encoder layer.

The layer is the Transformer's (Vaswani et al. 2017, section 3), which BERT takes over with three
changes: GELU in place of ReLU, learned positions, and an embedding of the segment (Devlin et al.
2019, section 3, figure 2, and appendix A.2). Attention has no mask but the padding: every token
sees the ones on both sides.

Difference from the published code: attention weights are not dropped in training; embeddings and
the output of each part are.

Shapes: batch B, length T, width D, heads H, head width K, feed-forward F; queries Q, which are T
everywhere but where only N places are asked about (asked_places.py).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.asked_places import Places
from bert.bert_config import BertConfig
from tutorial_kit.dropout import Dropout


def as_addend(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turns a boolean mask into numbers that are added to scores: 0 where True, else very negative.

    Half the most negative number and not minus infinity: exp() makes exactly zero of it all the
    same, and a row in which everything is forbidden becomes an average instead of NaN.
    """
    forbidden = torch.finfo(dtype).min / 2
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, forbidden)


class BertEmbeddings(nn.Module):
    """norm(token + position + segment): what a token is, where it stands, in which text.

    Without this norm the small numbers that embeddings begin with would be lost beside what the
    first layer adds, with pre-norm too.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        c = config
        self.token = nn.Embedding(c.vocab_size, c.d_model)  # (V, D)
        self.position = nn.Embedding(c.max_len, c.d_model)  # (max_len, D)
        self.segment = nn.Embedding(c.n_segments, c.d_model)  # (segments, D)
        self.norm = nn.LayerNorm(c.d_model, c.norm_eps)
        self.dropout = Dropout(c.dropout)

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """Looks up and adds.

        Args:
            tokens: (B, T), token ids.
            segments: (B, T), 0 for the first text and 1 for the second; None means all 0.

        Returns:
            (B, T, D).
        """
        place = self.position.weight[: tokens.shape[1]]  # (T, D)
        weight = self.segment.weight
        if segments is None:
            text = weight[0]  # (D,)
        else:  # a product is faster than looking up so few rows, as the published code found too
            text = F.one_hot(segments.long(), len(weight)).to(weight.dtype) @ weight  # (B, T, D)
        return self.dropout(self.norm(self.token(tokens) + (place + text)))  # (B, T, D)


def attend_written_out(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """softmax(q k' / sqrt(K)) v, each step visible (Vaswani et al. 2017, eq. 1).

    Args:
        q: (B, H, Q, K).
        k: (B, H, T, K).
        v: (B, H, T, K).
        mask: (B, 1, 1, T), what ``as_addend`` made of the padding, once for all layers; None means
            that every token sees every token.

    Returns:
        The output, (B, H, Q, K), and the weights, (B, H, Q, T), whose rows sum to 1.
    """
    scores = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.mT  # (B, H, Q, T)
    if mask is not None:
        scores += mask
    weights = scores.softmax(dim=-1)  # (B, H, Q, T)
    return weights @ v, weights


def attend_fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The same in one kernel that never stores the weights (Dao et al. 2022).

    Arguments as ``attend_written_out``'s.

    Returns:
        (B, H, Q, K).
    """
    mask = None if mask is None else mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def written_out_is_faster(k: Tensor) -> bool:
    """Tells which way is faster on this device.

    On CPU the fused kernel wins only where the (T, T) weights no longer fit into the processor's
    cache.
    """
    return k.device.type == "cpu" and k.shape[2] <= 512


class SelfAttention(nn.Module):
    """H attentions side by side, each in K = D / H dimensions of its own.

    The matrices of queries, keys and values of all heads lie below each other in ``qkv``: one
    large product instead of three.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.d_head = d_model // n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)  # D -> queries, keys, values of all heads
        self.output = nn.Linear(d_model, d_model)  # D -> D

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        need_weights: bool = False,
        places: Places | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Lets each token gather from all tokens.

        Args:
            x: (B, T, D).
            mask: as ``attend_written_out``'s.
            need_weights: also return the attention weights, which takes the written-out way.
            places: the tokens that gather; None means all.

        Returns:
            (B, T, D), or with ``places`` (N, D), and the weights (B, H, Q, T) or None.
        """
        if places is None:
            q, k, v = self._heads(self.qkv(x), 3)  # (B, H, T, K) each
        else:
            q, k, v = self._project_apart(x, places)  # (B, H, M, K), (B, H, T, K) twice
        weights = None
        if need_weights or written_out_is_faster(k):
            mixed, weights = attend_written_out(q, k, v, mask)
        else:
            mixed = attend_fused(q, k, v, mask)  # (B, H, Q, K)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, Q, D)
        if places is not None:
            mixed = places.gather(mixed)  # (N, D)
        return self.output(mixed), weights if need_weights else None

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Splits (B, T, parts D) into ``parts`` tensors of (B, H, T, K), in one copy."""
        split = x.unflatten(-1, (parts, -1, self.d_head))  # (B, T, parts, H, K)
        return split.permute(2, 0, 3, 1, 4).contiguous().unbind(0)

    def _project_apart(self, x: Tensor, places: Places) -> tuple[Tensor, ...]:
        """Returns queries of the asked places alone, keys and values of all."""
        d = x.shape[-1]
        weight, bias = self.qkv.weight.split((d, 2 * d)), self.qkv.bias.split((d, 2 * d))
        rows = F.linear(places.take(x), weight[0], bias[0])  # (N, D)
        (q,) = self._heads(places.spread(rows), 1)
        return q, *self._heads(F.linear(x, weight[1], bias[1]), 2)


class FeedForward(nn.Module):
    """contract(gelu(expand(x))), applied to each token alone.

    GELU is x P(X <= x) with X from N(0, 1) (Hendrycks & Gimpel 2016, eq. 1): the exact one, with
    the error function. GPT-2's is an approximation of it by tanh.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, d_ff)  # D -> F
        self.contract = nn.Linear(d_ff, d_model)  # F -> D

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.contract(F.gelu(self.expand(x)))


class AddNorm(nn.Module):
    """What surrounds each part: dropout, the residual connection and the norm.

    post (the paper):             x -> norm(x + part(x))
    pre (Xiong et al. 2020):      x -> x + part(norm(x))

    Use: ``y = part(a.enter(x))``, then ``x = a.leave(x, y)``.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def enter(self, x: Tensor) -> Tensor:
        """Returns the part's input, (B, T, D)."""
        return self.norm(x) if self.pre else x

    def leave(self, x: Tensor, y: Tensor) -> Tensor:
        """Adds the part's output y to the residual stream x; returns (B, T, D)."""
        x = self.dropout.add(x, y)
        return x if self.pre else self.norm(x)


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward (Vaswani et al. 2017, figure 1, left)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.d_model, config.n_heads)
        self.around_attention = AddNorm(config)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)
        self.around_feed_forward = AddNorm(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        need_weights: bool = False,
        places: Places | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, T, D), and the weights or None; arguments as the attention's.

        With ``places`` only they are computed, and the result is (N, D).
        """
        entry = self.around_attention.enter(x)
        mixed, weights = self.attention(entry, mask, need_weights, places)
        x = self.around_attention.leave(x if places is None else places.take(x), mixed)
        hidden = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, hidden), weights  # (B, T, D)
