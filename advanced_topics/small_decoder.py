"""A small decoder in which positions, mixer and feed-forward can be exchanged one at a time.

With ``positions`` "learned" or "rotary", the softmax mixer and no experts it is gpt's model of the
"gpt2" recipe, with the same names of weights and the same logits. Every other choice replaces one
part. Shapes: batch B, length T, width D, heads H, key/value heads G, head width K.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advanced_topics.advanced_config import DecoderConfig, Rescale
from advanced_topics.grouped_attention import grouped_attention
from advanced_topics.linear_attention import delta_parallel, linear_parallel, positive_features
from advanced_topics.mixture_of_experts import MixtureOfExperts
from advanced_topics.positions import alibi_bias, rescaled_rotary_table, sine_table
from gpt.gpt_components import LAYER_NORM_EPS, FeedForward, rotate


class MixingLayer(nn.Module):
    """Queries, keys and values from the stream; one of three mixers; back to the stream."""

    def __init__(self, config: DecoderConfig) -> None:
        """Builds the layer of ``config``."""
        super().__init__()
        self.config = config
        self.rows = (config.d_model, *2 * [config.n_kv_heads * config.d_head])  # of q, k, v
        self.qkv = nn.Linear(config.d_model, sum(self.rows))  # D -> D + 2 G K
        if config.conv:
            self.short_conv = nn.Conv1d(
                sum(self.rows), sum(self.rows), config.conv, groups=sum(self.rows), bias=False
            )  # each number from its own last few values
        if config.mixer == "delta":
            self.write = nn.Linear(config.d_model, config.n_heads)  # D -> H, how much is replaced
        self.output = nn.Linear(config.d_model, config.d_model)  # D -> D

    def forward(self, x: Tensor, turns: Tensor | None, bias: Tensor | None) -> Tensor:
        """Mixes each position with the ones before it.

        Args:
            x: (B, T, D).
            turns: (T, K/2, 2), rotary angles, or None.
            bias: (T, T) or (H, T, T), added to the scores; -inf for the future.

        Returns:
            (B, T, D).
        """
        c = self.config
        qkv = self.qkv(x)  # (B, T, D + 2 G K)
        if c.conv:
            past = F.pad(qkv.mT, (c.conv - 1, 0))  # zeros before the first token: no future
            qkv = self.short_conv(past).mT  # (B, T, D + 2 G K)
        q, k, v = (part.unflatten(-1, (-1, c.d_head)).transpose(1, 2) for part in
                   qkv.split(self.rows, dim=-1))  # (B, H, T, K), (B, G, T, K) twice  # fmt: skip
        if turns is not None:
            q, k = rotate(q, turns), rotate(k, turns)
        if c.mixer == "softmax":
            mixed = grouped_attention(q, k, v, bias)  # (B, H, T, K)
        else:
            shared = c.n_heads // c.n_kv_heads
            k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
            if c.mixer == "linear":
                mixed = linear_parallel(positive_features(q), positive_features(k), v)
            else:
                beta = self.write(x).sigmoid().mT  # (B, H, T)
                mixed = delta_parallel(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, beta)
        return self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)


class DecoderBlock(nn.Module):
    """One layer, pre-norm: x + mix(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        """Builds the block of ``config``."""
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)
        self.attention = MixingLayer(config)
        self.feed_forward_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)
        self.feed_forward: nn.Module
        if config.n_experts:
            self.feed_forward = MixtureOfExperts(
                config.d_model, config.d_ff, config.n_experts, config.top_k
            )
        else:
            self.feed_forward = FeedForward(config.d_model, config.d_ff, "gelu", bias=True)

    def forward(self, x: Tensor, turns: Tensor | None, bias: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D); the other arguments are the mixer's."""
        x = x + self.attention(self.attention_norm(x), turns, bias)
        return x + self.feed_forward(self.feed_forward_norm(x))


