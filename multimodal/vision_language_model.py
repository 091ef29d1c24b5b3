"""A GPT that sees: patch features, projected, stand before the text as if they were tokens.

    x = [W2 gelu(W1 z_1); ...; W2 gelu(W1 z_N); embedding of <bos>; of the question; ...]

z_n is the vision encoder's vector of patch n. GPT's own blocks read this sequence: nothing in them
changes (Liu et al. 2023, "Visual Instruction Tuning", section 4.1; the two-layer projection is that
of its successor, LLaVA-1.5). The loss is taken over the answer alone.

``gpt.GPT`` takes token ids, so its loop over the blocks is written here once more, with the prefix
in front; the weights, the blocks, the positions and the head are the GPT's.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from multimodal.contrastive_model import patch_features
from vit.vit_config import ViTConfig
from vit.vit_model import ViT


class Projector(nn.Module):
    """W2 gelu(W1 z): from the vision encoder's width to the language model's."""

    def __init__(self, d_vision: int, d_model: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_vision)
        self.expand = nn.Linear(d_vision, d_model)  # D_v -> D
        self.contract = nn.Linear(d_model, d_model)  # D -> D
        # As small as token embeddings: a larger picture would drown the positions added to it.
        nn.init.normal_(self.contract.weight, std=0.02)
        nn.init.zeros_(self.contract.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, N, D_v) -> (B, N, D)."""
        return cast(Tensor, self.contract(F.gelu(self.expand(self.norm(features)))))


def prefix_mask(
    n_prefix: int, length: int, parts: int = 1, device: torch.device | None = None
) -> Tensor:
    """Returns who may attend to whom: all see the prefix, text sees the text of its part before it.

    Args:
        n_prefix: N, places of the picture.
        length: T, places of the text.
        parts: texts of equal length that stand behind each other and do not see each other, such
            as several questions about one picture, which then is read once.
        device: of the mask.

    Returns:
        (1, 1, N + T, N + T); True means "may attend". Four dimensions: GPT's fused attention takes
        a square mask of two as "causal", which this one is not.

    >>> prefix_mask(1, 4, parts=2)[0, 0].int().tolist()
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    """
    part = torch.ones(length // parts, length // parts, dtype=torch.bool, device=device).tril()
    mask = torch.zeros(n_prefix + length, n_prefix + length, dtype=torch.bool, device=device)
    mask[n_prefix:, n_prefix:] = torch.block_diag(*[part] * parts)
    mask[:, :n_prefix] = True
    return mask[None, None]


class VisionLanguageModel(nn.Module):
    """A vision encoder, a projector, a GPT."""

    def __init__(self, vision: ViTConfig, language: GPTConfig) -> None:
        """Builds the model.

        Args:
            vision: the encoder's design.
            language: GPT's design, with learned positions; its window holds patches and text.

        Raises:
            ValueError: the window has no room for text, or the positions are rotary.
        """
        super().__init__()
        if language.max_len <= vision.n_patches or language.positions != "learned":
            raise ValueError(
                f"max_len={language.max_len} with positions={language.positions} cannot hold a "
                f"picture of {vision.n_patches} patches and a text. Use learned positions and a "
                f"max_len above {vision.n_patches}."
            )
        self.vision = ViT(vision)
        self.projector = Projector(vision.d_model, language.d_model)
        self.gpt = GPT(language)
        self.n_prefix = vision.n_patches

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D_v), what the vision encoder says of each patch."""
        return patch_features(self.vision, images)

    def forward(self, features: Tensor, tokens: Tensor, parts: int = 1) -> Tensor:
        """Scores every next token of the texts, given their pictures.

        Args:
            features: (B, N, D_v), of ``features``.
            tokens: (B, T).
            parts: texts of equal length in each row of ``tokens``; they do not see each other.

        Returns:
            (B, T, V): row t scores the token at t + 1.
        """
        return self.gpt.project(self.hidden(features, tokens, parts))

    def hidden(self, features: Tensor, tokens: Tensor, parts: int = 1) -> Tensor:
        """Returns the stream at the text's places, (B, T, D); arguments as ``forward``'s."""
        return self._run(features, tokens, parts, record=False)[0]

    def intermediates(self, features: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """Runs the model and keeps every step by name.

        Returns:
            "features" (B, N, D_v); "prefix" (B, N, D); "embedding" (B, N + T, D); for layer i
            "attention.i" (B, H, N + T, N + T) and "block.i" (B, N + T, D); "logits" (B, T, V).
        """
        x, named = self._run(features, tokens, 1, record=True)
        return named | {"logits": self.gpt.project(x)}

    def _run(
        self, features: Tensor, tokens: Tensor, parts: int, record: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        gpt, n, length = self.gpt, self.n_prefix, tokens.shape[1] // parts
        if n + length > gpt.config.max_len:
            raise ValueError(
                f"{n} patches and {length} tokens do not fit into the context window of "
                f"{gpt.config.max_len}. Ask a shorter question."
            )
        prefix = self.projector(features)  # (B, N, D)
        x = torch.cat([prefix, gpt.token_embedding(tokens)], dim=1)  # (B, N + T, D)
        places = gpt.position_embedding.weight
        text_places = places[n : n + length].repeat(parts, 1)  # (T, D): each part begins anew
        x = gpt.dropout(x + torch.cat([places[:n], text_places]))
        named = {"features": features, "prefix": prefix, "embedding": x}
        mask = prefix_mask(n, tokens.shape[1], parts, x.device)
        for layer, block in enumerate(gpt.blocks):
            x, weights = block(x, mask, need_weights=record)  # (B, N + T, D)
            if record:
                named |= {f"attention.{layer}": weights, f"block.{layer}": x}
        return x[:, n:], named  # (B, T, D)


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the tokens of the answers, in nats.

    Args:
        logits: (B, T, V).
        targets: (B, T), -100 where the question or padding stands.
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
