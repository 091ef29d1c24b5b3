"""Beam search: the most probable whole text, approximately, instead of the next best token.

Keeps the best few unfinished texts ("beams"), continues each by every token and keeps the best few
again. Score of a text of n tokens: sum of log p / n ** length_penalty (after Wu et al. 2016,
eq. 14, without its constant): 0 compares plain sums, which favors short texts, 1 means.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from gpt.context_window import Context
from gpt.gpt_model import GPT


@dataclass(frozen=True)
class Beam:
    """One continuation."""

    tokens: list[int]  # without the stop token
    log_probability: float  # sum over the tokens, the stop token included, in nats
    score: float  # what beams are ranked by


def beam_search(
    model: GPT,
    prompt: Sequence[int],
    max_new: int,
    beams: int = 4,
    length_penalty: float = 1.0,
    stop: Collection[int] = (),
    *,
    use_cache: bool = True,
) -> list[Beam]:
    """Searches for the continuation with the best score.

    It ends after ``max_new`` tokens, or when no unfinished text can still beat the best ``beams``
    finished ones.

    Args:
        model: the model.
        prompt: token ids, 1 to ``max_len``.
        max_new: most tokens of a continuation.
        beams: texts kept at each step; 1 is greedy choice.
        length_penalty: see above.
        stop: token ids that finish a text.
        use_cache: False is the slow reference.

    Returns:
        The best continuations, best first, at most ``beams``.

    Raises:
        ValueError: ``beams`` is less than 1; the prompt is empty, too long or has foreign ids.
    """
    if beams < 1:
        raise ValueError(f"beams={beams} keeps no text. Use 1 (greedy) or more, such as 4.")
    context = Context(model, [prompt], use_cache=use_cache)
    texts: list[list[int]] = [[]]
    totals = torch.zeros(1)  # (N,), sum of log p of each unfinished text
    finished: list[Beam] = []
    for length in range(1, max_new + 1):
        log_p = context.scores()[:, -1].float().cpu().log_softmax(dim=-1)  # (N, V)
        candidates = (totals[:, None] + log_p).flatten()  # (N V,)
        # Each unfinished text can finish in len(stop) ways, so this many hold `beams` that go on.
        best = candidates.topk(min(len(candidates), beams + len(texts) * len(stop)))
        survivors: list[tuple[int, int, float]] = []
        for total, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            row, token = divmod(index, log_p.shape[1])
            if token in stop:
                finished.append(Beam(texts[row], total, total / length**length_penalty))
            else:
                survivors.append((row, token, total))
            if len(survivors) == beams:
                break
        finished = sorted(finished, key=lambda beam: -beam.score)[:beams]
        if not survivors:
            return finished
        totals = torch.tensor([total for _, _, total in survivors])
        texts = [[*texts[row], token] for row, token, _ in survivors]
        # log p only falls. Its share per length is best at one end of the lengths still possible.
        ends = [(length + 1) ** length_penalty, max_new**length_penalty]
        hope = max(survivors[0][2] / end for end in ends)
        if len(finished) == beams and finished[-1].score >= hope:
            return finished
        context.select([row for row, _, _ in survivors])
        context.append([token for _, token, _ in survivors])
    unfinished = [
        Beam(text, total, total / len(text) ** length_penalty)
        for text, total in zip(texts, totals.tolist(), strict=True)
    ]
    return sorted(finished + unfinished, key=lambda beam: -beam.score)[:beams]
