"""Use a trained BERT: fill in masked words, find the nearest sentences, classify text.

    python bert/bert_inference.py --checkpoint RUN --fill "Returns the [MASK] of the array."
    python bert/bert_inference.py --checkpoint RUN --nearest "Invert a matrix." --among notes.txt
    python bert/bert_inference.py --checkpoint FINETUNED --classify < lines.txt > labels.txt

RUN is a run of ``bert_pretraining`` or a folder with published weights, FINETUNED what
``bert_finetuning`` has saved. Without a text behind the flag, lines are typed or piped in; answers
keep their order. A line that cannot be used gives an empty line, and one on stderr that says why;
the others go on, and the exit code is 2.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bert.bert_heads import BertForPreTraining, BertForSequenceClassification
from bert.library_task import mask_telltale_words
from bert.mask_filling import Alternative, fill_masks, fill_surest_first, fill_texts, put_in
from bert.open_model import open_classifier, open_encoder, open_pretrained
from bert.sentence_embeddings import Neighbor, SentenceIndex, embed_sentences, nearest
from bert.smoke_model import SENTENCES, untrained_model
from bert.text_classification import Answer, classify
from bert.wordpiece import WordPiece
from tutorial_kit.console import USER_ERROR, OneLineParser, one_line, run_entry
from tutorial_kit.device import pick_device, tune_cpu
from tutorial_kit.documentation_corpus import documentation_corpus
from tutorial_kit.entry_parsers import add_checkpoint, add_device
from tutorial_kit.saved_runs import missing_checkpoint
from tutorial_kit.text_input import check_text, lines_of_file, read_lines
from tutorial_kit.texts import Texts

__all__ = [
    "Alternative",
    "Answer",
    "Neighbor",
    "SentenceIndex",
    "classify",
    "embed_sentences",
    "fill_masks",
    "fill_surest_first",
    "fill_texts",
    "main",
    "nearest",
    "open_pretrained",
]

EXAMPLE = "Returns the number of [MASK] in the array."


class Filler:
    """Answers a text with the text filled, and the alternatives of each [MASK]."""

    def __init__(self, model: BertForPreTraining, wordpiece: WordPiece, top_k: int) -> None:
        self.model, self.wordpiece, self.top_k = model, wordpiece, top_k

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Returns what to print for each text; with one alternative, the filled text alone."""
        found = fill_texts(self.model, self.wordpiece, texts, self.top_k)
        return list(map(self._block, texts, found))

    def _block(self, text: str, places: list[list[Alternative]]) -> str:
        if len(places) == 1:
            filled = put_in(text, [places[0][0].token])
        else:  # the guesses of one pass do not know each other
            filled = fill_surest_first(self.model, self.wordpiece, text)
        if self.top_k == 1:
            return filled
        return "\n".join([filled, *(f"  {n}. {_shares(p)}" for n, p in enumerate(places, start=1))])


class Finder:
    """Answers a text with the nearest sentences of a collection."""

    def __init__(self, index: SentenceIndex, top_k: int) -> None:
        self.index, self.top_k = index, top_k

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Returns what to print for each text: itself, then its neighbors with their cosines."""
        found = self.index.nearest(texts, self.top_k)
        return [
            "\n".join([text, *(f"  {near.similarity:.3f}  {near.text}" for near in row)])
            for text, row in zip(texts, found, strict=True)
        ]


class Classifier:
    """Answers a text with its most probable labels, on one line."""

    def __init__(self, model: BertForSequenceClassification, wordpiece: WordPiece,
                 labels: Sequence[str], max_len: int, top_k: int, task: str = "") -> None:  # fmt: skip # noqa: E501
        self.model, self.wordpiece = model, wordpiece
        self.labels, self.max_len, self.top_k, self.task = labels, max_len, top_k, task

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Returns what to print for each text; library names are hidden, as in fine-tuning."""
        if self.task == "library":
            texts = [mask_telltale_words(text) for text in texts]
        found = classify(self.model, self.wordpiece, self.labels, texts, self.max_len)
        return [_shares(row[: self.top_k]) for row in found]


Answerer = Filler | Finder | Classifier


