"""Write text with a trained GPT: one prompt or a batch of any lengths, whole or token by token.

The strategies are in ``sampling``, the rule for long texts in ``context_window``, what makes it
fast in ``kv_cache`` and ``packed_weights``. Two more ways have files of their own: ``beam_search``
and ``speculative``.

    python gpt/generation.py --checkpoint outputs/gpt/standard --prompt "Returns the" --top-p 0.9
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gpt.beam_search import beam_search
from gpt.context_window import Context
from gpt.generation_config import PRESETS, SMOKE_TEXT, GenerationConfig, build_parser
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from gpt.sampling import GREEDY, Dice, Sampling, choose
from gpt.speculative import speculate
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_from_dict, read_config
from tutorial_kit.console import run_entry
from tutorial_kit.device import pick_device
from tutorial_kit.saved_runs import find_run, load_weights, missing_checkpoint
from tutorial_kit.tokenizers import (
    UNKNOWN,
    CharTokenizer,
    StreamDecoder,
    Tokenizer,
    tokenizer_from_dict,
)

__all__ = [
    "GREEDY",
    "Sampling",
    "build_parser",
    "generate",
    "generate_text",
    "load_model",
    "main",
    "stream",
    "stream_batch",
]


def stream_batch(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_new: int,
    sampling: Sampling = GREEDY,
    *,
    seed: int = 0,
    stop: Collection[int] = (),
    use_cache: bool = True,
) -> Iterator[dict[int, int]]:
    """Continues every prompt by one token at a time.

    Row i draws with the seed ``seed + i`` and nothing else of it depends on its neighbors, so a
    batch writes what its prompts would write one by one.

    Args:
        model: the model; for speed, one that ``pack_weights`` has prepared.
        prompts: token ids of each row; the lengths may differ.
        max_new: most tokens to write, per row.
        sampling: the strategy.
        seed: the same seed writes the same text.
        stop: token ids that end their row; they are not part of the text.
        use_cache: False is the slow reference.

    Yields:
        For each step {row: token} of the rows that go on.

    Raises:
        ValueError: a prompt is empty, longer than the context window, or has foreign ids.
    """
    context = Context(model, prompts, use_cache=use_cache)
    rows = list(range(len(prompts)))  # the prompts that are still being continued
    dice = Dice(seed, len(prompts))
    seen = None
    if sampling.repetition_penalty != 1.0:
        seen = torch.zeros(len(rows), model.config.vocab_size, dtype=torch.bool)
        for row, prompt in zip(seen, prompts, strict=True):
            row[torch.as_tensor(prompt)] = True
    for _ in range(max_new):
        tokens = choose(context.scores()[:, -1], sampling, dice, rows, seen)
        going = [i for i, token in enumerate(tokens) if token not in stop]
        if not going:
            return
        if len(going) < len(rows):
            context.select(going)
            rows, tokens = [rows[i] for i in going], [tokens[i] for i in going]
            seen = seen[going] if seen is not None else None
        yield dict(zip(rows, tokens, strict=True))
        context.append(tokens)
        if seen is not None:
            seen.scatter_(1, torch.tensor(tokens)[:, None], True)


def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]] | Tensor,
    max_new: int,
    sampling: Sampling = GREEDY,
    *,
    seed: int = 0,
    stop: Collection[int] = (),
    use_cache: bool = True,
) -> list[list[int]]:
    """Returns the new tokens of every prompt; arguments as ``stream_batch``.

    >>> from gpt.gpt_model import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=10, d_model=8, n_heads=2, n_kv_heads=2, n_layers=1))
    >>> [len(row) for row in generate(model, [[1, 2, 3], [4]], max_new=5)]
    [5, 5]
    """
    rows = prompts.tolist() if isinstance(prompts, Tensor) else prompts
    written: list[list[int]] = [[] for _ in rows]
    for step in stream_batch(
        model, rows, max_new, sampling, seed=seed, stop=stop, use_cache=use_cache
    ):
        for row, token in step.items():
            written[row].append(token)
    return written


def stream(
    model: GPT,
    prompt: Sequence[int],
    max_new: int,
    sampling: Sampling = GREEDY,
    *,
    seed: int = 0,
    stop: Collection[int] = (),
    use_cache: bool = True,
) -> Iterator[int]:
    """Yields the new tokens of one prompt as they are chosen; arguments as ``stream_batch``."""
    for step in stream_batch(
        model, [prompt], max_new, sampling, seed=seed, stop=stop, use_cache=use_cache
    ):
        yield step[0]


def generate_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    max_new: int,
    sampling: Sampling = GREEDY,
    *,
    seed: int = 0,
    stop: Collection[int] = (),
) -> str:
    """Returns the continuation of a text, without the text.

    Raises:
        ValueError: the prompt is empty, too long, or has a character the vocabulary lacks.
    """
    tokens = tokenizer.encode(prompt)
    return tokenizer.decode(generate(model, [tokens], max_new, sampling, seed=seed, stop=stop)[0])


def load_model(path: Path | str) -> tuple[GPT, Tokenizer]:
    """Loads what ``train_gpt`` has saved, ready to write.

    Args:
        path: a checkpoint file, a run's folder, or a run's name under outputs/gpt/.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read, or is not a GPT's.
    """
    path = find_run("gpt", path)
    checkpoint = load_checkpoint(path, family="gpt")
    model = GPT(config_from_dict(GPTConfig, checkpoint["config"]["model"]))
    load_weights(model, checkpoint["state"]["model"], path)
    return model.eval(), tokenizer_from_dict(checkpoint["state"]["tokenizer"])


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the prompt and its continuations while they are written."""
    args = build_parser().parse_args(argv)
    config = read_config(GenerationConfig, PRESETS, args)
    device = pick_device(args.device)
    if args.checkpoint is None and args.preset != "smoke":
        raise missing_checkpoint("to write with", "gpt/train_gpt.py")
    if args.checkpoint is None:
        tokenizer: Tokenizer = CharTokenizer.from_text(SMOKE_TEXT + args.prompt)
        model = GPT(GPTConfig(tokenizer.vocab_size, max_len=64, d_model=32, n_layers=2, d_ff=64))
    else:
        model, tokenizer = load_model(args.checkpoint)
    model = pack_weights(model.to(device), args.weights)
    draft = pack_weights(load_model(args.draft)[0].to(device), args.weights) if args.draft else None
    prompt = tokenizer.encode(args.prompt)
    if args.crop:
        prompt = prompt[-model.config.max_len :]
    stop = _stop_tokens(tokenizer, args.stop)
    for sample in range(config.samples):
        if sample:
            print("---")
        started, count = time.perf_counter(), 0
        decoder = StreamDecoder(tokenizer)
        for token in _write(model, draft, prompt, stop, config, config.seed + sample):
            print("" if count else args.prompt, decoder.push(token), sep="", end="", flush=True)
            count += 1
        rate = count / (time.perf_counter() - started)
        print(f"{decoder.finish()}\n[{count} tokens, {rate:.0f} tokens/s]", flush=True)


