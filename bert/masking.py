"""Masked language modeling: which tokens are hidden, and what stands in their place.

Devlin et al. 2019, section 3.1: 15 % of the tokens are chosen; of these 80 % become ``[MASK]``,
10 % a random token and 10 % stay, because ``[MASK]`` never occurs in the text of a later task. The
masks are dynamic: drawn anew each time a text is read (Liu et al. 2019, section 4.1), where the
paper drew ten fixed copies. Whole-word masking (a later release of the paper's code) chooses words
instead of pieces; here one draw also decides for the whole word between 80, 10 and 10.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

IGNORED = -100
"""Label of a position that is not predicted; ``cross_entropy`` skips it."""

BERT_REPLACEMENT = (0.8, 0.1, 0.1)
"""Shares of ``[MASK]``, random token and unchanged among the chosen (Devlin et al. 2019)."""

ALWAYS_MASK = (1.0, 0.0, 0.0)


def mask_tokens(
    tokens: Tensor,
    special: Tensor | Collection[int],
    word_starts: Tensor,
    rng: torch.Generator,
    rate: float = 0.15,
    whole_word: bool = False,
    replace: tuple[float, float, float] = BERT_REPLACEMENT,
    *,
    vocab_size: int,
    mask_id: int,
) -> tuple[Tensor, Tensor]:
    """Chooses tokens to predict and hides them.

    Every token (or word) is chosen by a coin of its own, so the number of masks varies; the paper's
    code fixes it at 15 % of the sequence.

    Args:
        tokens: (B, T), token ids, on the CPU.
        special: (B, T) boolean, True where nothing may be chosen; or the ids of such tokens.
        word_starts: (V,), boolean, False for a piece that continues a word ("##ing").
        rng: draws everything.
        rate: probability of being chosen.
        whole_word: choose all pieces of a word together.
        replace: shares of ``[MASK]``, random token, unchanged; they add up to 1. A random token is
            any of the vocabulary, as in the paper's code.
        vocab_size: V.
        mask_id: id of ``[MASK]``.

    Returns:
        Inputs (B, T), and labels (B, T): the true id where a token was chosen, -100 elsewhere.
        At least one token is chosen, if any may be: a minibatch without one would have no loss.

    Raises:
        ValueError: the rate is not between 0 and 1, or the shares do not add up to 1.
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(
            f"mask_rate={rate} is no share of the tokens: with 0 nothing is predicted, with 1 "
            "nothing is left to predict from. Use 0.15 as in the paper, or up to about 0.4."
        )
    if min(replace) < 0 or abs(sum(replace) - 1.0) > 1e-6:
        raise ValueError(
            f"replace={replace} are no three shares of a whole: they must not be negative and add "
            "up to 1. Use (0.8, 0.1, 0.1) as in the paper."
        )
    if not isinstance(special, Tensor):
        special = torch.isin(tokens, torch.tensor(sorted(special), dtype=tokens.dtype))
    if whole_word:  # all pieces of a word look at the draw of the word's number in the row
        unit = (word_starts[tokens] | special).long().cumsum(1) - 1  # (B, T)
        unit = unit.clamp_min(0)  # a row may begin inside a word
    else:
        unit = torch.arange(tokens.shape[1]).expand_as(tokens)  # (B, T)
    chosen = torch.rand(tokens.shape, generator=rng).gather(1, unit) < rate
    chosen &= ~special  # (B, T)
    kind = torch.rand(tokens.shape, generator=rng).gather(1, unit)  # decides between the three
    random_ids = torch.randint(vocab_size, tokens.shape, generator=rng, dtype=tokens.dtype)
    if not chosen.any() and not special.all():
        row, column = (~special).nonzero()[0].tolist()
        chosen[row] = (unit[row] == unit[row, column]) & ~special[row]

    masked, drawn = replace[0], replace[0] + replace[1]
    inputs = torch.where(chosen & (kind < masked), mask_id, tokens)
    inputs = torch.where(chosen & (kind >= masked) & (kind < drawn), random_ids, inputs)
    return inputs, torch.where(chosen, tokens, IGNORED)
