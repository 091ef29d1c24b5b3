"""Where the data of every stage come from, and how they become rows of tokens.

    stage          the world of words                       a JSON file
    base           raw facts (`base_text`)                  -
    SFT            requests and sloppy replies to them      instruction, input, output
    reward, DPO    a model's replies, compared by a labeler prompt, chosen, rejected
    PPO, GRPO      requests; the model writes the replies   -

``python instruction_tuning/instruction_data.py`` shows some of each.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from instruction_tuning.base_text import base_lines, base_text
from instruction_tuning.chat import Row, encode_chat, show_mask
from instruction_tuning.demonstrations import demonstrate
from instruction_tuning.instruction_json import DATA_SETS, read_instructions, read_preferences
from instruction_tuning.judge import judge
from instruction_tuning.preferences import label_pairs
from instruction_tuning.word_world import Split, draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.tokenizers import Tokenizer

__all__ = [
    "DATA_SETS",
    "WORLD",
    "base_text",
    "build_tokenizer",
    "demonstrations_of",
    "pair_rows",
    "read_instructions",
    "read_preferences",
    "sft_rows",
    "split_entries",
]

WORLD = "world"  # the name on command lines
LEAST_ENTRIES = 20  # of a JSON file: then one is for validation

Entry = TypeVar("Entry")


class HasReply(Protocol):
    """What SFT learns from: a `Demonstration` or an `Instruction`."""

    @property
    def prompt(self) -> str:
        """The user's text."""

    @property
    def reply(self) -> str:
        """The reply to imitate."""


class HasPair(Protocol):
    """What a reward model and DPO learn from: a `Preference` or a `Comparison`."""

    @property
    def prompt(self) -> str:
        """The user's text."""

    @property
    def chosen(self) -> str:
        """The better reply."""

    @property
    def rejected(self) -> str:
        """The worse reply."""


def demonstrations_of(
    dataset: str,
    split: Split,
    count: int,
    *,
    slips: float = 0.25,
    chatter: float = 0.25,
    seed: int = 0,
) -> Sequence[HasReply]:
    """Returns what SFT imitates.

    Args:
        dataset: "world", "instructions", "preferences", or a JSON file's path.
        split: "train", "validation" or "test".
        count: most demonstrations; of a file, the first ones.
        slips: share of the world's demonstrations with a slip.
        chatter: share of the world's demonstrations with chatter.
        seed: of the world's demonstrations.

    Raises:
        ValueError: the file cannot be used; see `read_instructions` and `split_entries`.
        FileNotFoundError: there is no such file.
    """
    if dataset == WORLD:
        return demonstrate(draw_requests(count, split, seed), slips, chatter, seed)
    return split_entries(read_instructions(dataset), split, dataset)[:count]


def split_entries(entries: Sequence[Entry], split: Split, name: str) -> list[Entry]:
    """Cuts the entries of a file in order: 85 % train, then 10 % test, then 5 % validation.

    Raises:
        ValueError: there are too few to hold some out.
    """
    if len(entries) < LEAST_ENTRIES:
        raise ValueError(
            f"{name} has {len(entries)} entries, of which 5 % are for validation: that is none. "
            f"Give at least {LEAST_ENTRIES}."
        )
    first, second = len(entries) * 85 // 100, len(entries) * 95 // 100
    parts = {"train": slice(0, first), "test": slice(first, second),
             "validation": slice(second, None)}  # fmt: skip
    return list(entries[parts[split]])


def sft_rows(
    demonstrations: Iterable[HasReply],
    tokenizer: Tokenizer,
    max_len: int | None,
    *,
    drop_long: bool = False,
) -> list[Row]:
    """Returns each demonstration's ids and which of them are trained on; see `encode_chat`.

    Args:
        demonstrations: prompts and replies.
        tokenizer: the policy's.
        max_len: its context window, tokens.
        drop_long: leave out what does not fit, and print how many that are.

    Raises:
        ValueError: one does not fit, or none does; the text says which.
    """
    texts = [(each.prompt, [each.reply]) for each in demonstrations]
    return [rows[0] for rows in _encode_all(texts, tokenizer, max_len, drop_long)]


def pair_rows(
    preferences: Iterable[HasPair],
    tokenizer: Tokenizer,
    max_len: int | None,
    *,
    drop_long: bool = False,
) -> list[tuple[Row, Row]]:
    """Returns each preference's two rows, chosen and rejected; arguments as `sft_rows`.

    Raises:
        ValueError: chosen equals rejected, or as `sft_rows`.
    """
    texts = []
    for number, pair in enumerate(preferences, start=1):
        if pair.chosen == pair.rejected:
            raise ValueError(
                f"pair {number} has {pair.chosen!r} both as chosen and as rejected: it prefers "
                "nothing. Remove it."
            )
        texts.append((pair.prompt, [pair.chosen, pair.rejected]))
    encoded = _encode_all(texts, tokenizer, max_len, drop_long)
    return [(chosen, rejected) for chosen, rejected in encoded]


def _encode_all(
    texts: Sequence[tuple[str, Sequence[str]]],
    tokenizer: Tokenizer,
    max_len: int | None,
    drop_long: bool,
) -> list[list[Row]]:
    """Encodes prompts with one or two replies each; names the entry that does not fit."""
    rows, problems = [], []
    for number, (prompt, replies) in enumerate(texts, start=1):
        request = {"role": "user", "content": prompt}
        try:
            rows.append([
                encode_chat([request, {"role": "assistant", "content": reply}], tokenizer, max_len)
                for reply in replies
            ])  # fmt: skip
        except ValueError as error:
            problems.append(f"entry {number}: {error}")
    if problems and (not drop_long or not rows):
        raise ValueError(problems[0])
    if problems:
        print(f"note: {len(problems):,} of {len(texts):,} entries are left out, because they do "
              f"not fit into the context of {max_len} tokens")  # fmt: skip
    return rows


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Show some of the data that every stage learns from.")
    parser.add_argument("--dataset", default=WORLD, help="world, instructions, or a JSON file")
    parser.add_argument("--count", type=int, default=6, help="how many of each")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--preset", choices=["smoke", "standard"], default="standard",
                        help="the same; here for a uniform command line")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Prints raw facts, demonstrations with what is trained in color, and labeled pairs."""
    args = build_parser().parse_args(argv)
    if args.count < 1:
        raise ValueError(f"--count {args.count} shows nothing. Use 1 or more.")
    tokenizer = build_tokenizer()
    if args.dataset == WORLD:
        print("\n".join(base_lines(args.count, "train", args.seed)) + "\n")
    shown = demonstrations_of(args.dataset, "train", args.count, seed=args.seed)
    for row in sft_rows(shown, tokenizer, None):
        print(show_mask(*row, tokenizer, color=sys.stdout.isatty()))
    if args.dataset == WORLD:
        print()
        requests = draw_requests(args.count, "train", args.seed)
        sloppy = [demonstrate(requests, 0.5, 0.5, seed) for seed in (args.seed, args.seed + 1)]
        replies = [[one.reply, other.reply] for one, other in zip(*sloppy, strict=True)]
        for pair in label_pairs(requests, replies, seed=args.seed):
            scores = [judge(pair.request, reply) for reply in (pair.chosen, pair.rejected)]
            print(f"{pair.prompt}: {pair.chosen!r} ({scores[0]:.2f}) before {pair.rejected!r} "
                  f"({scores[1]:.2f})")  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
