"""What every head looks at, averaged over many texts (Clark et al. 2019, sections 3.1 and 3.2).

A head of a text is an anecdote. Over a thousand tokens it has habits: the token before or after,
[SEP] where it has nothing to do, the same word elsewhere. Each share stands beside what an even
spread over the text would give: [SEP] is one token of sixty, so 0.02 is nothing and 0.5 a habit.

Shapes: batch B, length T, layers L, heads H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bert.length_batches import TOKEN_BUDGET, device_of, encoder_of, evaluating, length_batches
from bert.wordpiece import WordPiece, is_continuation

PATTERNS = (
    "the previous token",
    "the next token",
    "itself",
    "[CLS]",
    "[SEP]",
    "the same word",
)
"""What is measured, in this order; "the same word" stands elsewhere in the text. No token counts
twice: a [SEP] that is next counts as [SEP], a word that is next as next."""

PREVIOUS, NEXT, ITSELF, CLS, SEP, SAME = range(len(PATTERNS))


@dataclass(frozen=True)
class HeadStatistics:
    """Mean shares of the attention of ordinary tokens; what is missing to 1 goes to others."""

    shares: Tensor  # (L, H, 6), of each of `PATTERNS`
    even: Tensor  # (6,), the same if attention were spread evenly
    n_texts: int  # texts read
    n_tokens: int  # tokens whose attention is averaged, without [CLS] and [SEP]

    def clearest(self) -> tuple[int, int, int]:
        """Returns layer, head and pattern (from 0) of the habit farthest above an even spread.

        [CLS] and [SEP] are left out: they are where heads rest.
        """
        above = self.shares - self.even  # (L, H, 6)
        above[..., [CLS, SEP]] = -1.0
        place, pattern = divmod(int(above.argmax()), len(PATTERNS))
        layer, head = divmod(place, self.shares.shape[1])
        return layer, head, pattern

    def describe(self) -> str:
        """Names the clearest habit, and how much rests on the special tokens."""
        layer, head, pattern = self.clearest()
        share, even = float(self.shares[layer, head, pattern]), float(self.even[pattern])
        rest = self.shares[..., [CLS, SEP]].sum(dim=-1).mean(dim=1)  # (L,)
        most = int(rest.argmax())
        special = (
            f"[CLS] and [SEP] get most in layer {most + 1}: {rest[most]:.2f} "
            f"(even: {self.even[[CLS, SEP]].sum():.2f})"
        )
        if share < 0.1 or share < 2 * even:
            return f"No head has a clear habit among ordinary tokens; {special}"
        return (
            f"Head {head + 1} of layer {layer + 1} gives {share:.2f} of its attention to "
            f"{PATTERNS[pattern]} (even: {even:.2f}); {special}"
        )


def head_statistics(
    model: nn.Module,
    wordpiece: WordPiece,
    sequences: Sequence[Sequence[int]],
    budget: int = TOKEN_BUDGET,
) -> HeadStatistics:
    """Averages the attention of every head over texts.

    Args:
        model: a BertModel or a model with any head on one.
        wordpiece: the model's.
        sequences: ids of each text or pair, [CLS] and [SEP] included, as ``wordpiece.pair`` makes
            them; held-out texts, because heads may treat what they know by heart differently.
        budget: padded tokens computed at once.

    Raises:
        ValueError: no text holds an ordinary token.
    """
    encoder = encoder_of(model)
    layers = range(encoder.config.n_layers)
    totals = torch.zeros(encoder.config.n_layers, encoder.config.n_heads, len(PATTERNS)).double()
    even, n_tokens = torch.zeros(len(PATTERNS)).double(), 0
    with evaluating(encoder):
        for batch in length_batches(sequences, wordpiece.pad_id, budget, device_of(encoder)):
            segments = segments_of(batch.tokens, wordpiece.sep_id)
            named = encoder.intermediates(batch.tokens, batch.mask, segments)
            weights = torch.stack([named[f"attention.{layer}"] for layer in layers])
            sums = _add_up(weights.cpu(), batch.tokens.cpu(), batch.real_tokens().cpu(), wordpiece)
            totals, even, n_tokens = totals + sums[0], even + sums[1], n_tokens + sums[2]
    return _mean(totals, even, n_tokens, len(sequences))


def statistics_of_text(weights: Tensor, tokens: Tensor, wordpiece: WordPiece) -> HeadStatistics:
    """Returns the same for one text, from its attention weights (L, H, T, T) and ids (T,)."""
    real = torch.ones_like(tokens, dtype=torch.bool)
    sums = _add_up(weights.unsqueeze(1), tokens.unsqueeze(0), real.unsqueeze(0), wordpiece)
    return _mean(*sums, n_texts=1)


def _add_up(
    weights: Tensor, tokens: Tensor, real: Tensor, wordpiece: WordPiece
) -> tuple[Tensor, Tensor, int]:
    """Sums over the ordinary tokens of a minibatch.

    Args:
        weights: (L, B, H, T, T).
        tokens: (B, T) ids.
        real: (B, T) bool, False at padding.
        wordpiece: the vocabulary.

    Returns:
        (L, H, 6) attention to each pattern, (6,) the same of an even spread, and how many tokens.
    """
    seen = patterns_of(tokens, real, wordpiece)  # (6, B, T, T)
    ordinary = real & ~_is_one_of(tokens, wordpiece.cls_id, wordpiece.sep_id)  # (B, T)
    spread = ordinary / real.sum(dim=1, keepdim=True)  # (B, T), each weight of an even row
    even = torch.einsum("pbts,bt->p", seen, spread).double()
    total = torch.stack(
        [torch.einsum("bhts,pbts->hp", layer.float(), seen).double() for layer in weights]
    )
    return total, even, int(ordinary.sum())


def _mean(totals: Tensor, even: Tensor, n_tokens: int, n_texts: int) -> HeadStatistics:
    if not n_tokens:
        raise ValueError(
            "the texts hold no token beside [CLS] and [SEP]: there is nothing to average. Give "
            "texts with words."
        )
    return HeadStatistics((totals / n_tokens).float(), (even / n_tokens).float(), n_texts, n_tokens)


def patterns_of(tokens: Tensor, real: Tensor, wordpiece: WordPiece) -> Tensor:
    """Returns which token counts as which pattern for each token that looks.

    Args:
        tokens: (B, T) ids, on the CPU.
        real: (B, T) bool, False at padding.
        wordpiece: the vocabulary.

    Returns:
        (6, B, T, T) of 0 and 1; rows of [CLS], [SEP] and padding are 0.
    """
    is_cls, is_sep = tokens == wordpiece.cls_id, (tokens == wordpiece.sep_id) & real
    ordinary = real & ~is_cls & ~is_sep  # (B, T)
    place = torch.arange(tokens.shape[1])
    distance = place.unsqueeze(0) - place.unsqueeze(1)  # (T, T), > 0 to the right
    near = ordinary.unsqueeze(1)  # (B, 1, T), columns that are words
    word, kind = words_of(tokens, ordinary, wordpiece)  # (B, T), (B, T)
    same = (kind.unsqueeze(1) == kind.unsqueeze(2)) & (kind >= 0).unsqueeze(1)
    same &= (word.unsqueeze(1) != word.unsqueeze(2)) & (distance.abs() > 1)
    seen = [
        near & (distance == -1),
        near & (distance == 1),
        near & (distance == 0),
        is_cls.unsqueeze(1).expand_as(same),
        is_sep.unsqueeze(1).expand_as(same),
        same,
    ]
    return (torch.stack(seen) & ordinary.unsqueeze(2)).float()


def words_of(tokens: Tensor, ordinary: Tensor, wordpiece: WordPiece) -> tuple[Tensor, Tensor]:
    """Numbers the words of each text.

    Args:
        tokens: (B, T) ids.
        ordinary: (B, T) bool, False at special tokens and padding.
        wordpiece: the vocabulary; a piece that starts no word belongs to the word before.

    Returns:
        (B, T) the number of the word in its text, and (B, T) the number of its spelling: equal for
        equal words, -1 at special tokens and at words without a letter or digit.
    """
    word, kind = torch.full_like(tokens, -1), torch.full_like(tokens, -1)
    spellings: dict[str, int] = {}
    for row, (ids, is_word) in enumerate(zip(tokens.tolist(), ordinary.tolist(), strict=True)):
        groups: list[tuple[str, list[int]]] = []
        for place, (name, counts) in enumerate(zip(wordpiece.tokens(ids), is_word, strict=True)):
            if not counts:
                continue
            if is_continuation(name) and groups and groups[-1][1][-1] == place - 1:
                groups[-1] = (groups[-1][0] + name[2:], [*groups[-1][1], place])
            else:
                groups.append((name, [place]))
        for number, (spelling, places) in enumerate(groups):
            word[row, places] = number
            if any(character.isalnum() for character in spelling):
                kind[row, places] = spellings.setdefault(spelling, len(spellings))
    return word, kind


def segments_of(tokens: Tensor, sep: int) -> Tensor:
    """Returns (B, T) segments: 0 up to the first [SEP], then 1.

    >>> segments_of(torch.tensor([[1, 7, 2, 8, 2]]), 2).tolist()
    [[0, 0, 0, 1, 1]]
    """
    is_sep = (tokens == sep).long()
    return (is_sep.cumsum(dim=1) - is_sep).clamp(max=1)


def _is_one_of(tokens: Tensor, *ids: int) -> Tensor:
    """Returns where one of these ids stands."""
    return torch.isin(tokens, torch.tensor(ids))
