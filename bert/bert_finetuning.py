"""Fine-tune BERT: a pre-trained encoder learns a task from a few labels, beside two rivals.

``python bert/bert_finetuning.py --run NAME --task library --labels 200`` fine-tunes a pre-training
run and prints what it scores on the test split next to the same model from scratch and to TF-IDF
with logistic regression, all with the same labels. ``--task`` also takes sst2, polarity, code
(tagging), parameters (spans), or your file with one ``text<TAB>label`` a line.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bert.bert_config import BertConfig
from bert.bert_heads import BertForSequenceClassification
from bert.bert_model import BertModel
from bert.finetuning_baselines import tfidf_baseline
from bert.finetuning_config import FinetuneConfig, build_parser, config_from_argv
from bert.finetuning_data import Encoded, LabeledBatch, encode_examples
from bert.finetuning_loop import Outcome, classification_loss, predictions, train_head
from bert.finetuning_recipe import check_vocabulary, copy_encoder, from_scratch
from bert.finetuning_tasks import TextTask, library_task, load_task
from bert.masking import ALWAYS_MASK, mask_tokens
from bert.open_model import open_pretrained
from bert.saved_classifier import save_finetuned
from bert.span_task import SpanTask, fine_tune_span, parameter_span_task
from bert.tagging_task import HeadResult, TaggingTask, code_tag_task, fine_tune_tagging
from bert.wordpiece import WordPiece, train_wordpiece
from tutorial_kit.compute import prepare_device
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

__all__ = ["FinetuneResult", "build_parser", "fine_tune", "from_scratch", "main"]

SMOKE_LIBRARIES = ("networkx", "matplotlib")  # read in a second
TEXTS = Texts(Path(__file__).parent)


@dataclass(frozen=True)
class FinetuneResult:
    """A fine-tuned model and how good it is; accuracies from 0 to 1."""

    model: BertForSequenceClassification  # in evaluation mode, on the device
    labels: tuple[str, ...]
    test_accuracy: float  # whole test split
    validation_accuracy: float  # as many examples as there were labels
    train_accuracy: float
    outcome: Outcome  # epochs, updates, history
    n_truncated: int  # texts that lost their end, of n_texts
    n_texts: int  # of the three splits, the labeled ones only

    @property
    def seconds(self) -> float:
        """Time spent in updates, in seconds."""
        return self.outcome.seconds


def fine_tune(
    bert: BertModel,
    wordpiece: WordPiece,
    task: TextTask,
    config: FinetuneConfig,
    *,
    scratch: bool = False,
    device: str = "auto",
) -> FinetuneResult:
    """Fine-tunes a copy of an encoder to classify texts; prints nothing.

    Args:
        bert: where to start; stays as it is.
        wordpiece: its vocabulary.
        task: the whole task; ``config.labels`` of its training examples are drawn by the seed.
        config: the recipe.
        scratch: the encoder has read nothing, so it learns at ``config.scratch_lr``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the vocabulary is not the encoder's, or the task has too few examples.
    """
    check_vocabulary(bert, wordpiece)
    task = task.few(config.labels, config.seed)
    target = prepare_device(device, config.threads)
    max_len = min(config.max_len, bert.config.max_len)
    splits: dict[str, list[Encoded]] = {}
    n_truncated = 0
    for split in ("train", "validation", "test"):
        examples, n_cut = encode_examples(wordpiece, getattr(task, split), task.labels, max_len)
        splits[split], n_truncated = examples, n_truncated + n_cut

    torch.manual_seed(config.seed)
    encoder = copy_encoder(bert, config.dropout)
    model = BertForSequenceClassification(encoder, len(task.labels), config.pooling).to(target)

    def accuracy(split: str) -> float:
        answers = predictions(model, splits[split], wordpiece.pad_id, target)
        pairs = zip(answers, splits[split], strict=True)
        return sum(answer == example.target for answer, example in pairs) / len(splits[split])

    outcome = train_head(
        model, splits["train"], classification_loss, config, wordpiece.pad_id, target,
        scratch=scratch, validate=lambda: accuracy("validation"),
        change=hide_words(wordpiece, config) if config.hide else None,
    )  # fmt: skip
    return FinetuneResult(
        model, task.labels, accuracy("test"), accuracy("validation"), accuracy("train"), outcome,
        n_truncated, sum(map(len, splits.values())),
    )  # fmt: skip


def hide_words(
    wordpiece: WordPiece, config: FinetuneConfig
) -> Callable[[LabeledBatch], LabeledBatch]:
    """Returns what replaces some tokens of a minibatch by [MASK], other ones each time.

    Pre-training has taught what [MASK] is, so an example with a few of them is one more example:
    the classifier cannot hang on one word.
    """
    rng = torch.Generator().manual_seed(config.seed)

    def hide(batch: LabeledBatch) -> LabeledBatch:
        tokens, _ = mask_tokens(
            batch.tokens, wordpiece.special_tokens.values(), wordpiece.word_starts, rng,
            config.hide, replace=ALWAYS_MASK, vocab_size=wordpiece.vocab_size,
            mask_id=wordpiece.special_tokens["[MASK]"],
        )  # fmt: skip
        return replace(batch, tokens=tokens)

    return hide


@dataclass(frozen=True)
class Start:
    """What the command line says to start from."""

    name: str
    bert: BertModel
    wordpiece: WordPiece
    scratch: bool


def choose_start(args: argparse.Namespace, config: FinetuneConfig, texts: Sequence[str]) -> Start:
    """Opens the pre-trained model, or makes one that has read nothing.

    Args:
        args: ``--run``, ``--pretrained`` or ``--from-scratch``.
        config: whose ``max_len`` a model from scratch has.
        texts: the task's training texts: the vocabulary of a model from scratch.

    Raises:
        ValueError: nothing was named, or it is a checkpoint of another kind.
    """
    place: str | Path | None = args.run or args.pretrained
    if place is not None:
        model, wordpiece = open_pretrained(place)
        return Start("pre-trained", model.bert, wordpiece, False)
    if not args.from_scratch and args.preset != "smoke":
        raise ValueError(
            "nothing to start from: name a pre-training with --run NAME (python "
            "bert/bert_pretraining.py makes one), published weights with --pretrained FOLDER, or "
            "say --from-scratch."
        )
    smoke = args.preset == "smoke"
    wordpiece = train_wordpiece(texts, 400 if smoke else 6000)
    bert = BertConfig(wordpiece.vocab_size, max_len=config.max_len, norm="pre")
    if smoke:
        bert = replace(bert, d_model=32, n_layers=2, d_ff=64)
    return Start("from scratch", from_scratch(bert, config.seed), wordpiece, True)


def compare(
    start: Start, task: TextTask, config: FinetuneConfig, device: str, twin: bool
) -> tuple[FinetuneResult, list[list[object]]]:
    """Fine-tunes what was asked for and its rivals; returns its result and the table's rows."""
    few = task.few(config.labels, config.seed)
    result = fine_tune(start.bert, start.wordpiece, task, config,
                       scratch=start.scratch, device=device)  # fmt: skip
    rows = [_row(start.name, len(few.train), result.test_accuracy, result.seconds)]
    if twin and not start.scratch:
        fresh = from_scratch(start.bert.config, config.seed)
        other = fine_tune(fresh, start.wordpiece, task, config, scratch=True, device=device)
        rows.append(_row("from scratch", len(few.train), other.test_accuracy, other.seconds))
    rows.append(_row("TF-IDF + logistic regression", len(few.train), tfidf_baseline(few), None))
    return result, rows


