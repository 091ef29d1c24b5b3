"""BERT, assembled: embeddings, L encoder layers, a pooler (Devlin et al. 2019, section 3).

It turns tokens into vectors that know their context on both sides. What is done with the vectors
is the heads' business (bert_heads.py).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bert.asked_places import Places
from bert.bert_components import BertEmbeddings, EncoderLayer, as_addend
from bert.bert_config import SIZES, BertConfig, parameter_count

__all__ = ["SIZES", "BertConfig", "BertModel", "initialize", "parameter_count"]


class BertModel(nn.Module):
    """The encoder: token ids in, a vector for each token and one for the whole sequence out."""

    def __init__(self, config: BertConfig) -> None:
        """Builds and initializes the model."""
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        pre = config.norm == "pre"  # post-norm layers already end in a norm
        self.final_norm = nn.LayerNorm(config.d_model, config.norm_eps) if pre else nn.Identity()
        self.pooler = nn.Linear(config.d_model, config.d_model)  # D -> D, of [CLS]
        initialize(self, config.initial_std)
        if config.first_positions == "sine":
            begin_with_sines(self.embeddings.position.weight, config.initial_std)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        return_intermediates: bool = False,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Reads a minibatch of sequences.

        Args:
            tokens: (B, T), token ids, "[CLS] first text [SEP] second text [SEP]".
            mask: (B, T), boolean, False at padding; None means there is none.
            segments: (B, T), 0 for the first text and 1 for the second; None means all 0.
            return_intermediates: also return every step by name.

        Returns:
            The vectors, (B, T, D), and the pooled one, (B, D): tanh of a projection of [CLS]'s.
            With ``return_intermediates`` also a dictionary in the order of the computation:
            "embedding" (B, T, D); for layer i "attention.i" (B, H, T, T), the weights, and
            "layer.i" (B, T, D), the stream after it; "hidden" (B, T, D) and "pooled" (B, D).

        Raises:
            ValueError: the sequences have more than ``max_len`` tokens.
        """
        named: dict[str, Tensor] | None = {} if return_intermediates else None
        hidden = self.hidden(tokens, mask, segments, named)  # (B, T, D)
        pooled = self.pool(hidden[:, 0])  # (B, D)
        if named is None:
            return hidden, pooled
        return hidden, pooled, named | {"hidden": hidden, "pooled": pooled}

    def hidden(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        named: dict[str, Tensor] | None = None,
        places: Places | None = None,
    ) -> Tensor:
        """Returns the vectors without the pooled one.

        Args:
            tokens: (B, T).
            mask: (B, T) or None.
            segments: (B, T) or None; these three as ``forward``'s.
            named: a dictionary that is given every step by name.
            places: the N places whose vectors are needed; None means all.

        Returns:
            (B, T, D), or with ``places`` (N, D), the same vectors with less work.
        """
        check_length(tokens.shape[1], self.config.max_len)
        x = self.embeddings(tokens, segments)  # (B, T, D)
        padding = self._padding(mask)  # (B, 1, 1, T)
        if named is not None:
            named["embedding"] = x
        for i, layer in enumerate(self.encoder):
            asked = places if i == self.config.n_layers - 1 else None
            x, weights = layer(x, padding, named is not None, asked)  # (B, T, D)
            if named is not None:
                named |= {f"attention.{i}": weights, f"layer.{i}": x}
        return cast(Tensor, self.final_norm(x))

    def first_vectors(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Returns the vectors of [CLS] alone, (B, D); arguments as ``forward``'s."""
        asked = torch.zeros_like(tokens, dtype=torch.bool)
        asked[:, 0] = True
        return self.hidden(tokens, mask, segments, places=Places.of(asked))

    def pool(self, first: Tensor) -> Tensor:
        """Returns tanh of a projection of [CLS]'s vectors, (B, D) -> (B, D)."""
        return torch.tanh(self.pooler(first))

    def intermediates(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns every step by name, as ``forward`` describes them."""
        return cast(
            "tuple[Tensor, Tensor, dict[str, Tensor]]",
            self(tokens, mask, segments, return_intermediates=True),
        )[2]

    def _padding(self, mask: Tensor | None) -> Tensor | None:
        """Turns (B, T) booleans into what is added to scores, (B, 1, 1, T)."""
        if mask is None or (mask.device.type == "cpu" and mask.all()):
            return None  # nothing to hide; a GPU would have to wait for the answer
        return as_addend(mask[:, None, None, :], self.pooler.weight.dtype)


def check_length(length: int, max_len: int) -> None:
    """Refuses a sequence that has positions the model does not know.

    Raises:
        ValueError: ``length`` is more than ``max_len``.
    """
    if length > max_len:
        raise ValueError(
            f"{length} tokens do not fit into BERT's {max_len} positions: later ones have never "
            "been trained. Cut the text, or train with a larger max_len."
        )


@torch.no_grad()
@torch.no_grad()
def begin_with_sines(positions: Tensor, std: float) -> None:
    """Overwrites (max_len, D) positions by sines and cosines, which are learned on from there.

    The wavelengths grow from 2 pi to about 2 pi 1,000 tokens (Vaswani et al. 2017, section 3.5, has
    10,000). A shift is then the same rotation everywhere, so a head that is to look at the
    neighbor learns it once for all positions; random vectors must be learned pair by pair.
    """
    count, width = positions.shape
    place = torch.arange(count)[:, None]  # (max_len, 1)
    frequency = 1000.0 ** (-torch.arange(0, width, 2) / width)  # (D / 2,)
    angle = place * frequency  # (max_len, D / 2)
    positions.copy_(torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1))  # sin, cos, sin ..
    positions.mul_(std * 2**0.5)  # a sine has the standard deviation 1 / sqrt(2)


def initialize(module: nn.Module, std: float) -> None:
    """Draws every weight of a model or a head, as the published code does.

    | tensor | drawn from |
    |---|---|
    | embeddings, matrices of every Linear | N(0, std), drawn again beyond two deviations |
    | norm gains, biases | 1, 0 |

    The published std is 0.02. Scores of attention are sums over D products of numbers that grow
    with std, so at D = 128 they start at next to nothing, and no head tells one position from
    another. About D^-0.5 is what the presets give a narrow model.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(part.weight, 0.0, std, -2 * std, 2 * std)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
