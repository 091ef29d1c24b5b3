"""Can a person say in a word what a unit of a model does? A measure of it that can fail.

A unit is anything with a number at every token: a feature of an autoencoder, a neuron, a direction.
Its explanation is one of four short sentences ("the token before is ' of'"), chosen on one text by
what its strongest 20 places have in common. The sentence is then tested on another text: do the
strongest 20 places there have it too? The same is asked of random directions, so that one sees what
is worth nothing, and of 20 places among the strongest 100, because the very strongest flatter
(Bolukbasi et al. 2021).

What it cannot tell: whether the unit is strong *wherever* the sentence holds, and whether it
matters to the model.

Shapes: windows B, length T, units M.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutorial_kit.plotting import token_label
from tutorial_kit.tokenizers import Tokenizer, token_names

Unit = Callable[[Tensor], Tensor]
"""Tokens (B, T) -> activations (B, T, M), of which those above zero count."""

STRONGEST = 20  # places that are looked at, each in another window
WIDER = 100  # among which as many are looked at the second time
HITS = 0.8  # share of them that must have the label
RARE = 0.1  # share of all places that may have it, or it says nothing
CHUNK = 64  # windows computed at once
KINDS = ("word with a space before", "letters", "number", "blank", "other")
SENTENCES = {
    "this": "it is {}",
    "before": "before it is {}",
    "next": "after it comes {}",
    "kind": "it is of the kind {}",
}


def kinds_of_tokens(tokenizer: Tokenizer) -> Tensor:
    """Returns which of `KINDS` each token of the vocabulary is, (V,)."""

    def kind(name: str) -> int:
        bare = name.strip()
        if not bare:
            return 3
        if bare.isalpha():
            return 0 if name[0] == " " else 1
        return 2 if bare.isdigit() else 4

    names = token_names(tokenizer, range(tokenizer.vocab_size))
    return torch.tensor([kind(name) for name in names])


def labels_of(text: Tensor, kinds: Tensor) -> dict[str, Tensor]:
    """Returns what can be said of each place: the labels of `SENTENCES`.

    Args:
        text: (B, T + 2): one more token at each end than there are places.
        kinds: (V,), from ``kinds_of_tokens``.

    Returns:
        Four tensors of numbers, (B, T).
    """
    this = text[:, 1:-1]
    return {"this": this, "before": text[:, :-2], "next": text[:, 2:], "kind": kinds[this]}


@torch.no_grad()
def strongest_places(unit: Unit, tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Finds where each unit is strongest, at most once a window, or one phrase would fill the list.

    The first token of a window, which has no context, is left out.

    Args:
        unit: M units.
        tokens: (B, T + 1).
        count: places wanted.

    Returns:
        Places in the flattened (B, T) and the activations there, (count, M), strongest first.

    Raises:
        ValueError: there are fewer windows than places.
    """
    if len(tokens) < count:
        raise ValueError(
            f"{len(tokens)} windows cannot show {count} places, each in another window. "
            "Read more text."
        )
    values, places = zip(
        *(unit(part)[:, 1:].max(dim=1) for part in tokens.split(CHUNK)), strict=True
    )
    top = torch.cat(values).topk(count, dim=0)  # (count, M): of the windows
    inside = torch.cat(places).gather(0, top.indices)  # (count, M): place in the window
    return top.indices * (tokens.shape[1] - 1) + inside, top.values


