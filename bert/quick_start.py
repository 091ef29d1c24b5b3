"""BERT in about a minute, offline: pre-training, masks filled before and after, a classifier.

The words that it prints are in ``texts/en.json``; the numbers are measured while you watch.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bert.attention_insides import look_inside
from bert.attention_visualization import attention_figure, write_page
from bert.bert_config import parameter_count
from bert.bert_finetuning import SMOKE_LIBRARIES, FinetuneResult, fine_tune, from_scratch
from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from bert.bert_pretraining import train
from bert.finetuning_baselines import tfidf_baseline
from bert.finetuning_config import PRESETS as FINETUNING_PRESETS
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_tasks import TextTask, library_task
from bert.mask_filling import fill_masks
from bert.pretraining_config import PRESETS, PretrainConfig
from bert.pretraining_data import BertData, load_bert_data
from bert.saved_classifier import save_finetuned
from bert.text_classification import classify
from bert.training_figures import training_curve_figure
from bert.wordpiece import WordPiece
from tutorial_kit.compute import prepare_device
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

LABELS = 100
MASKED = (
    "Returns the number of [MASK] in the list.",
    "If the input [MASK] not valid, an error is [MASK].",
    "The [MASK] of the matrix must be square.",
)
PICTURED = "The function returns the number of elements in the array."
SHOWN = 90  # characters of a passage


@dataclass(frozen=True)
class QuickNumbers:
    """What the demo measures; accuracies from 0 to 1 on passages of unseen modules."""

    accuracy: float  # pre-trained, then fine-tuned
    scratch_accuracy: float  # the same network without pre-training
    tfidf_accuracy: float  # TF-IDF with logistic regression
    mlm_loss: float  # nats per masked token of held-out text
    unigram: float  # the same of the unigram model
    pretraining_seconds: float
    files: tuple[Path, ...]


def show_data(data: BertData, texts: Texts) -> None:
    """Prints what the text is and what WordPiece makes of it."""
    train_split, held_out = data.splits["train"], data.splits["validation"]
    texts.say("quick.data", documents=len(train_split.document_ends),
              sentences=train_split.n_sentences, held_out=len(held_out.document_ends))  # fmt: skip
    pieces = data.wordpiece
    texts.say("quick.tokens", vocab_size=pieces.vocab_size, text=PICTURED,
              pieces=" ".join(pieces.tokens(pieces.encode(PICTURED))))  # fmt: skip


def filled(model: BertForPreTraining, pieces: WordPiece, texts: Texts) -> str:
    """Returns the masked sentences, each with the three best tokens of every mask."""
    lines = []
    for sentence in MASKED:
        guesses = [
            ", ".join(f"{guess.token} {guess.probability:.0%}" for guess in best)
            for best in fill_masks(model, pieces, sentence, top_k=3)
        ]
        lines.append(texts.get("quick.filled", text=sentence, guesses="   |   ".join(guesses)))
    return "\n".join(lines)


def contest(
    model: BertForPreTraining, pieces: WordPiece, task: TextTask, config: FinetuneConfig,
    device: str, texts: Texts,
) -> tuple[FinetuneResult, float, float]:  # fmt: skip
    """Fine-tunes the model and its twin from scratch; prints the table beside TF-IDF.

    Returns:
        The fine-tuned model's result, and the accuracies of the twin and of TF-IDF.
    """
    few = task.few(config.labels, config.seed)
    tuned = fine_tune(model.bert, pieces, task, config, device=device)
    fresh = from_scratch(model.bert.config, config.seed)
    twin = fine_tune(fresh, pieces, task, config, scratch=True, device=device)
    baseline = tfidf_baseline(few)
    rows = [
        (texts.get("quick.pretrained"), round(100 * tuned.test_accuracy, 1)),
        (texts.get("quick.scratch"), round(100 * twin.test_accuracy, 1)),
        (texts.get("quick.tfidf"), round(100 * baseline, 1)),
        (texts.get("quick.guessing"), round(100 / len(task.labels), 1)),
    ]
    table = format_table([texts.get("quick.contestant"), texts.get("quick.right")], rows)
    texts.say("quick.contest", labels=len(few.train), libraries=", ".join(task.labels),
              tests=len(task.test), table=table)  # fmt: skip
    return tuned, twin.test_accuracy, baseline


def show_answers(
    tuned: FinetuneResult, pieces: WordPiece, task: TextTask, max_len: int, texts: Texts
) -> None:
    """Prints what the classifier says of three unseen passages."""
    examples = task.test[:3]
    passages = [text for text, _ in examples]
    answers = classify(tuned.model, pieces, task.labels, passages, max_len)
    for (passage, truth), best in zip(examples, answers, strict=True):
        texts.say("quick.answer", text=passage[:SHOWN], truth=truth, answer=best[0].label,
                  probability=best[0].probability)  # fmt: skip


def draw(model: BertForPreTraining, pieces: WordPiece, folder: Path) -> list[Path]:
    """Saves the pictures of a pre-trained model into its run's folder; returns their paths."""
    figures, short = folder / "figures", model.bert.config.max_len < 40
    inside = look_inside(model, pieces, PICTURED.split(" of ")[0] if short else PICTURED)
    curve = training_curve_figure(folder / "metrics.jsonl")
    return [
        save_figure(curve, figures / "training_curve.png"),
        save_figure(attention_figure(inside, pieces), figures / "attention.png"),
        save_figure(model_diagram(model.bert, "BERT"), figures / "structure.png"),
        write_page(inside, pieces, figures / "attention.html"),
    ]


