"""Train a Transformer to translate: the loop, its evaluation by loss and BLEU, resume, test.

``python transformer/train_transformer.py --preset standard`` trains English to German;
``--dataset grammar``, ``multi30k-de-en``, ``tatoeba`` or ``SOURCE.txt,TARGET.txt`` change what is
translated and nothing else. The same command with ``--resume`` goes on where a stopped or killed
run left off, bit for bit (CPU, same threads, without a time budget).
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from transformer.batching import Batch, batches_of
from transformer.decoding import translate
from transformer.label_smoothing import projected_loss
from transformer.scoring import LANGUAGES, Scores, score
from transformer.train_config import TrainConfig, build_parser, config_from_argv
from transformer.train_state import TrainState
from transformer.transformer_config import parameter_count
from transformer.transformer_model import Transformer
from transformer.translation_data import TranslationData, load_translation_data
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import InterruptGuard, check_loss, run_folder

__all__ = ["build_parser", "evaluate", "main", "score_split", "train"]

EVALUATION_TOKENS = 8192  # source and target tokens scored at once
TEST_BEAMS = 4  # as in the paper, section 6.1


@dataclass(frozen=True)
class TrainResult:
    """What a training run returns."""

    model: Transformer  # with the averaged weights
    folder: Path  # outputs/transformer/<run>
    validation_loss: float  # nats per target token, whole validation split, not smoothed
    validation_bleu: float  # greedy, the first sentences of the validation split
    steps: int  # updates done
    seconds: float  # spent in training steps
    test: Scores | None = None  # beam search on the test split, if it was asked for


def batch_loss(model: Transformer, batch: Batch, smoothing: float) -> Tensor:
    """Returns the mean loss over the batch's real target tokens.

    Args:
        model: the model.
        batch: on the model's device.
        smoothing: 0 gives the plain cross-entropy.
    """
    memory = model.encode(batch.source, batch.source_mask)  # (B, S, D)
    hidden = model.decode(batch.target_in, memory, batch.source_mask)  # (B, T, D)
    return projected_loss(hidden, model.head.weight, batch.labels, smoothing)


@torch.no_grad()
def evaluate(model: Transformer, data: TranslationData, split: str, device: torch.device) -> float:
    """Returns the mean cross-entropy over a whole split, in nats per target token.

    Each token is scored given the source and the reference's tokens before it; label smoothing is
    left out, so that models trained with and without it can be compared.
    """
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    budget = max(EVALUATION_TOKENS, 2 * model.config.max_len)  # room for the longest pair
    for batch in batches_of(data, split, budget):
        loss = batch_loss(model, batch.to(device), 0.0)
        total += loss.item() * batch.n_target_tokens
        count += batch.n_target_tokens
    model.train(was_training)
    return total / count


def score_split(
    model: Transformer, data: TranslationData, split: str, beams: int = 1, limit: int | None = None
) -> tuple[Scores, list[str]]:
    """Translates the first ``limit`` sentences of a split (None: all) and compares them.

    Returns:
        The scores, and the translations in the order of the split.
    """
    was_training = model.training
    model.eval()
    pairs = data.pairs[split][:limit]
    translations = translate(model, data.tokenizer, [source for source, _ in pairs], beams=beams)
    model.train(was_training)
    return score(translations, [target for _, target in pairs], data.target_language), translations


def train(
    config: TrainConfig,
    data: TranslationData,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult:
    """Trains a Transformer and returns it.

    Args:
        config: what to do; ``config.model.vocab_size`` is taken from the data.
        data: the sentence pairs.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, or the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    config = replace(config, model=replace(config.model, vocab_size=data.tokenizer.vocab_size))
    with InterruptGuard() as guard:
        state = TrainState(config, data, target)
        last = folder / "checkpoints" / "last.pt"
        if resume:
            state.restore(last)
        reporter = _Reporter(state, folder, resume)
        state.model.train()

        while state.share_done < 1.0:
            started = time.perf_counter()
            rate = state.set_learning_rate()
            batch = state.sampler.next_batch().to(target)
            with autocast(config.precision, target):
                loss = batch_loss(state.model, batch, config.label_smoothing)
            loss.backward()
            if config.clip:
                nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
            state.optimizer.step()
            state.optimizer.zero_grad()
            state.average.after_step()
            state.step += 1

            train_loss = loss.item()
            check_loss(train_loss, state.step, last)
            state.add_loss(train_loss)
            state.tokens += batch.n_target_tokens
            state.seconds += time.perf_counter() - started
            reporter.show_step(train_loss, rate)

            finished = state.share_done >= 1.0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or guard.requested or state.step % config.checkpoint_every == 0:
                state.save(last)
            if guard.requested:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        return reporter.result()