def _write(
    model: GPT,
    draft: GPT | None,
    prompt: list[int],
    stop: set[int],
    config: GenerationConfig,
    seed: int,
) -> Iterable[int]:
    """Returns the tokens of one continuation by the way of writing that the settings ask for."""
    if config.beams:
        return beam_search(
            model, prompt, config.max_new, config.beams, config.length_penalty, stop
        )[0].tokens
    if draft is not None:
        result = speculate(
            model, draft, prompt, config.max_new, config.sampling, seed=seed, stop=stop,
            draft_tokens=config.draft_tokens,
        )  # fmt: skip
        print(f"[{result.acceptance:.0%} of the draft's tokens accepted]")
        return result.tokens
    return stream(
        model, prompt, config.max_new, config.sampling, seed=seed, stop=stop,
        use_cache=config.use_cache,
    )  # fmt: skip


def _stop_tokens(tokenizer: Tokenizer, text: str) -> set[int]:
    """Returns the tokens that end a text: those of ``special_tokens``, and the user's."""
    special = {id for name, id in tokenizer.special_tokens.items() if name != UNKNOWN}
    wanted = tokenizer.encode(text) if text else []
    if len(wanted) > 1:
        raise ValueError(
            f"--stop {text!r} is {len(wanted)} tokens: writing stops at a single one. "
            "Use a text that is one token, such as a line break."
        )
    return special | set(wanted)


if __name__ == "__main__":
    run_entry(main)