def _row(name: str, n_labels: int, accuracy: float, seconds: float | None) -> list[object]:
    time = "" if seconds is None else f"{seconds:.1f}"
    return [name, n_labels, round(100 * accuracy, 1), time]


def main(argv: Sequence[str] | None = None) -> FinetuneResult | HeadResult:
    """Fine-tunes as the command line says, prints the table, saves the model."""
    config, args = config_from_argv(argv)
    folder = run_folder("bert", args.name or f"finetuned_{Path(args.task).stem}")
    if args.task in ("code", "parameters"):
        return compare_heads(config, args, folder)
    smoke = args.preset == "smoke" and args.task == "library"
    task = library_task(SMOKE_LIBRARIES) if smoke else load_task(args.task, args.fold)
    start = choose_start(args, config, [text for text, _ in task.train])
    result, rows = compare(start, task, config, args.device, args.twin)
    if result.n_truncated:
        max_len = min(config.max_len, start.bert.config.max_len)
        TEXTS.say("finetune.cut", cut=result.n_truncated, texts=result.n_texts, max_len=max_len)
    TEXTS.say("finetune.task", task=task.name, n_classes=len(task.labels), test=len(task.test))
    print(format_table(["contestant", "labels", "test accuracy %", "seconds"], rows))
    save_finetuned(folder, result.model, start.wordpiece, config, task.name, task.labels)
    TEXTS.say("finetune.saved", folder=folder)
    return result


def compare_heads(config: FinetuneConfig, args: argparse.Namespace, folder: Path) -> HeadResult:
    """Fine-tunes a tagger or a span head and its rivals, prints the table, saves the model."""
    only = SMOKE_LIBRARIES if args.preset == "smoke" else ()
    task: TaggingTask | SpanTask
    task = code_tag_task(only) if args.task == "code" else parameter_span_task(only)
    start = choose_start(args, config, task.texts())
    contestants = {start.name: start.bert}
    if args.twin and not start.scratch:
        contestants["from scratch"] = from_scratch(start.bert.config, config.seed)
    results: dict[str, HeadResult] = {}
    for name, bert in contestants.items():
        scratch = name == "from scratch"
        if isinstance(task, TaggingTask):
            results[name] = fine_tune_tagging(
                bert, start.wordpiece, task, config, scratch=scratch, device=args.device
            )
        else:
            results[name] = fine_tune_span(
                bert, start.wordpiece, task, config, scratch=scratch, device=args.device
            )
    ours = results[start.name]
    scores = {name: result.scores for name, result in results.items()}
    scores[task.baseline_name] = task.baseline(config)
    rows = [
        [name, ours.n_labels, *(round(100 * value, 1) for value in values.values())]
        for name, values in scores.items()
    ]
    if ours.n_truncated:
        max_len = min(config.max_len, start.bert.config.max_len)
        TEXTS.say("finetune.cut", cut=ours.n_truncated, texts=len(task.test), max_len=max_len)
    TEXTS.say("finetune.other_task", task=task.name, test=len(task.test))
    print(format_table(["contestant", "labels", *(f"{name} %" for name in ours.scores)], rows))
    save_finetuned(folder, ours.model, start.wordpiece, config, task.name, task.labels)
    TEXTS.say("finetune.saved", folder=folder)
    return ours


if __name__ == "__main__":
    run_entry(main)