def explain(places: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Chooses for each unit the sentence that its places share most, above what all places share.

    Args:
        places: (count, M), from ``strongest_places``.
        labels: (B, T) each, from ``labels_of``.

    Returns:
        Which of the sentences, (M,), and its label, (M,).
    """
    shared, gains = [], []
    for label in labels.values():
        found = label.flatten()[places]  # (count, M)
        common = found.mode(dim=0).values  # (M,)
        gains.append((found == common).float().mean(dim=0) - base_rate(label, common))
        shared.append(common)
    chosen = torch.stack(gains).argmax(dim=0)  # (M,)
    return chosen, torch.stack(shared).gather(0, chosen[None])[0]


def base_rate(label: Tensor, wanted: Tensor) -> Tensor:
    """Returns the share of all places whose label is the wanted one, (M,)."""
    counts = label.flatten().bincount(minlength=int(wanted.max()) + 1)
    return counts[wanted] / label.numel()


def check(
    places: Tensor, labels: Mapping[str, Tensor], chosen: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Tests explanations on another text.

    Args:
        places: (count, M), the strongest places of that text.
        labels: of that text.
        chosen: (M,), from ``explain``.
        wanted: (M,), from ``explain``.

    Returns:
        (M,), share of the places that have the label, and (M,), True where that makes the unit
        readable: at least `HITS`, of a label that at most `RARE` of all places have.
    """
    hits, rates = [], []
    for label in labels.values():
        hits.append((label.flatten()[places] == wanted).float().mean(dim=0))
        rates.append(base_rate(label, wanted))
    hit = torch.stack(hits).gather(0, chosen[None])[0]
    rate = torch.stack(rates).gather(0, chosen[None])[0]
    return hit, (hit >= HITS) & (rate <= RARE)


def readable_shares(
    units: Mapping[str, Unit], texts: Sequence[Tensor], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Explains units on one text and tests the explanations on another.

    Args:
        units: name of a group -> its units.
        texts: two, (B, T + 2) each: to explain, and to test.
        tokenizer: names the tokens.

    Returns:
        "shares": group -> sentence -> % of the group's living units that are readable by it
        ("readable": by any; "wider": by any, with places among the strongest `WIDER`); "examples":
        group -> some readable units, in words.
    """
    kinds = kinds_of_tokens(tokenizer)
    labels = [labels_of(text, kinds) for text in texts]
    among = max(STRONGEST, min(WIDER, *map(len, texts)))
    shares: dict[str, dict[str, float]] = {}
    examples: dict[str, list[str]] = {}
    for group, unit in units.items():
        top = [strongest_places(unit, text[:, :-1], among) for text in texts]
        wider, living, *_ = _read(top, labels, among // STRONGEST)
        shares[group] = {"wider": _percent(wider, living)}
        readable, living, chosen, wanted, hit = _read(top, labels, 1)
        shares[group]["readable"] = _percent(readable, living)
        for number, name in enumerate(SENTENCES):
            shares[group][name] = _percent(readable & (chosen == number), living)
        examples[group] = _in_words(readable, chosen, wanted, hit, tokenizer)
    return {"shares": shares, "examples": examples}


def _read(
    top: Sequence[tuple[Tensor, Tensor]], labels: Sequence[Mapping[str, Tensor]], step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Explains and tests with every ``step``-th of the strongest places.

    Returns:
        Five of shape (M,): readable, living, sentence, its label, share of places that have it.
    """
    some = slice(0, step * STRONGEST, step)
    (seen, seen_values), (new, new_values) = ((p[some], v[some]) for p, v in top)
    chosen, wanted = explain(seen, labels[0])
    hit, readable = check(new, labels[1], chosen, wanted)
    living = (seen_values > 0).all(dim=0) & (new_values > 0).all(dim=0)
    return readable & living, living, chosen, wanted, hit


def _percent(part: Tensor, whole: Tensor) -> float:
    return 100 * int(part.sum()) / max(1, int(whole.sum()))


def _in_words(
    readable: Tensor, chosen: Tensor, wanted: Tensor, hit: Tensor, tokenizer: Tokenizer
) -> list[str]:
    """Returns up to three readable units of each sentence, in words."""
    lines = []
    for number, (name, sentence) in enumerate(SENTENCES.items()):
        for unit in (readable & (chosen == number)).nonzero()[:3, 0].tolist():
            value = int(wanted[unit])
            what = (
                KINDS[value]
                if name == "kind"
                else repr(token_label(token_names(tokenizer, [value])[0], 12))
            )
            hits = f"{hit[unit] * STRONGEST:.0f} of {STRONGEST}"
            lines.append(f"{unit}: {sentence.format(what)} ({hits})")
    return lines
