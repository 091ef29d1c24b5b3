"""One vector for a sentence, and the sentences whose vectors are nearest.

BERT gives a vector to every token. Their mean over the real tokens ([CLS] and [SEP] included) is
the usual vector of the sentence; the vector of [CLS] alone means little until it is fine-tuned
(Reimers & Gurevych 2019, Sentence-BERT, table 1). Vectors have length 1, so that the dot product of
two is the cosine of their angle.

All vectors of a BERT that was only pre-trained point in nearly one direction: unlike sentences have
cosines of 0.8 too. Taking away the mean of all vectors (Mu & Viswanath 2018, section 2) leaves what
is different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bert.bert_heads import mean_pool
from bert.length_batches import (
    TOKEN_BUDGET,
    device_of,
    encode_texts,
    encoder_of,
    evaluating,
    length_batches,
)
from bert.wordpiece import WordPiece

Pooling = Literal["mean", "cls"]


class Neighbor(NamedTuple):
    """A sentence near a query."""

    text: str
    similarity: float  # cosine, -1 to 1
    place: int  # its number in the collection, from 0


def embed_sentences(
    model: nn.Module,
    wordpiece: WordPiece,
    texts: Sequence[str],
    pooling: Pooling = "mean",
    budget: int = TOKEN_BUDGET,
) -> Tensor:
    """Returns one vector of length 1 for every text.

    Args:
        model: a BertModel or a model with any head on one; its mode is left as it was.
        wordpiece: the model's.
        texts: N of them; of one longer than ``max_len`` the end is left out, which is said.
        pooling: "mean" of all tokens that are no padding, or "cls": the first one's vector.
        budget: padded tokens computed at once; texts of similar length go together.

    Returns:
        (N, D) on the CPU, in the order of ``texts``.

    Raises:
        ValueError: no text, an empty one, or an unknown pooling.
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling={pooling!r} is unknown. Use one of: mean, cls.")
    if not texts:
        raise ValueError("there are 0 texts to make vectors of. Give at least one.")
    encoder = encoder_of(model)
    sequences = encode_texts(wordpiece, texts, encoder.config.max_len, "to make a vector of")
    vectors = torch.empty(len(texts), encoder.config.d_model)
    with evaluating(encoder):
        for batch in length_batches(sequences, wordpiece.pad_id, budget, device_of(encoder)):
            hidden = encoder.hidden(batch.tokens, batch.mask).float()  # (B, T, D)
            pooled = hidden[:, 0] if pooling == "cls" else mean_pool(hidden, batch.mask)
            vectors[batch.rows] = F.normalize(pooled, dim=-1).cpu()  # (B, D)
    return vectors


def nearest(vectors: Tensor, queries: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """Finds the vectors with the greatest cosine.

    Args:
        vectors: (N, D), of length 1.
        queries: (M, D), of length 1.
        k: how many for each query; at most N are found.

    Returns:
        (M, k) places in ``vectors``, the nearest first, and (M, k) their cosines.
    """
    cosines, places = (queries @ vectors.T).topk(min(k, len(vectors)), dim=-1)
    return places, cosines


class SentenceIndex:
    """A collection of sentences that can be asked for the nearest ones."""

    def __init__(
        self,
        model: nn.Module,
        wordpiece: WordPiece,
        texts: Sequence[str],
        pooling: Pooling = "mean",
        center: bool = False,
    ) -> None:
        """Computes the vector of every sentence.

        Args:
            model: as in `embed_sentences`.
            wordpiece: the model's.
            texts: the collection, N sentences.
            pooling: as in `embed_sentences`.
            center: take the collection's mean vector away from every vector.
        """
        self.model, self.wordpiece, self.texts = model, wordpiece, list(texts)
        self.pooling, self.copies = pooling, Counter(self.texts)
        vectors = embed_sentences(model, wordpiece, self.texts, pooling)  # (N, D)
        self.origin = vectors.mean(dim=0) if center else torch.zeros(vectors.shape[1])  # (D,)
        self.vectors = F.normalize(vectors - self.origin, dim=-1)

    def nearest(self, queries: Sequence[str], k: int = 5) -> list[list[Neighbor]]:
        """Returns the k sentences nearest to each query, the nearest first.

        A sentence of the collection that is the query, letter for letter, is left out.
        """
        if k < 1:
            raise ValueError(f"k={k} asks for no sentence. Use 1 or more.")
        vectors = embed_sentences(self.model, self.wordpiece, queries, self.pooling)  # (M, D)
        vectors = F.normalize(vectors - self.origin, dim=-1)
        known = [self.copies[query] for query in queries]  # how often each is in the collection
        places, cosines = nearest(self.vectors, vectors, k + max(known, default=0))
        found = []
        for query, row, values in zip(queries, places.tolist(), cosines.tolist(), strict=True):
            others = [
                Neighbor(self.texts[place], cosine, place)
                for place, cosine in zip(row, values, strict=True)
                if self.texts[place] != query
            ]
            found.append(others[:k])
        return found
