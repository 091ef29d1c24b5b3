"""Speculative decoding: a small model proposes, the large one checks several tokens in one pass.

Reading the weights costs the large model the same for one token as for five, so checking is nearly
free. The rule that accepts or corrects (Leviathan et al. 2023, algorithm 1; Chen et al. 2023) makes
the text exactly a draw from the large model alone:

* a proposal x, drawn from the draft's q, is accepted with probability min(1, p(x) / q(x));
* the first one refused is replaced by a draw from max(0, p - q), scaled to sum 1;
* if all are accepted, the pass has also scored one token more, which is drawn from p.

Why: x comes out with q(x) min(1, p(x)/q(x)) + (1 - sum_y min(p(y), q(y))) max(0, p(x) - q(x)) / Z,
where Z = 1 - sum_y min(p(y), q(y)); that is min(p, q) + max(0, p - q) = p.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.context_window import Context
from gpt.gpt_model import GPT
from gpt.sampling import GREEDY, Dice, Sampling, distribution, draw


@dataclass(frozen=True)
class Speculation:
    """A text and how it came about."""

    tokens: list[int]  # the new tokens, without the stop token
    proposed: int  # tokens the draft proposed
    accepted: int  # of them, how many the target took
    passes: int  # passes of the target

    @property
    def acceptance(self) -> float:
        """Share of the proposals that were accepted, 0 to 1."""
        return self.accepted / max(1, self.proposed)


def speculate(
    target: GPT,
    draft: GPT,
    prompt: Sequence[int],
    max_new: int,
    sampling: Sampling = GREEDY,
    *,
    seed: int = 0,
    stop: Collection[int] = (),
    draft_tokens: int = 4,
) -> Speculation:
    """Continues one prompt; the text is distributed as the target's own.

    Both models follow the window's rule. So that neither drops its half while tokens are on trial,
    fewer are proposed near the end of a window.

    Args:
        target: the model whose text is wanted.
        draft: a faster model with the same vocabulary.
        prompt: token ids, 1 to the shorter ``max_len``.
        max_new: most tokens to write.
        sampling: the strategy; both models follow it.
        seed: the same seed writes the same text (another one than without a draft).
        stop: token ids that end the text.
        draft_tokens: most tokens proposed at once.

    Raises:
        ValueError: the vocabularies differ, or as ``stream_batch``.
    """
    if target.config.vocab_size != draft.config.vocab_size:
        raise ValueError(
            f"the draft has {draft.config.vocab_size} tokens and the target "
            f"{target.config.vocab_size}: their ids mean different text. "
            "Use a draft trained with the target's tokenizer."
        )
    if draft_tokens < 1:
        raise ValueError(f"draft_tokens={draft_tokens} proposes nothing. Use 1 or more.")
    trial = _Trial(target, draft, prompt, sampling, seed)
    written: list[int] = []
    while len(written) < max_new:
        for token in trial.round(min(draft_tokens, max_new - len(written) - 1)):
            if token in stop:
                return trial.result(written)
            written.append(token)
    return trial.result(written)


class _Trial:
    """Both models' contexts, and one round of proposing and checking."""

    def __init__(
        self, target: GPT, draft: GPT, prompt: Sequence[int], sampling: Sampling, seed: int
    ) -> None:
        self.target, self.draft = Context(target, [prompt]), Context(draft, [prompt])
        self.sampling, self.dice = sampling, Dice(seed, 1)
        self.proposed = self.accepted = self.passes = 0

    def round(self, most: int) -> list[int]:
        """Returns 1 to ``most`` + 1 new tokens, which both contexts then hold."""
        count = min(most, self.target.room(), self.draft.room())
        tokens, q = self._propose(count)
        logits = self.target.scores(last=count + 1)[0]  # (count + 1, V)
        p = self._distribution(logits, count + 1)  # (count + 1, V)
        self.passes += 1
        self.proposed += count
        for i, token in enumerate(tokens):
            if float(self.dice.roll([0])) * q[i][token] < p[i][token]:
                continue
            missing = (p[i] - q[i]).clamp_min(0.0)
            for context in (self.target, self.draft):
                context.forget(count - i)
            return [*tokens[:i], self._finish(missing if missing.any() else p[i], i)]
        return [*tokens, self._finish(p[count], count)]

    def _propose(self, count: int) -> tuple[list[int], list[Tensor]]:
        """Returns the draft's next tokens and the distribution each was drawn from, (V,)."""
        tokens: list[int] = []
        q: list[Tensor] = []
        for _ in range(count):
            q.append(self._distribution(self.draft.scores()[0], 1)[0])
            tokens.append(self._draw(q[-1]))
            for context in (self.target, self.draft):
                context.append(tokens[-1:])
        return tokens, q

    def _finish(self, probabilities: Tensor, accepted: int) -> int:
        """Draws the target's own token, which ends the round."""
        self.accepted += accepted
        token = self._draw(probabilities)
        for context in (self.target, self.draft):
            context.append([token])
        return token

    def _draw(self, probabilities: Tensor) -> int:
        return int(draw(probabilities[None], self.dice.roll([0])))

    def _distribution(self, logits: Tensor, count: int) -> Tensor:
        """Turns logits behind each of the last ``count`` tokens into probabilities, (count, V)."""
        logits = logits.to("cpu", torch.float32)
        seen = None
        if self.sampling.repetition_penalty != 1.0:
            row = self.target.rows[0]
            seen = torch.zeros(logits.shape, dtype=torch.bool)
            for i in range(count):
                seen[i, torch.tensor(row[: len(row) - count + 1 + i])] = True
        return distribution(logits, self.sampling, seen)

    def result(self, written: list[int]) -> Speculation:
        """Returns the text with the counts so far."""
        return Speculation(written, self.proposed, self.accepted, self.passes)
