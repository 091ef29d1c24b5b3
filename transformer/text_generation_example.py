"""Translate sentences: given as arguments, typed one by one, or piped in as a file.

    python transformer/text_generation_example.py --checkpoint outputs/transformer/standard \\
        --text "A man is reading a book." --n-best 3 --picture
    python transformer/text_generation_example.py --checkpoint RUN < english.txt > german.txt

Line i of the output belongs to line i of the input. What cannot be translated gives an empty line
and one line on stderr that says why; the others go on.
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
from dataclasses import dataclass, field
from pathlib import Path

from transformer.alignment import look_inside
from transformer.attention_visualization import alignment_figure, font_hint
from transformer.beam_search import check_beams
from transformer.decoding import (
    ROWS,
    Hypothesis,
    Sampling,
    encode_source,
    text_of,
    translate,
    translate_n_best,
)
from transformer.saved_model import EXAMPLES, SavedModel, load_model, untrained_model
from transformer.scoring import LANGUAGES
from tutorial_kit.config import config_parser, read_config
from tutorial_kit.console import one_line, run_entry
from tutorial_kit.device import pick_device, tune_cpu
from tutorial_kit.entry_parsers import add_checkpoint, add_device
from tutorial_kit.plotting import save_figure
from tutorial_kit.saved_runs import figures_of, missing_checkpoint
from tutorial_kit.text_input import check_text, read_lines
from tutorial_kit.tokenizers import Tokenizer
from tutorial_kit.training import run_folder

CHUNK = 16 * ROWS  # lines of a file translated at once, sorted by length
MAX_NAMED = 5  # characters that a warning lists


@dataclass(frozen=True)
class TranslationConfig:
    """How the command line translates."""

    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    beams: int = 4  # hypotheses kept by the search; 1 takes the most probable token at each step
    length_penalty: float = 1.0  # alpha of the search: 0 prefers short translations
    n_best: int = 1  # translations shown of each sentence, with their scores if more than 1
    seed: int = 0  # of the first sentence, if tokens are drawn; the next ones count up

    def __post_init__(self) -> None:
        """Checks what the parts cannot check alone."""
        if self.sampling.temperature and (self.beams > 1 or self.n_best > 1):
            raise ValueError(
                f"temperature={self.sampling.temperature} draws one translation, and beams="
                f"{self.beams} searches for the best {self.n_best}: it is one or the other. "
                "Use --preset sampled, or --temperature 0."
            )


PRESETS = {
    "beam": TranslationConfig(),
    "greedy": TranslationConfig(beams=1),
    "sampled": TranslationConfig(Sampling(temperature=0.8, top_p=0.95), beams=1),
    "smoke": TranslationConfig(beams=2),  # an untrained model if there is no checkpoint
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = config_parser(TranslationConfig, PRESETS, "beam", "Translate with a trained model.")
    add_checkpoint(parser)
    parser.add_argument(
        "--text", nargs="+", metavar="SENTENCE", help="sentences; none reads lines from the input"
    )
    parser.add_argument(
        "--picture", action="store_true", help="draw which words each translation looked at"
    )
    add_device(parser, "where")
    return parser


class Translator:
    """A model, how to translate with it, and where its pictures go."""

    def __init__(self, saved: SavedModel, config: TranslationConfig, pictures: Path | None) -> None:
        check_beams(config.beams, saved.model.config.vocab_size, config.n_best)
        self.model, self.tokenizer, self.config = saved.model, saved.tokenizer, config
        self.pictures = pictures
        self.lines = 0  # taken so far

    def show(self, lines: Sequence[str]) -> None:
        """Translates lines and prints one of output, or ``n_best``, for each of them."""
        good: list[int] = []
        for place, line in enumerate(lines):
            try:
                encode_source(self.model, self.tokenizer, check_text(line))
                good.append(place)
            except ValueError as error:
                say(self.lines + place + 1, one_line(error))
                continue
            if unseen := unseen_characters(self.tokenizer, line):
                named = " ".join(unseen[:MAX_NAMED]) + (" ..." if unseen[MAX_NAMED:] else "")
                say(self.lines + place + 1, f"no token has {named}, so bytes are read: a guess")
        numbers = [self.lines + place + 1 for place in good]
        texts = self._translate([lines[place] for place in good], numbers)
        for place in range(len(lines)):
            print("\n".join(texts.pop(0)) if place in good else "", flush=True)
        self.lines += len(lines)

    def _translate(self, sentences: list[str], numbers: list[int]) -> list[list[str]]:
        """Returns the lines to print for each sentence, and draws the pictures."""
        c = self.config
        if c.sampling.temperature:
            seed = c.seed + self.lines
            drawn = translate(self.model, self.tokenizer, sentences, sampling=c.sampling, seed=seed)
            return [[text] for text in drawn]
        found = translate_n_best(
            self.model, self.tokenizer, sentences, beams=c.beams,
            length_penalty=c.length_penalty, n_best=c.n_best,
        )  # fmt: skip
        if self.pictures is not None:
            for sentence, hypotheses, number in zip(sentences, found, numbers, strict=True):
                self._draw(sentence, hypotheses[0], number)
        return [[self._line(hypothesis) for hypothesis in hypotheses] for hypotheses in found]

    def _line(self, hypothesis: Hypothesis) -> str:
        text = text_of(self.tokenizer, hypothesis.tokens)
        if self.config.n_best == 1:
            return text
        cut = "" if hypothesis.finished else "  [cut: it had no end]"
        return f"{hypothesis.normalized:8.3f}  {text}{cut}"

    def _draw(self, sentence: str, hypothesis: Hypothesis, number: int) -> None:
        assert self.pictures is not None
        source = encode_source(self.model, self.tokenizer, sentence)
        inside = look_inside(self.model, self.tokenizer, source, hypothesis.tokens)
        path = self.pictures / f"alignment_{number}.png"
        save_figure(alignment_figure(inside, self.tokenizer), path)
        hint = font_hint([sentence, text_of(self.tokenizer, hypothesis.tokens)])
        print("\n".join([str(path), *([hint] if hint and number == 1 else [])]), file=sys.stderr)


def say(number: int, text: str) -> None:
    """Prints one line about an input line on stderr, where it does not mix with translations."""
    print(f"line {number}: {text}", file=sys.stderr, flush=True)


def unseen_characters(tokenizer: Tokenizer, text: str) -> list[str]:
    """Returns the characters that the vocabulary knows only as loose bytes, each once.

    Training merges the bytes of a character that occurs more than once or twice. Bytes make every
    text readable for the model, but what they say together it never learned.
    """
    return [
        character
        for character in dict.fromkeys(text)
        if not character.isascii()
        and len(tokenizer.encode(character)) == len(character.encode("utf-8", "surrogatepass"))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the translations, line by line."""
    args = build_parser().parse_args(argv)
    config = read_config(TranslationConfig, PRESETS, args)
    device = pick_device(args.device)
    if args.checkpoint is not None:
        saved, folder = load_model(args.checkpoint), figures_of("transformer", args.checkpoint)
    elif args.preset == "smoke":
        saved, folder = untrained_model(), run_folder("transformer", "translate_smoke") / "figures"
    else:
        raise missing_checkpoint("to translate with", "transformer/train_transformer.py")
    tune_cpu()
    saved.model.to(device)
    translator = Translator(saved, config, folder if args.picture else None)
    language = LANGUAGES.get(saved.source_language, saved.source_language)
    invitation = f"Type {language} sentences; an end of input (Ctrl-D) or Ctrl-C leaves."
    for lines in [args.text] if args.text else read_lines(invitation, CHUNK):
        translator.show(lines)
    if args.preset == "smoke" and not translator.lines:
        translator.show([EXAMPLES[saved.source_language]])


if __name__ == "__main__":
    run_entry(main)
