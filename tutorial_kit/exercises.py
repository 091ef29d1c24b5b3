"""Exercises that check themselves: a task, a function to write, hints, a check, a solution.

A family has three files. ``exercises.py`` holds a function for each exercise that raises
``NotImplementedError`` until a learner has written it; ``exercise_checks.py`` the calls each is
tried with and what they must return (``exercise_cases``); ``exercise_solutions.py`` one way to
write them. The prose is in the family's texts: ``exercise.FUNCTION.title``, ``.task``, ``.hint.1``,
``.hint.2``, ... and ``.clue.NAME``, which a failed check ends with.
"""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, format_table
from tutorial_kit.exercise_cases import Exercise, find_fault
from tutorial_kit.texts import Texts

WIDTH = 96  # of a line of prose, characters


class ExerciseBook:
    """A family's exercises and what the command line does with them."""

    def __init__(
        self,
        family: str,
        exercises: Sequence[Exercise],
        attempts: Mapping[str, Any],
        solutions: ModuleType,
    ) -> None:
        """Reads the texts.

        Args:
            family: the package, such as "gpt".
            exercises: numbered from 1.
            attempts: name -> function, the globals of the family's ``exercises.py``.
            solutions: the module with the solutions.
        """
        self.family, self.exercises = family, exercises
        self.attempts, self.solutions = attempts, solutions
        self.file, self.command = f"{family}/exercises.py", f"python -m {family}.exercises"
        self.texts = Texts(PROJECT_ROOT / family)

    def text(self, exercise: Exercise, part: str) -> str:
        """Returns a text of an exercise."""
        return self.texts.get(f"exercise.{exercise.function}.{part}")

    def find(self, number: int) -> Exercise:
        """Returns an exercise.

        Raises:
            ValueError: there is none of that number.
        """
        for exercise in self.exercises:
            if exercise.number == number:
                return exercise
        raise ValueError(
            f"exercise {number} does not exist: {self.family} has 1 to {len(self.exercises)}. "
            f"Choose one: {self.command} list"
        )

    def attempt(self, exercise: Exercise) -> Callable[..., Any]:
        """Returns what the learner wrote.

        Raises:
            ValueError: the function is no longer there.
        """
        found = self.attempts.get(exercise.function)
        if not callable(found):
            raise ValueError(
                f"{self.file} has no function {exercise.function} any more: exercise "
                f"{exercise.number} is checked by that name. Write it again under this name."
            )
        return found

    def print_list(self) -> int:
        """Prints what there is."""
        rows = [(e.number, e.level, self.text(e, "title"), e.function) for e in self.exercises]
        print(format_table(["n", "level", "exercise", "function"], rows))
        print(f"\nYou write them in {self.file}. Begin with: {self.command} show 1")
        return 0

    def show(self, exercise: Exercise) -> int:
        """Prints the task and the function as it stands."""
        title, task = self.text(exercise, "title"), self.text(exercise, "task")
        print(f"{exercise.number}. {title} ({exercise.level})\n\n{wrapped(task)}\n")
        source, line = inspect.getsourcelines(self.attempt(exercise))
        print(f"{self.file}, line {line}:\n\n{textwrap.indent(''.join(source), '    ')}")
        print(f"Then: {self.command} check {exercise.number}")
        return 0

    def hint(self, exercise: Exercise, which: int) -> int:
        """Prints a hint and how to get the next.

        Raises:
            ValueError: there are not so many.
        """
        count = 0
        while f"exercise.{exercise.function}.hint.{count + 1}" in self.texts.templates:
            count += 1
        again = f"{self.command} hint {exercise.number}"
        if not 1 <= which <= count:
            raise ValueError(
                f"hint {which} does not exist: exercise {exercise.number} has 1 to {count}. "
                f"Ask for the first, {again}, or see {self.command} solution {exercise.number}"
            )
        print(wrapped(f"Hint {which} of {count}: {self.text(exercise, f'hint.{which}')}"))
        if which < count:
            print(f"Another: {again} {which + 1}")
        return 0

    def check(self, exercises: Iterable[Exercise]) -> int:
        """Prints PASS or FAIL for each; returns 1 if any failed."""
        failed = 0
        for exercise in exercises:
            if fault := find_fault(exercise, self.attempt(exercise)):
                failed += 1
                clue = f" {self.text(exercise, f'clue.{fault.clue}')}" if fault.clue else ""
                more = f"{self.command} {'hint' if clue else 'show'} {exercise.number}"
                print(f"FAIL  {exercise.number}  {fault.text}.{clue} More: {more}")
            else:
                count = sum(1 for _ in exercise.cases())
                print(f"PASS  {exercise.number}  {exercise.function}: all {count} cases")
        return int(failed > 0)

    def solution(self, exercise: Exercise) -> int:
        """Prints one way to write the function."""
        print(inspect.getsource(getattr(self.solutions, exercise.function)).rstrip())
        return 0


def wrapped(text: str) -> str:
    """Folds every paragraph of a text at the width of a line."""
    return "\n".join(textwrap.fill(line, WIDTH) for line in text.split("\n"))


def exercises_parser(family: str) -> argparse.ArgumentParser:
    """Returns the command line of a family's ``exercises.py``."""
    parser = OneLineParser(description=f"Exercises of {family} that check themselves.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, meaning in (
        ("list", "what there is; also without a command"),
        ("show", "print a task"),
        ("hint", "print a hint"),
        ("check", "try what you wrote; all exercises if no number is given"),
        ("solution", "print one way to write it"),
    ):
        command = commands.add_parser(name, help=meaning, description=f"{meaning}.")
        if name != "list":
            many = "?" if name == "check" else None
            command.add_argument("number", type=int, nargs=many, help="of the exercise, from 1")
        if name == "hint":
            command.add_argument("which", type=int, nargs="?", default=1, help="hint, from 1")
    return parser


def run_exercises(args: argparse.Namespace, book: ExerciseBook) -> int:
    """Does what was asked; returns the exit code: 1 if a check failed, else 0.

    Args:
        args: of ``exercises_parser``.
        book: the family's exercises.

    Raises:
        ValueError: there is no exercise or hint of that number.
    """
    if args.command in (None, "list"):
        return book.print_list()
    if args.command == "check" and args.number is None:
        return book.check(book.exercises)
    exercise = book.find(args.number)
    if args.command == "check":
        return book.check([exercise])
    if args.command == "hint":
        return book.hint(exercise, args.which)
    return book.show(exercise) if args.command == "show" else book.solution(exercise)
