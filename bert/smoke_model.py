"""A tiny BERT that knows nothing, for tests and ``--preset smoke``: what it does takes no time."""

from __future__ import annotations

import torch

from bert.bert_config import BertConfig
from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from bert.wordpiece import WordPiece, train_wordpiece

SENTENCES = (
    "Returns the number of elements in the array.",
    "Compute the inverse of a square matrix.",
    "The matrix must be square, and the array must not be empty.",
    "Open a file and return a stream of bytes.",
    "The bytes of the stream are decoded as text.",
    "Draw a line through the points of the plot.",
)
"""English that the vocabulary is made from."""


def untrained_model(seed: int = 0, max_len: int = 64) -> tuple[BertForPreTraining, WordPiece]:
    """Returns a model of two layers with fresh weights, the same for the same seed."""
    wordpiece = train_wordpiece(SENTENCES, 120)
    config = BertConfig(
        wordpiece.vocab_size, max_len=max_len, d_model=32, n_heads=4, n_layers=2, d_ff=64
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForPreTraining(BertModel(config)).eval(), wordpiece
