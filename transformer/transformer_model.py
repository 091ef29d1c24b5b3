"""The Transformer, assembled: an encoder that reads the source, a decoder that writes the target.

Figure 1 of the paper (Vaswani et al. 2017). Both embeddings and the output projection are one
matrix (section 3.4, after Press & Wolf 2017); embeddings are multiplied by sqrt(D), because their
rows are drawn with length 1 and a row of positions has length sqrt(D/2).

Difference from the paper: on a CPU the share of dropout is a multiple of 1/256
(tutorial_kit.dropout). With pre-norm, one more norm follows each stack: without it nothing would
bound the stream at its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer.decoder_cache import DecoderCache
from transformer.positional_encoding import check_length, make_positions
from transformer.transformer_components import (
    LAYER_NORM_EPS,
    DecoderLayer,
    EncoderLayer,
    as_addend,
    causal_mask,
)
from transformer.transformer_config import TransformerConfig
from tutorial_kit.dropout import Dropout


class Transformer(nn.Module):
    """Encoder and decoder: a source and the beginning of a target in, scores of what follows out.

    In training the target is "<bos> w1 .. wn" and the labels are "w1 .. wn <eos>": all positions
    are scored at once, and the causal mask keeps each from seeing its own answer.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Builds and initializes the model.

        Raises:
            ValueError: ``config.vocab_size`` is 0.
        """
        super().__init__()
        if config.vocab_size < 1:
            raise ValueError(
                f"vocab_size={config.vocab_size} gives no token to predict. "
                "Use the tokenizer's vocab_size."
            )
        c = self.config = config
        self.embedding_scale = math.sqrt(c.d_model)
        self.source_embedding = nn.Embedding(c.vocab_size, c.d_model)  # (V, D)
        self.target_embedding = nn.Embedding(c.vocab_size, c.d_model)  # (V, D)
        self.positions = make_positions(c)  # (max_len, D)
        self.dropout = Dropout(c.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(c) for _ in range(c.n_layers))
        self.encoder_norm = self._final_norm()
        self.decoder = nn.ModuleList(DecoderLayer(c) for _ in range(c.n_decoder_layers))
        self.decoder_norm = self._final_norm()
        self.head = nn.Linear(c.d_model, c.vocab_size, bias=False)  # D -> V
        if c.tie_weights:
            self.target_embedding.weight = self.source_embedding.weight
            self.head.weight = self.source_embedding.weight
        self.initialize()

    def _final_norm(self) -> nn.Module:
        """Returns what closes a stack: post-norm layers already end in a norm."""
        pre = self.config.norm == "pre"
        return nn.LayerNorm(self.config.d_model, LAYER_NORM_EPS) if pre else nn.Identity()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draws every weight.

        | tensor | drawn from | so that |
        |---|---|---|
        | embeddings, head | N(0, 1/D) | rows have length 1: logits start near N(0, 1) |
        | learned positions | N(0, 1/D) | place and token start with the same weight |
        | qkv | U(-a, a), a = sqrt(6 / (4 D)): variance 1 / (2 D) | scores start small |
        | output, expand, contract | U(-a, a), a = sqrt(6 / (rows + columns)) | see below |
        | norm gains, biases | 1, 0 | |

        The last is Glorot & Bengio 2010, eq. 16 ("Xavier"): the size of activations and gradients
        survives a layer. The paper does not say how it began; these are the choices of its
        successors (tensor2tensor, fairseq and torch.nn.Transformer), where the smaller variance of
        qkv is Xavier's for the three matrices seen as one of 3 D rows.
        """
        for name, parameter in self.named_parameters():
            if "norm" in name:
                continue  # gains are born 1, biases 0
            if name.endswith("bias"):
                parameter.zero_()
            elif "embedding" in name or name in ("head.weight", "positions.weight"):
                parameter.normal_(0.0, self.config.d_model**-0.5)
            else:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_mask: Tensor | None = None,
        return_intermediates: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Scores every token of the vocabulary as the next one, at each position of the target.

        Args:
            source: (B, S), token ids.
            target: (B, T), token ids, "<bos> w1 .. wn". It needs no mask of its own: padding stands
                behind the words, and no word sees what stands behind it.
            source_mask: (B, S), boolean, False at padding; None means there is none.
            return_intermediates: also return every step by name.

        Returns:
            The logits, (B, T, V). With ``return_intermediates`` also a dictionary in the order of
            the computation: "source_embedding" (B, S, D); for encoder layer i "encoder.attention.i"
            (B, H, S, S), the weights, and "encoder.i" (B, S, D), the stream after it; "memory"
            (B, S, D), what the decoder reads; "target_embedding" (B, T, D); for decoder layer i
            "decoder.attention.i" (B, H, T, T), "cross.attention.i" (B, H, T, S) and "decoder.i"
            (B, T, D); "hidden" (B, T, D), what is projected; "logits" (B, T, V).

        Raises:
            ValueError: source or target has more than ``max_len`` tokens.
        """
        named: dict[str, Tensor] | None = {} if return_intermediates else None
        memory = self.encode(source, source_mask, named)  # (B, S, D)
        logits = self.project(self.decode(target, memory, source_mask, named))  # (B, T, V)
        return logits if named is None else (logits, named | {"logits": logits})

    def encode(
        self,
        source: Tensor,
        source_mask: Tensor | None = None,
        named: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Reads the source.

        Args:
            source: (B, S), token ids.
            source_mask: (B, S), boolean, False at padding; None means there is none.
            named: a dictionary that is given every step by name, as ``forward`` says.

        Returns:
            (B, S, D), the memory.
        """
        x = self._embed(self.source_embedding, source)  # (B, S, D)
        mask = self._padding(source_mask)  # (B, 1, 1, S)
        if named is not None:
            named["source_embedding"] = x
        for i, layer in enumerate(self.encoder):
            x, weights = layer(x, mask, named is not None)  # (B, S, D)
            if named is not None:
                named |= {f"encoder.attention.{i}": weights, f"encoder.{i}": x}
        x = self.encoder_norm(x)
        if named is not None:
            named["memory"] = x
        return x

    def decode(
        self,
        target: Tensor,
        memory: Tensor,
        source_mask: Tensor | None = None,
        named: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Runs the decoder over a whole target at once, each position seeing those before it.

        Args:
            target: (B, T), token ids, "<bos> w1 .. wn".
            memory: (B, S, D), from ``encode``.
            source_mask: (B, S), boolean, False at padding; None means there is none.
            named: a dictionary that is given every step by name, as ``forward`` says.

        Returns:
            (B, T, D); ``project`` scores it.
        """
        x = self._embed(self.target_embedding, target)  # (B, T, D)
        padding = self._padding(source_mask)  # (B, 1, 1, S)
        causal = as_addend(causal_mask(target.shape[1], x.device), x.dtype)  # (T, T)
        if named is not None:
            named["target_embedding"] = x
        for i, (layer, read) in enumerate(zip(self.decoder, self._read(memory), strict=True)):
            x, weights, cross = layer(x, read, causal, padding, named is not None)
            if named is not None:
                named[f"decoder.attention.{i}"] = weights
                named |= {f"cross.attention.{i}": cross, f"decoder.{i}": x}
        x = self.decoder_norm(x)
        if named is not None:
            named["hidden"] = x
        return x

    def project(self, hidden: Tensor) -> Tensor:
        """Turns the decoder's output, (..., D), into logits, (..., V)."""
        return self.head(hidden)

    @torch.no_grad()
    def start_cache(
        self, memory: Tensor, source_mask: Tensor | None, max_new: int, beams: int = 1
    ) -> DecoderCache:
        """Projects the source for all decoder layers, once, and makes room for the target.

        Args:
            memory: (B, S, D), from ``encode``.
            source_mask: (B, S), boolean, False at padding; None means there is none.
            max_new: the most tokens that ``step`` will be given, "<bos>" included.
            beams: the most hypotheses of a sentence.

        Raises:
            ValueError: ``max_new`` is more than ``max_len``.
        """
        check_length(max_new, self.config.max_len)
        source = [(k.contiguous(), v.contiguous()) for k, v in self._read(memory)]
        if source_mask is not None and source_mask.all():
            source_mask = None  # no padding
        return DecoderCache(source, self._padding(source_mask), max_new, beams)

    @torch.no_grad()
    def step(self, tokens: Tensor, cache: DecoderCache) -> Tensor:
        """Appends one token to each hypothesis and scores what may follow it.

        Args:
            tokens: (B, W), token ids of W hypotheses of each sentence; one column of "<bos>" first.
            cache: from ``start_cache``; it grows by one token.

        Returns:
            (B, W, V), the logits of the next token.

        Raises:
            ValueError: the cache is full.
        """
        width = tokens.shape[1]
        cache.make_room(width)
        place = self.positions(cache.length, cache.length + 1)  # (1, D), the same for all beams
        x = self._embed(self.target_embedding, tokens, place)  # (B, W, D)
        for layer, own in zip(self.decoder, cache.layers, strict=True):
            x, _, _ = layer(x, own.source, cache.mask, cache.source_mask, cache=own)  # (B, W, D)
        cache.advance(width)
        return self.project(self.decoder_norm(x))

    def _embed(
        self, embedding: nn.Embedding, tokens: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """Returns dropout(sqrt(D) embedding + positions), those of 0 .. T - 1 if not given."""
        if positions is None:
            positions = self.positions(0, tokens.shape[1])  # (T, D)
        x = torch.add(positions, embedding(tokens), alpha=self.embedding_scale)  # (B, T, D)
        return self.dropout(x)

    def _read(self, memory: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields each decoder layer's keys and values of the source, (B, H, S, K) each."""
        for layer in self.decoder:
            assert isinstance(layer, DecoderLayer)
            yield layer.cross_attention.project_memory(memory)

    def _padding(self, source_mask: Tensor | None) -> Tensor | None:
        """Turns (B, S) booleans into what is added to scores, (B, 1, 1, S)."""
        if source_mask is None:
            return None
        return as_addend(source_mask[:, None, None, :], self.source_embedding.weight.dtype)