def answer_lines(answerer: Answerer, lines: Sequence[str], before: int) -> tuple[list[str], int]:
    """Answers lines of which some may be unusable; says why, on stderr.

    Args:
        answerer: what to ask.
        lines: as they were read.
        before: how many lines were read before these.

    Returns:
        The answers, empty for a line that cannot be used, and how many those are.
    """
    try:
        return answerer.answer([check_text(line) for line in lines]), 0
    except ValueError as error:
        if len(lines) == 1:
            print(f"line {before + 1}: {one_line(error)}", file=sys.stderr, flush=True)
            return [""], 1
    middle = len(lines) // 2  # a bad line is found in a few halvings, the rest stays together
    first, failed_first = answer_lines(answerer, lines[:middle], before)
    second, failed_second = answer_lines(answerer, lines[middle:], before + middle)
    return [*first, *second], failed_first + failed_second


def _shares(pairs: Sequence[Alternative | Answer]) -> str:
    """Returns names with their probabilities, on one line."""
    return ", ".join(f"{name} {probability:.2f}" for name, probability in pairs)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Use a trained BERT on text typed, piped or given here.")
    add_checkpoint(parser)
    task = parser.add_mutually_exclusive_group()
    for flag, meaning in (
        ("--fill", "say what may stand in each [MASK]"),
        ("--nearest", "find the sentences nearest in meaning"),
        ("--classify", "name the label; needs a fine-tuned checkpoint"),
    ):
        task.add_argument(flag, nargs="*", metavar="TEXT", help=f"{meaning}; none reads lines")
    parser.add_argument("--among", type=Path, metavar="FILE",
                        help="nearest: sentences, one a line; none takes held-out documentation")  # fmt: skip # noqa: E501
    parser.add_argument("--center", action="store_true",
                        help="nearest: take the mean of all sentences away from each")  # fmt: skip
    parser.add_argument("--top-k", type=int, default=5, help="alternatives, neighbors or labels")
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: an untrained model"
    )
    add_device(parser, "where")
    return parser


def make_answerer(args: argparse.Namespace, device: torch.device) -> Answerer:
    """Opens what the command line names."""
    smoke = args.checkpoint is None
    if args.nearest is not None:
        model, wordpiece = untrained_model() if smoke else open_encoder(args.checkpoint)
        if args.among is not None:
            collection = lines_of_file(args.among)
        elif smoke:
            collection = list(SENTENCES)
        else:
            held_out = documentation_corpus().documents("test")
            collection = [text for document in held_out for text in document.paragraphs]
        index = SentenceIndex(model.to(device), wordpiece, collection, center=args.center)
        return Finder(index, args.top_k)
    if args.classify is not None:
        if smoke:
            model, wordpiece = untrained_model()
            head = BertForSequenceClassification(model.bert, 2)
            return Classifier(head.to(device), wordpiece, ("first", "second"), 64, args.top_k)
        tuned = open_classifier(args.checkpoint)
        return Classifier(
            tuned.model.to(device), tuned.wordpiece, tuned.labels, tuned.max_len, args.top_k,
            tuned.task,
        )  # fmt: skip
    model, wordpiece = untrained_model() if smoke else open_pretrained(args.checkpoint)
    return Filler(model.to(device), wordpiece, args.top_k)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the answers; returns 2 if a line of the input could not be used, else 0."""
    args = build_parser().parse_args(argv)
    given = next((t for t in (args.fill, args.nearest, args.classify) if t is not None), None)
    if args.checkpoint is None and args.preset != "smoke":
        raise missing_checkpoint("to use", "bert/bert_pretraining.py")
    if given is None and args.preset != "smoke":
        raise ValueError(
            "none of --fill, --nearest and --classify was given: the model can do all three. "
            "Choose one."
        )
    if args.top_k < 1:
        raise ValueError(f"--top-k {args.top_k} asks for no answer. Use 1 or more.")
    tune_cpu()
    answerer = make_answerer(args, pick_device(args.device))
    if given is None:
        given = [EXAMPLE]
    if given:
        print("\n".join(answerer.answer([check_text(text) for text in given])))
        return 0
    return _answer_input(answerer)


def _answer_input(answerer: Answerer) -> int:
    """Answers every line of the standard input; returns the exit code."""
    count = failures = 0
    texts = Texts(Path(__file__).parent)
    for lines in read_lines(texts.get("inference.type")):
        answers, failed = answer_lines(answerer, lines, count)
        print("\n".join(answers), flush=True)
        count, failures = count + len(lines), failures + failed
    if not count:
        raise ValueError("the input has no line: there is no text to answer. Type or pipe some.")
    typed = sys.stdin is not None and sys.stdin.isatty()
    return USER_ERROR if failures and not typed else 0


if __name__ == "__main__":
    run_entry(main)
