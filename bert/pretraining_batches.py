"""Minibatches of a pre-training: drawn while training, or fixed once for the evaluation.

Every minibatch depends on the seed and its number alone, so a run's place in the data is one
number, and all processes of a run can draw the same minibatch and take their rows of it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bert.bert_data import (
    PairData,
    PretrainingBatch,
    Sequences,
    next_sentence_batch,
    single_batch,
)
from bert.masking import ALWAYS_MASK, BERT_REPLACEMENT, mask_tokens
from bert.wordpiece import WordPiece

Objective = Literal["mlm+nsp", "mlm"]
EVALUATION_RATE = 0.15  # masks of the evaluation, whatever those of the training
EVALUATION_SEED = 20181011  # of the masks and pairs of the evaluation
EVALUATION_TOKENS = 8192  # tokens scored at once


def hide(
    sequences: Sequences,
    pieces: WordPiece,
    rng: torch.Generator,
    rate: float,
    whole_word: bool = False,
    replace: tuple[float, float, float] = BERT_REPLACEMENT,
) -> PretrainingBatch:
    """Masks sequences; special tokens, ``[UNK]`` among them, are never chosen.

    Args:
        sequences: before masking.
        pieces: the vocabulary.
        rng: draws the masks.
        rate: share of the tokens that are chosen.
        whole_word: choose words instead of pieces.
        replace: see ``mask_tokens``.
    """
    inputs, labels = mask_tokens(
        sequences.tokens, pieces.special_tokens.values(), pieces.word_starts, rng,
        rate, whole_word, replace,
        vocab_size=pieces.vocab_size, mask_id=pieces.special_tokens["[MASK]"],
    )  # fmt: skip
    return PretrainingBatch(
        inputs, sequences.mask, sequences.segments, labels, sequences.next_labels
    )


class BatchSampler:
    """Draws minibatches without replacement, epoch by epoch.

    "mlm+nsp": an epoch uses every sentence that has a next one once as the beginning of A.
    "mlm": an epoch cuts the text at a new random offset into stretches as long as a sequence, moves
    the begin of each back to the begin of its sentence, and visits them in random order.
    """

    def __init__(
        self, data: PairData, pieces: WordPiece, *, objective: Objective, batch_size: int,
        max_len: int, seed: int, mask_rate: float = 0.15, whole_word: bool = False,
        replace: tuple[float, float, float] = BERT_REPLACEMENT,
    ) -> None:  # fmt: skip
        """Prepares the first epoch.

        Args:
            data: the training documents.
            pieces: their vocabulary.
            objective: with or without pairs.
            batch_size: sequences in a minibatch, B.
            max_len: tokens in a sequence, T.
            seed: same seed, same minibatches.
            mask_rate: share of the tokens that are chosen.
            whole_word: choose words instead of pieces.
            replace: see ``mask_tokens``.

        Raises:
            ValueError: there is too little text.
        """
        self.data, self.pieces, self.objective = data, pieces, objective
        self.batch_size, self.max_len, self.seed = batch_size, max_len, seed
        self.mask_rate, self.whole_word, self.replace = mask_rate, whole_word, replace
        if objective == "mlm+nsp":
            self.firsts = data.firsts_of_pairs()
            if not len(self.firsts):
                raise ValueError(
                    "next-sentence prediction needs documents of two sentences and more, and the "
                    "training text has none. Use another --dataset, or --objective mlm."
                )
        elif len(data.tokens) < 2 * max_len:
            raise ValueError(
                f"the training text has {len(data.tokens)} tokens, which is too short for "
                f"sequences of {max_len}: at least {2 * max_len} are needed. Use a longer text or "
                f"--max-len {max(8, len(data.tokens) // 2)}."
            )
        self.number = 0  # minibatches drawn; all of the sampler's state
        self.epoch, self.order = -1, torch.empty(0, dtype=torch.long)
        self._begin_epoch(0)

    @property
    def batches_per_epoch(self) -> int:
        """Whole minibatches of an epoch; the rest of it is left out."""
        return max(1, self._places // self.batch_size)

    @property
    def _places(self) -> int:
        """Where sequences can begin; of the objective "mlm" the fewest, whatever the offset."""
        if self.objective == "mlm+nsp":
            return len(self.firsts)
        return max(1, len(self.data.tokens) // (self.max_len - 2) - 2)

    def _begin_epoch(self, epoch: int) -> None:
        if epoch == self.epoch:
            return
        self.epoch = epoch
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        if self.objective == "mlm+nsp":
            begins = self.firsts
        else:
            offset = int(torch.randint(self.max_len - 2, (1,), generator=generator))
            begins = sentence_begins(self.data, self.max_len, offset)
        self.order = begins[torch.randperm(len(begins), generator=generator)]

    def next_batch(self) -> PretrainingBatch:
        """Returns the next minibatch."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_000_007 + self.number)
        self._begin_epoch(self.number // self.batches_per_epoch)
        if self._places < self.batch_size:  # a tiny text: some places come twice
            begins = self.order[torch.randint(len(self.order), (self.batch_size,), generator=rng)]
        else:
            start = self.number % self.batches_per_epoch * self.batch_size
            begins = self.order[start : start + self.batch_size]
        self.number += 1
        special = self.pieces.special_tokens
        if self.objective == "mlm+nsp":
            sequences = next_sentence_batch(self.data, begins, self.max_len, special, rng)
        else:
            sequences = single_batch(self.data, begins, self.max_len, special)
        return hide(sequences, self.pieces, rng, self.mask_rate, self.whole_word, self.replace)


def sentence_begins(data: PairData, max_len: int, offset: int = 0) -> Tensor:
    """Cuts the text into stretches of T - 2 tokens and moves each to the begin of its sentence.

    A sentence longer than half a stretch is entered in its middle.

    Args:
        data: documents.
        max_len: T.
        offset: tokens left out at the begin.

    Returns:
        Places in ``data.tokens``.
    """
    length = max_len - 2
    cuts = torch.arange(offset, max(offset, len(data.tokens) - length + 1), length)
    begins = data.starts[(torch.searchsorted(data.starts, cuts, right=True) - 1).clamp_min(0)]
    return torch.where(cuts - begins <= length // 2, begins.minimum(cuts), cuts)


def evaluation_batches(
    data: PairData, pieces: WordPiece, max_len: int, objective: Objective, limit: int = 0
) -> list[PretrainingBatch]:
    """Returns a split with masks, and pairs, that are the same for every model.

    15 % of the tokens are hidden, all behind ``[MASK]``: a model is asked only for what it cannot
    see, however it was trained. A model that has read pairs is asked in pairs, another one in full
    sequences, because a form that is new to a model costs it more than a nat. So losses can be
    compared within an objective; across, compare how far each is below its unigram loss.

    Args:
        data: the split.
        pieces: its vocabulary.
        max_len: T.
        objective: "mlm+nsp" gives a pair for each sentence that has a next one, "mlm" the whole
            split in full sequences.
        limit: the most sequences, spread evenly over the split; 0 means all.

    Raises:
        ValueError: the split is shorter than a sequence, or has no pair.
    """
    rng = torch.Generator().manual_seed(EVALUATION_SEED)
    special = pieces.special_tokens
    if objective == "mlm+nsp":
        begins = data.firsts_of_pairs()
    else:
        begins = sentence_begins(data, max_len)
    if not len(begins):
        raise ValueError(
            f"a held-out split has {len(data.tokens)} tokens, too few for one sequence of "
            f"{max_len}, or no document of two sentences. Use a longer text."
        )
    if limit and len(begins) > limit:
        begins = begins[torch.linspace(0, len(begins) - 1, limit).round().long()]
    if objective == "mlm+nsp":
        sequences = next_sentence_batch(data, begins, max_len, special, rng)
    else:
        sequences = single_batch(data, begins, max_len, special)
    batch = hide(sequences, pieces, rng, EVALUATION_RATE, replace=ALWAYS_MASK)
    rows = max(1, EVALUATION_TOKENS // batch.tokens.shape[1])
    return [batch.rows(slice(i, i + rows)) for i in range(0, len(batch.tokens), rows)]
