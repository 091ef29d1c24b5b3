"""The tables of ``evaluate.py``, ``quick_start.py`` and ``run_examples.py``: numbers as text.

A policy's numbers are those of ``Scores.numbers``, a reward model's those of
``stage_measures.measure_reward_model``.
"""

from __future__ import annotations

from collections.abc import Mapping

from tutorial_kit.console import format_table

Named = Mapping[str, Mapping[str, float]]
"""Label -> numbers."""


def scores_table(named: Named) -> str:
    """Returns a table of policies: exact match greedy and at T=1, judge, chatter, KL, length.

    What was not measured of a policy, such as its KL without a reference, is a dash.
    """
    columns = {
        "exact %": ("exact", 100, 1),
        "exact % T=1": ("exact_sampled", 100, 1),
        "judge T=1": ("judge_sampled", 1, 3),
        "chatter % T=1": ("chatter", 100, 1),
        "KL (nats)": ("kl", 1, 2),
        "tokens": ("length", 1, 1),
        "seconds": ("wall_seconds", 1, 1),
    }
    there = {
        title: column
        for title, column in columns.items()
        if any(column[0] in numbers for numbers in named.values())
    }
    rows = [
        (label, *(_shown(numbers, *column) for column in there.values()))
        for label, numbers in named.items()
    ]
    return format_table(["model", *there], rows)


def _shown(numbers: Mapping[str, float], name: str, factor: float, digits: int) -> str:
    """Returns a number as text of a fixed number of decimals, so that a column lines up."""
    if name not in numbers:
        return "-".rjust(5)
    return f"{factor * numbers[name]:.{digits}f}".rjust(5)


def tasks_table(named: Named) -> str:
    """Returns a table of tasks: exact match in %, greedy and at T=1, two columns a policy."""
    prefixes = {"": "task.", " T=1": "task_sampled."}
    tasks = [name.removeprefix("task.") for name in next(iter(named.values()))
             if name.startswith("task.")]  # fmt: skip
    headers = ["task", *(label + kind for label in named for kind in prefixes)]
    rows = [
        (task, *(round(100 * numbers[prefix + task], 1)
                 for numbers in named.values() for prefix in prefixes.values()))
        for task in tasks
    ]  # fmt: skip
    return format_table(headers, rows)


def samples_table(numbers: Mapping[str, float]) -> str:
    """Returns a table over n: pass@n, and best-of-n if a reward model has chosen.

    Args:
        numbers: "pass.n", and maybe "best_of.n" and "judge_of.n".
    """
    sizes = sorted(int(name.removeprefix("pass.")) for name in numbers if name.startswith("pass."))
    columns = {"pass@n %": ("pass", 100, 1), "best-of-n %": ("best_of", 100, 1),
               "its judge": ("judge_of", 1, 3)}  # fmt: skip
    there = {title: c for title, c in columns.items() if f"{c[0]}.{sizes[0]}" in numbers}
    rows = [
        (n, *(round(factor * numbers[f"{name}.{n}"], digits)
              for name, factor, digits in there.values()))
        for n in sizes
    ]  # fmt: skip
    return format_table(["n", *there], rows)
