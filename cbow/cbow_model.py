"""word2vec as a module: two matrices, one of input vectors and one of output vectors.

The input vectors are those that people use. The output vectors belong to the loss: to words as
targets or noise, or, with hierarchical softmax, to the inner nodes of a tree. Mikolov et al. 2013a,
section 3.1 (CBOW) and 3.2 (skip-gram). Skip-gram needs no code here: its contexts are one word long
(``cbow.step_data``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cbow.cbow_components import (
    combine_context,
    hierarchical_losses,
    negative_sampling_losses,
    softmax_losses,
)
from cbow.cbow_config import CBOWConfig
from cbow.huffman import WordPaths, huffman_paths
from cbow.step_data import Batch


class CBOW(nn.Module):
    """Predicts a word from the words around it."""

    input: nn.Parameter
    output: nn.Parameter
    input_pace: Tensor
    output_pace: Tensor

    def __init__(self, config: CBOWConfig, counts: Sequence[int], negatives: int = 5) -> None:
        """Draws the input vectors from torch's generator; the output vectors are zeros.

        Args:
            config: width, objective, how a context becomes one vector.
            counts: (V,) how often each word occurs, the most frequent first.
            negatives: what all noise of a target weighs together, K.

        Raises:
            ValueError: there are fewer than two words.
        """
        super().__init__()
        words, width = len(counts), config.d_model
        if words < 2:
            raise ValueError(
                f"a vocabulary of {words} words leaves nothing to tell a target from. "
                "Use a text with two words or more."
            )
        self.config, self.negatives = config, negatives
        self.paths: WordPaths | None = None
        if config.objective == "hierarchical":
            self.paths = huffman_paths(counts)
        # gensim's start: U(-1/D, 1/D), and zeros. Every score is 0, every s(score) 1/2.
        self.input = nn.Parameter((2 * torch.rand(words, width) - 1) / width)  # (V, D)
        self.output = nn.Parameter(torch.zeros(words - (self.paths is not None), width))  # (V, D)
        # What the updates of each row are multiplied by; a training sets them (``cbow.paces``).
        for name, matrix in (("input_pace", self.input), ("output_pace", self.output)):
            self.register_buffer(name, torch.ones(len(matrix), 1), persistent=False)  # (V, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Returns the loss of every example, (n,), nats.

        An example without a context has the hidden vector 0: a loss, but no gradient.
        """
        hidden = self.hidden(batch)  # (n, D)
        if self.config.objective == "softmax":
            return softmax_losses(hidden, self.output, batch.targets)
        if self.paths is not None:
            nodes, turns_left, on_path = (
                part.to(hidden.device)[batch.targets] for part in self.paths
            )
            return hierarchical_losses(hidden, self.output[nodes], turns_left, on_path)
        target, noise = self.output[batch.targets], self.output[batch.noise]  # (n, D), (g, Q, D)
        return negative_sampling_losses(hidden, target, noise, self.negatives, batch.shared_by)

    def hidden(self, batch: Batch) -> Tensor:
        """Returns the vectors of the contexts, h, (n, D)."""
        return combine_context(self.input[batch.contexts()], batch.inside, self.config)
