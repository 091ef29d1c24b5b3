"""What a model sees while it writes: one rule for both kinds of positions, with a cache or without.

The model sees at most ``max_len`` tokens. When a token comes to a full window, the oldest half is
dropped and the newest ``max_len // 2`` tokens, the new one among them, are encoded anew from
position 0. So it always sees between half a window and a whole one, and never a position it was
not trained on.

Why not drop one token at a time? With learned positions every token would then move to another
position, which changes all keys and values. With rotary positions they could stay, but the layers
above the first have mixed in tokens that are gone: the result would depend on the past of the
cache. Half a window at once makes the cost one extra pass over each token, and the rule exact:
cached and uncached text are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt.gpt_model import GPT


class Context:
    """The tokens of B rows, of any lengths, and the cache of the part that the model sees."""

    def __init__(
        self, model: GPT, prompts: Sequence[Sequence[int]], *, use_cache: bool = True
    ) -> None:
        """Takes the prompts; nothing is computed yet.

        Args:
            model: the model; it is put into evaluation mode.
            prompts: token ids of each row, 1 to ``max_len`` of them.
            use_cache: False computes every row's whole window for every token: slow, the reference.

        Raises:
            ValueError: a prompt is empty, too long, or has ids outside the vocabulary.
        """
        self.model = model.eval()
        self.max_len = model.config.max_len
        self.rows = [list(map(int, prompt)) for prompt in prompts]
        if not self.rows:
            raise ValueError("there is no prompt to continue. Give at least one.")
        for row in self.rows:
            self._check(row)
        self.starts = [0] * len(self.rows)  # where each row's window begins
        self.device = model.token_embedding.weight.device
        self.cache = model.new_cache(len(self.rows)) if use_cache else None

    def _check(self, prompt: list[int]) -> None:
        if not prompt:
            raise ValueError("an empty prompt has nothing to continue. Give at least one token.")
        if len(prompt) > self.max_len:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens, but the model sees only {self.max_len}: "
                "its beginning would be lost. Shorten it, or crop it to its end (--crop)."
            )
        vocab_size = self.model.config.vocab_size
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            wrong = next(token for token in prompt if not 0 <= token < vocab_size)
            raise ValueError(
                f"the prompt has the token {wrong}, but the model's ids run from 0 to "
                f"{vocab_size - 1}. Encode it with the tokenizer the model was trained with."
            )

    def append(self, tokens: Sequence[int]) -> None:
        """Adds one token to each row; a window that overflows drops its oldest half."""
        for row, token in enumerate(tokens):
            self.rows[row].append(token)
            if len(self.rows[row]) - self.starts[row] > self.max_len:
                self.starts[row] = len(self.rows[row]) - max(1, self.max_len // 2)
                if self.cache is not None:
                    lengths = self.cache.lengths.copy()
                    lengths[row] = 0
                    self.cache.trim(lengths)

    @torch.inference_mode()
    def scores(self, last: int = 1) -> Tensor:
        """Scores what may follow each of the last tokens.

        Args:
            last: how many positions from the end, 1 to the shortest window.

        Returns:
            (B, last, V), logits; ``[:, -1]`` is about the next token.
        """
        if self.cache is None:
            scored = [
                self.model(torch.tensor([row[start:]], device=self.device))[:, -last:]
                for row, start in zip(self.rows, self.starts, strict=True)
            ]
            return torch.cat(scored)
        pending = [
            row[start + length :]
            for row, start, length in zip(self.rows, self.starts, self.cache.lengths, strict=True)
        ]
        if len({len(tokens) for tokens in pending}) > 1:
            self._encode({i: p[:-last] for i, p in enumerate(pending) if len(p) > last})
            pending = [tokens[-last:] for tokens in pending]
        tokens = torch.tensor(pending, device=self.device)  # (B, T)
        x = self.model.hidden(tokens, self.cache)  # (B, T, D)
        return self.model.project(x[:, -last:])  # (B, last, V)

    def _encode(self, new: dict[int, list[int]]) -> None:
        """Fills the empty cache rows in ``new`` (row -> tokens) in one pass, padded on the right.

        Padding needs no mask: it comes after the real tokens, which do not see the future, and its
        keys and values are trimmed away.
        """
        assert self.cache is not None
        lengths = [len(tokens) for tokens in new.values()]
        padded = torch.zeros(len(new), max(lengths), dtype=torch.long)  # (rows, T)
        for tokens, target in zip(new.values(), padded, strict=True):
            target[: len(tokens)] = torch.tensor(tokens)
        fresh = self.model.new_cache(len(new))
        self.model.hidden(padded.to(self.device), fresh)
        fresh.trim(lengths)
        self.cache.replace(list(new), fresh)

    def forget(self, count: int) -> None:
        """Takes back the newest ``count`` tokens of each row, which must lie in its window."""
        self.rows = [row[: len(row) - count] for row in self.rows]
        if self.cache is not None:
            self.cache.trim(
                [
                    min(length, len(row) - start)
                    for length, row, start in zip(
                        self.cache.lengths, self.rows, self.starts, strict=True
                    )
                ]
            )

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Makes row i continue row ``rows[i]``: surviving beams, or the rows not yet finished."""
        self.rows = [self.rows[row].copy() for row in rows]
        self.starts = [self.starts[row] for row in rows]
        if self.cache is not None:
            self.cache.select(rows)

    def room(self) -> int:
        """Returns how many tokens the fullest window still takes before it drops its half."""
        used = (len(row) - start for row, start in zip(self.rows, self.starts, strict=True))
        return self.max_len - max(used)