class SmallDecoder(nn.Module):
    """Tokens in, a score for every possible next token out."""

    def __init__(self, config: DecoderConfig) -> None:
        """Builds and initializes the model.

        Raises:
            ValueError: ``config.vocab_size`` is 0.
        """
        super().__init__()
        if config.vocab_size < 1:
            raise ValueError(
                f"vocab_size={config.vocab_size} gives no token to predict. "
                "Use the vocabulary size of the data."
            )
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)  # (V, D)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.max_len, config.d_model)  # (max_len, D)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.n_layers))
        self.final_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)  # D -> V
        self.head.weight = self.token_embedding.weight
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draws every weight as GPT-2 does; short convolutions keep torch's own start.

        Matrices from N(0, init), those that write into the stream smaller by sqrt(2 L), learned
        positions from N(0, init / 2); biases are 0, gains of norms 1. GPT-2's init is 0.02 (Radford
        et al. 2019, section 2.3), which suits its width of 768.
        """
        init = self.config.init
        smaller = init / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if "norm" in name or "short_conv" in name:
                continue
            if name.endswith("bias"):
                parameter.zero_()
            elif name.endswith(("output.weight", "contract.weight")):
                parameter.normal_(0.0, smaller)
            else:
                parameter.normal_(0.0, init / 2 if name.startswith("position") else init)

    def forward(
        self, tokens: Tensor, trained: int | None = None, rescale: Rescale = "none"
    ) -> Tensor:
        """Scores every token of the vocabulary as the next one, at each position.

        Args:
            tokens: (B, T), token ids.
            trained: length of the training windows, from which rotary positions are rescaled; None
                means T, so that nothing is.
            rescale: what to do with rotary positions beyond ``trained``.

        Returns:
            (B, T, V), logits.

        Raises:
            ValueError: there are more tokens than ``max_len``.
        """
        x = self.token_embedding(tokens)  # (B, T, D)
        length, c = tokens.shape[1], self.config
        if length > c.max_len:
            raise ValueError(
                f"{length} tokens are more than max_len={c.max_len}: there is no position for the "
                "last ones. Give fewer tokens, or use a larger max_len."
            )
        if c.positions == "learned":
            x = x + self.position_embedding.weight[:length]
        elif c.positions == "sine":
            # As large as the embedding at the start, which here is not multiplied by sqrt(D).
            x = x + c.init * sine_table(length, c.d_model).to(x)
        turns = None
        if c.positions == "rotary":
            turns = rescaled_rotary_table(length, c.d_head, trained or length, rescale)
            turns = turns.to(x.device, x.dtype)  # (T, K/2, 2)
        bias = self._bias(length).to(x) if c.mixer == "softmax" else None
        for block in self.blocks:
            x = block(x, turns, bias)  # (B, T, D)
        return self.head(self.final_norm(x))  # (B, T, V)

    def _bias(self, length: int) -> Tensor:
        """What is added to the scores, (T, T) or (H, T, T): the mask, and with ALiBi distances."""
        if self.config.positions == "alibi":
            return alibi_bias(length, self.config.n_heads)
        return torch.full((length, length), -math.inf).triu(1)

    def mixtures(self) -> list[MixtureOfExperts]:
        """Returns the mixtures of experts, one a layer; none if the feed-forwards are plain."""
        parts = [block.feed_forward for block in self.blocks]
        return [part for part in parts if isinstance(part, MixtureOfExperts)]

    def balance_loss(self) -> Tensor:
        """Mean of the layers' balancing losses in the last forward; 0 without experts."""
        losses = [part.balance_loss for part in self.mixtures()]
        return torch.stack(losses).mean() if losses else torch.zeros(())


def parameter_counts(model: SmallDecoder) -> tuple[int, int]:
    """Returns how many parameters there are, and how many of them a single token uses."""
    every = sum(weight.numel() for weight in model.parameters())
    idle = 0
    for part in model.mixtures():
        expert = sum(weight.numel() for weight in part.experts[0].parameters())
        idle += (part.n_experts - part.top_k) * expert
    return every, every - idle
