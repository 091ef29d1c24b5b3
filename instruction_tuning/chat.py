"""Talk to a tuned model in the terminal; and the chat template, for all who need it.

    python instruction_tuning/chat.py --checkpoint RUN
    python instruction_tuning/chat.py --checkpoint RUN --prompt "spell kapi backwards" --show-mask
    python instruction_tuning/chat.py --checkpoint RUN < requests.txt > replies.txt

Each line is a conversation of its own, because the models here are tuned on one turn. Replies to
piped lines keep their order; a line that cannot be answered gives an empty one, and one on stderr
that says why; the others go on, and the exit code is 2. A reply without an end is cut off and
marked [...].
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
from dataclasses import dataclass
from pathlib import Path

from gpt.generation import generate
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.sampling import Sampling
from instruction_tuning.chat_template import (
    ASSISTANT,
    END,
    PAD,
    USER,
    ChatBatch,
    Message,
    Row,
    chat_tokens,
    encode_chat,
    encode_prompt,
    left_to_right,
    make_batch,
    pad_left,
    pad_right,
    show_mask,
)
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.console import USER_ERROR, OneLineParser, one_line, run_entry
from tutorial_kit.device import pick_device, tune_cpu
from tutorial_kit.entry_parsers import add_checkpoint, add_device
from tutorial_kit.saved_runs import missing_checkpoint
from tutorial_kit.text_input import check_text, read_lines
from tutorial_kit.texts import Texts
from tutorial_kit.tokenizers import Tokenizer

__all__ = [
    "ASSISTANT",
    "END",
    "PAD",
    "USER",
    "ChatBatch",
    "Message",
    "Row",
    "chat_tokens",
    "encode_chat",
    "encode_prompt",
    "left_to_right",
    "make_batch",
    "pad_left",
    "pad_right",
    "show_mask",
]

EXAMPLE = "spell kapi backwards"  # what the smoke preset asks
CUT_OFF = " [...]"  # behind a reply that has no end


@dataclass(frozen=True)
class Assistant:
    """A policy, its tokenizer and how it chooses its words."""

    model: GPT
    tokenizer: Tokenizer
    sampling: Sampling
    max_new: int  # most tokens of a reply
    seed: int  # of the first reply; the next ones count up
    shows_mask: bool = False  # print whole rows, with what a training would train in color

    def answer(self, lines: Sequence[str], before: int = 0) -> tuple[list[str], int]:
        """Replies to lines, all at once; says on stderr which cannot be answered, and why.

        Args:
            lines: a request each.
            before: how many lines were answered before these.

        Returns:
            What to print for each line, empty for one that cannot be answered; how many those are.
        """
        prompts: list[list[int] | None] = []
        for number, line in enumerate(lines, start=before + 1):
            try:
                prompts.append(self._encode(line))
            except ValueError as error:
                prompts.append(None)
                print(f"line {number}: {one_line(error)}", file=sys.stderr, flush=True)
        shown = [
            "" if prompt is None else self._show(prompt, reply)
            for prompt, reply in zip(prompts, self._write(prompts, before), strict=True)
        ]
        return shown, prompts.count(None)

    def _encode(self, line: str) -> list[int]:
        """Returns the prompt of a line."""
        if not line.strip():
            raise ValueError("the line is blank: nothing is asked. Write a request.")
        return encode_prompt(check_text(line), self.tokenizer, self.model.config.max_len)

    def _write(self, prompts: list[list[int] | None], before: int) -> list[list[int]]:
        """Returns the tokens of the replies; ``<end>`` is the last if the reply came to it."""
        nothing = encode_prompt("", self.tokenizer)  # holds a row's place, so that each line
        rows = [prompt or nothing for prompt in prompts]  # draws with a seed of its own
        end, seed = chat_tokens(self.tokenizer)[END], self.seed + before
        written = generate(self.model, rows, self.max_new, self.sampling, seed=seed, stop=(end,))
        replies = []
        for row, reply in zip(rows, written, strict=True):
            if len(reply) < self.max_new:
                reply = [*reply, end]  # ``generate`` leaves the stop token out
            replies.append(reply[: self.model.config.max_len - len(row)])
        return replies

    def _show(self, prompt: list[int], reply: list[int]) -> str:
        """Returns a reply as text, or the whole row with its mask."""
        ended = bool(reply) and reply[-1] == chat_tokens(self.tokenizer)[END]
        if self.shows_mask:
            mask = [False] * len(prompt) + [True] * len(reply)
            return show_mask([*prompt, *reply], mask, self.tokenizer, sys.stdout.isatty())
        return self.tokenizer.decode(reply[:-1] if ended else reply) + ("" if ended else CUT_OFF)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Talk to a tuned model: type, pipe or give a request.")
    add_checkpoint(parser)
    parser.add_argument("--prompt", nargs="+", metavar="TEXT", help="requests; none reads lines")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy, 1 samples")
    parser.add_argument("--max-new", type=int, default=32, help="most tokens of a reply")
    parser.add_argument("--seed", type=int, default=0, help="of the replies, if they are sampled")
    parser.add_argument("--show-mask", action="store_true",
                        help="print the whole row; what is trained on in color")  # fmt: skip
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: an untrained model"
    )
    add_device(parser, "where")
    return parser


def open_assistant(args: argparse.Namespace) -> Assistant:
    """Loads what the command line names."""
    if args.max_new < 1:
        raise ValueError(f"--max-new {args.max_new} leaves no token for a reply. Use 1 or more.")
    sampling = Sampling(temperature=args.temperature)
    if args.checkpoint is None and args.preset != "smoke":
        raise missing_checkpoint("to talk to", "instruction_tuning/sft_trainer.py")
    if args.checkpoint is None:
        tokenizer: Tokenizer = build_tokenizer()
        model = GPT(GPTConfig(tokenizer.vocab_size, max_len=64, d_model=32, n_layers=2, d_ff=64))
    else:
        # Here, because the trainers' files import the template from this one.
        from instruction_tuning.saved_model import load_policy

        model, tokenizer = load_policy(args.checkpoint)
    model = model.to(pick_device(args.device))
    return Assistant(model, tokenizer, sampling, args.max_new, args.seed, args.show_mask)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the replies; returns 2 if a piped line could not be answered, else 0."""
    args = build_parser().parse_args(argv)
    assistant = open_assistant(args)
    tune_cpu()
    given = args.prompt or ([EXAMPLE] if args.preset == "smoke" else None)
    if given:
        shown, failures = assistant.answer(given)
        print("\n".join(shown))
        return USER_ERROR if failures else 0
    count = failures = 0
    for lines in read_lines(Texts(Path(__file__).parent).get("chat.type")):
        shown, failed = assistant.answer(lines, count)
        print("\n".join(shown), flush=True)
        count, failures = count + len(lines), failures + failed
    typed = sys.stdin is not None and sys.stdin.isatty()
    return USER_ERROR if failures and not typed else 0


if __name__ == "__main__":
    run_entry(main)
