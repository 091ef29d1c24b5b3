"""Guess the bug: a curve in the terminal, four answers, and then the line that was changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from benchmarks.pitfall_curves import Curves, ending
from benchmarks.pitfall_exhibits import EXHIBITS, Exhibit
from benchmarks.pitfall_stages import STAGES

CHOICES = 4
WIDTH, HEIGHT = 60, 14  # of the plot, characters
MARKS = {
    "validation without the bug": ".",
    "training with it": "t",
    "validation with it": "V",
}
HELP = f"1 to {CHOICES}, ? for the symptom, q to end"


def plot(series: Mapping[str, Sequence[float]], width: int = WIDTH, height: int = HEIGHT) -> str:
    """Draws curves with characters.

    Args:
        series: mark of one character -> values, one for each evaluation; later marks lie on top.
        width: characters of the plot.
        height: lines of the plot.

    Returns:
        Lines with an axis of values at the left. What lies above the largest first value by more
        than a tenth is drawn in the top line.

    >>> print(plot({"a": [2.0, 1.0, 0.0], "b": [2.0, 2.0, 2.0]}, 5, 3))
     2.20 |b b b
          |  a
     0.00 |    a
    """
    top = 1.1 * max(values[0] for values in series.values())
    low = min(0.0, *(min(values) for values in series.values()))
    grid = [[" "] * width for _ in range(height)]
    for mark, values in series.items():
        for place, value in enumerate(values):
            column = round(place * (width - 1) / max(1, len(values) - 1))
            share = (min(value, top) - low) / (top - low)
            grid[round((1 - share) * (height - 1))][column] = mark
    scale = {0: f"{top:.2f}", height - 1: f"{low:.2f}"}
    return "\n".join(
        f"{scale.get(line, ''):>5} |{''.join(cells)}".rstrip() for line, cells in enumerate(grid)
    )


def question(exhibit: Exhibit, right: Sequence[Curves], wrong: Sequence[Curves]) -> str:
    """Returns what is shown before the guess: curves of the first seed, and the last numbers."""
    stage, (sound, buggy) = STAGES[exhibit.stage], (ending(right), ending(wrong))
    series = zip(
        MARKS.values(), (right[0].validation, wrong[0].train, wrong[0].validation), strict=True
    )
    legend = ", ".join(f"{mark} {name}" for name, mark in MARKS.items())
    return "\n".join(
        [
            f"{stage.label}: loss in nats over {right[0].steps[-1]} steps ({legend})",
            plot(dict(series)),
            f"at the end      {'without':>9}  {'with':>9}",
            f"  training      {sound.train:9.3f}  {buggy.train:9.3f}",
            f"  validation    {sound.validation:9.3f}  {buggy.validation:9.3f}",
            f"  {stage.used}, {stage.unit}: {sound.used:.3f} without, {buggy.used:.3f} with",
        ]
    )


def answer(name: str) -> str:
    """Returns what is shown behind the guess: the line, the reason, the test."""
    exhibit = EXHIBITS[name]
    lines = (f"    {line}" for line in exhibit.patch.diff.splitlines())
    return "\n".join([*lines, exhibit.why, f"caught by {exhibit.test}"])


def choices_for(name: str, dice: random.Random) -> list[str]:
    """Returns the right answer among others, in random order."""
    exhibit = EXHIBITS[name]
    others = [other for other in EXHIBITS if other != name]
    dice.shuffle(others)
    others.sort(
        key=lambda other: (
            (EXHIBITS[other].sign != exhibit.sign) + (EXHIBITS[other].stage != exhibit.stage)
        )
    )
    # Two of the same look or the same model, the rest from anywhere: neither hopeless nor easy.
    picked = [*others[:2], *dice.sample(others[2:], CHOICES - 3)]
    return dice.sample([name, *picked], CHOICES)


def quiz(
    names: Sequence[str],
    curves_of: Callable[[str], tuple[Sequence[Curves], Sequence[Curves]]],
    seed: int | None = None,
    ask: Callable[[str], str] = input,
) -> tuple[int, int]:
    """Asks about one exhibit after the other, until the input ends.

    Args:
        names: exhibits to ask about.
        curves_of: exhibit -> curves without and with its bug, one for each seed.
        seed: of the order and of the answers offered; None means another one each time.
        ask: shows a prompt and returns a line; raises EOFError where the input ends.

    Returns:
        How many were guessed right, and how many were answered.
    """
    dice = random.Random(seed)
    right = answered = 0
    for name in dice.sample(list(names), len(names)):
        offered = choices_for(name, dice)
        print(f"\n{question(EXHIBITS[name], *curves_of(name))}\n\nWhich bug is it?")
        for number, other in enumerate(offered, 1):
            print(f"  {number}  {EXHIBITS[other].title}")
        guess = _ask_until_answered(EXHIBITS[name].symptom, ask)
        if guess is None:
            break
        answered += 1
        right += offered[guess - 1] == name
        print("\nRight." if offered[guess - 1] == name else "\nNo.", EXHIBITS[name].title + ":")
        print(answer(name))
    print(f"\n{right} of {answered} right")
    return right, answered


def _ask_until_answered(symptom: str, ask: Callable[[str], str]) -> int | None:
    """Returns the number that was typed; None at the end of the input, or if someone wants out."""
    while True:
        try:
            typed = ask(f"{HELP}: ").strip().lower()
        except EOFError:
            print()
            return None
        if typed in ("q", "quit"):
            return None
        if typed.isdecimal() and 1 <= int(typed) <= CHOICES:
            return int(typed)
        print(symptom if typed == "?" else f"{typed!r} is no answer: type {HELP}.")