class _Reporter(RunReporter):
    """What the loop tells and keeps; the best checkpoint is the one of the highest BLEU."""

    def __init__(self, state: TrainState, folder: Path, resume: bool) -> None:
        self.state, data = state, state.data
        self.validation_bleu = float("nan")
        languages = [LANGUAGES.get(code, code) for code in
                     (data.source_language, data.target_language)]  # fmt: skip
        super().__init__(
            state, folder, config_to_dict(state.config), resume=resume,
            headline=f"{parameter_count(state.config.model):,} parameters; training on "
            f"{state.device}, {len(data.pairs['train']):,} sentence pairs, "
            f"{' to '.join(languages)}",
        )  # fmt: skip

    def show_step(self, loss: float, rate: float) -> None:
        """Moves the progress bar: loss, learning rate, target tokens a second."""
        speed = self.state.tokens / max(self.state.seconds, 1e-9)
        self.move_bar(loss=f"{loss:.3f}", lr=f"{rate:.1e}", tokens_per_s=f"{speed:,.0f}")

    def evaluate(self) -> None:
        """Scores the averaged weights, prints one line and one sample, keeps the best."""
        state = self.state
        train_loss = state.take_mean_loss()
        state.average.at_evaluation()
        with state.average.applied():
            loss = evaluate(state.model, state.data, "validation", state.device)
            limit = max(1, state.config.bleu_sentences)  # one for the sample, in any case
            scores, translations = score_split(state.model, state.data, "validation", limit=limit)
        bleu = scores.bleu if state.config.bleu_sentences else float("nan")
        source, reference = state.data.pairs["validation"][0]
        sample = zip(("source", "reference", "ours"), (source, reference, translations[0]),
                     strict=True)  # fmt: skip
        measured = {"bleu": bleu, "exact_match": scores.exact_match} if bleu == bleu else {}
        self.show_evaluation(
            train_loss, loss, f"BLEU {bleu:5.2f}  exact {scores.exact_match:.1%}",
            "\n".join(f"    {name + ':':<10} {' '.join(text.split())[:120]}"
                      for name, text in sample),
            {"tokens": state.tokens, **measured},
        )  # fmt: skip
        self.validation_bleu = bleu
        if state.is_best(bleu, loss):
            state.save(self.folder / "checkpoints" / "best.pt")

    def result(self) -> TrainResult:
        """Closes the bar and returns the model, with its averaged weights."""
        self.close()
        state = self.state
        state.average.apply()
        return TrainResult(
            state.model.eval(), self.folder, self.validation_loss, self.validation_bleu,
            state.step, state.seconds,
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> TrainResult:
    """Trains as the command line says, scores the test split; returns the result."""
    config, args = config_from_argv(argv)
    folder = run_folder("transformer", args.name or args.preset)
    data = load_translation_data(config.dataset, config.bpe_tokens, config.model.max_len)
    result = train(config, data, folder, resume=args.resume, device=args.device)
    if data.pairs["test"]:
        scores, _ = score_split(result.model, data, "test", beams=TEST_BEAMS)
        print(f"test, beam {TEST_BEAMS}: {scores}")
        result = replace(result, test=scores)
    return result


if __name__ == "__main__":
    run_entry(main)