def tell(preset: str, seed: int, device: str, texts: Texts) -> QuickNumbers:
    """Tells the story and returns its numbers.

    Args:
        preset: "quick" or "smoke".
        seed: of the pre-training, of the labeled examples and of the fine-tuning.
        device: "auto", "cpu", "cuda" or "mps".
        texts: the words.
    """
    smoke = preset == "smoke"
    config: PretrainConfig = replace(PRESETS[preset], seed=seed)
    finetuning = replace(FINETUNING_PRESETS[preset], seed=seed)
    finetuning = finetuning if smoke else replace(finetuning, labels=LABELS)
    prepare_device(device, config.threads)
    data = load_bert_data(config.dataset, config.wordpiece_tokens)
    pieces = data.wordpiece
    show_data(data, texts)

    torch.manual_seed(seed)
    sizes = replace(config.model, vocab_size=pieces.vocab_size)
    untrained = BertForPreTraining(BertModel(sizes)).eval()
    texts.say("quick.untrained", filled=filled(untrained, pieces, texts))
    texts.say("quick.training", parameters=parameter_count(sizes, pretraining_heads=True),
              rate=config.mask_rate)  # fmt: skip
    folder = run_folder("bert", f"quick_start_{preset}")
    result = train(config, data, folder, device=device)
    gain = result.unigram_entropy - result.validation_loss
    texts.say("quick.trained", filled=filled(result.model, pieces, texts), gain=abs(gain),
              loss=result.validation_loss, unigram=result.unigram_entropy,
              accuracy=result.scores.mlm_accuracy,
              side=texts.get("quick.below" if gain > 0 else "quick.above"))  # fmt: skip

    task = library_task(SMOKE_LIBRARIES if smoke else ())
    tuned, scratch, tfidf = contest(result.model, pieces, task, finetuning, device, texts)
    max_len = min(finetuning.max_len, sizes.max_len)
    show_answers(tuned, pieces, task, max_len, texts)
    classifier = run_folder("bert", f"quick_start_{preset}_library")
    saved = save_finetuned(classifier, tuned.model, pieces, finetuning, task.name, task.labels)
    files = (*draw(result.model, pieces, folder), folder / "checkpoints" / "last.pt", saved)
    texts.say("quick.files", files="\n".join(f"   {path}" for path in files))
    texts.say("quick.next", run=folder.name, classifier=classifier.name)
    return QuickNumbers(
        tuned.test_accuracy, scratch, tfidf, result.validation_loss, result.unigram_entropy,
        result.seconds, files,
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("BERT in about a minute, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    numbers = tell(args.preset, args.seed, args.device, texts)
    return DemoResult(
        family="bert",
        learned=texts.get("demo.learned"),
        headline=texts.get("demo.headline", accuracy=numbers.accuracy,
                           scratch=numbers.scratch_accuracy, tfidf=numbers.tfidf_accuracy),
        value=100.0 * numbers.accuracy,
        unit="%",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in numbers.files),
    )  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
