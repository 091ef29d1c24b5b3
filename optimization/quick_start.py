"""Smaller and faster in about a minute, offline: a teacher, and what each technique makes of it.

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

from gpt.gpt_config import parameter_count
from gpt.gpt_model import GPT
from gpt.int8_weights import error_bound, quantize_rows
from gpt.text_data import TextData
from optimization.optimization_config import FAMILY, PRESETS, TEACHERS
from optimization.optimization_figures import techniques_figure
from optimization.pruning import prune, remove_neurons, retrain
from optimization.quantized_model import FORMATS, load_stored, save_model
from optimization.teacher import find_teacher, load_data
from optimization.techniques import Row, contestants, measure, prompts_of
from optimization.train_student import train_student
from tutorial_kit.compute import prepare_device
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

SCORED = {"smoke": 2_000, "quick": 30_000}  # tokens of the test split that the table reads
RETRAINED = {"smoke": 1, "quick": 25}  # steps after pruning
LEFT_OUT = 0.5  # share of weights, and of neurons, that is pruned


@dataclass(frozen=True)
class QuickNumbers:
    """What the demo measures."""

    rows: tuple[Row, ...]  # the table; the first row is the teacher as it was trained
    size_share: float  # int8 file over float32 file
    files: tuple[Path, ...]

    def row(self, name: str) -> Row:
        """Returns the row of that name."""
        return next(row for row in self.rows if row.name == name)

    @property
    def rise(self) -> float:
        """By how much int8 weights raise the teacher's perplexity, in percent."""
        return 100 * (self.row("int8").perplexity / self.rows[0].perplexity - 1)


def show_rounding(teacher: GPT, tokens: torch.Tensor, texts: Texts) -> None:
    """Prints one output of one layer, exact and rounded, beside the bound of its error."""
    weight = teacher.head.weight.detach()  # (V, D)
    integers, scales = quantize_rows(weight)
    with torch.no_grad():
        hidden = teacher.hidden(tokens[None, : teacher.config.max_len])  # (1, T, D)
        x = teacher.final_norm(hidden)[0, -1]  # (D,)
    error = (x @ (integers * scales[:, None]).T - x @ weight.T).abs()  # (V,)
    token = int(error.argmax())
    texts.say(
        "quick.rounding", weights=weight.shape[1], step=scales[token], error=error[token],
        bound=error_bound(x, scales)[token], score=x @ weight[token],
    )  # fmt: skip


def store(teacher: GPT, folder: Path, texts: Texts) -> tuple[float, list[Path]]:
    """Writes the teacher in every number format and reads it back; returns the int8 share."""
    paths = [folder / f"teacher_{name}.safetensors" for name in FORMATS]
    sizes = [save_model(path, teacher, name) for path, name in zip(paths, FORMATS, strict=True)]
    again = load_stored(paths[-1])
    same = torch.equal(
        quantize_rows(again.head.weight.detach())[0], quantize_rows(teacher.head.weight.detach())[0]
    )
    rows = [
        (name, round(size / 1e6, 3), round(size / sizes[0], 3))
        for name, size in zip(FORMATS, sizes, strict=True)
    ]
    table = format_table(["numbers", "MB", "share"], rows)
    texts.say("quick.stored", table=table, same=texts.get("quick.same" if same else "quick.other"))
    return sizes[-1] / sizes[0], paths


def prune_teacher(teacher: GPT, data: TextData, preset: str, seed: int) -> dict[str, GPT]:
    """Returns the teacher without half its block weights, and without half its neurons."""
    steps = RETRAINED[preset]
    sparse, masks = prune(teacher, LEFT_OUT)
    retrain(sparse, data, steps, masks=masks, seed=seed + 1)
    narrow = remove_neurons(teacher, LEFT_OUT)
    retrain(narrow, data, steps, seed=seed + 1)
    share = f"{LEFT_OUT:.0%}".replace("%", " %")
    return {f"{share} weights zero": sparse, f"{share} neurons out": narrow}


def train_students(teacher: GPT, data: TextData, preset: str, seed: int, device: str,
                   texts: Texts) -> tuple[dict[str, GPT], Path]:  # fmt: skip
    """Trains a student alone and one with the teacher; same start, same minibatches."""
    config = replace(PRESETS[preset], seed=seed)
    students, folder = {}, Path()
    for name, weight in (("student alone", 0.0), ("student, taught", config.soft_weight)):
        texts.say("quick.student", name=name)
        run = "alone" if not weight else "taught"
        folder = run_folder(FAMILY, f"quick_start_{preset}_{run}")
        result = train_student(
            replace(config, soft_weight=weight), data, teacher, folder, device=device
        )
        students[name] = result.model.cpu()
    return students, folder


def tell(preset: str, seed: int, device: str, texts: Texts) -> QuickNumbers:
    """Tells the story and returns its numbers.

    Args:
        preset: "quick" or "smoke".
        seed: of all trainings.
        device: where to train; everything is measured on the CPU.
        texts: the words.
    """
    config = PRESETS[preset]
    prepare_device(device, config.threads)
    data = load_data(config)
    texts.say("quick.teacher", train=data.n_bytes["train"] / 1e6, steps=TEACHERS[preset].max_steps)
    teacher = find_teacher(config.teacher, data, seed, device)
    folder = run_folder(FAMILY, f"quick_start_{preset}")
    test = data.tokens["test"][: SCORED[preset]]
    texts.say("quick.scored", parameters=parameter_count(teacher.config), tokens=len(test))
    show_rounding(teacher, test, texts)
    share, files = store(teacher, folder, texts)
    texts.say("quick.pruning", share=LEFT_OUT, steps=RETRAINED[preset])
    pruned = prune_teacher(teacher, data, preset, seed)
    students, student = train_students(teacher, data, preset, seed, device, texts)

    texts.say("quick.measuring")
    rows = measure(contestants(teacher, students, pruned, prompts_of(test)), test)
    table = format_table(
        ["technique", "MB", "perplexity", "tokens/s", "times as fast"],
        [(row.name, round(row.megabytes, 2), round(row.perplexity, 2), round(row.tokens_per_s),
          round(row.ratio, 2)) for row in rows],
    )  # fmt: skip
    texts.say("quick.table", table=table)
    figure = save_figure(techniques_figure(rows), folder / "figures" / "techniques.png")
    written = (figure, *files, student / "checkpoints" / "last.pt")
    texts.say("quick.files", files="\n".join(f"   {path}" for path in written))
    texts.say("quick.next")
    return QuickNumbers(tuple(rows), share, written)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("Smaller and faster models in about a minute, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    numbers = tell(args.preset, args.seed, args.device, texts)
    return DemoResult(
        family=FAMILY,
        learned=texts.get("demo.learned"),
        headline=texts.get(
            "demo.headline", share=numbers.size_share, rise=numbers.rise,
            taught=numbers.row("student, taught").perplexity,
            alone=numbers.row("student alone").perplexity,
        ),
        value=numbers.size_share,
        unit="x",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in numbers.files),
    )  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
