"""Use word vectors: the nearest words, analogies, the odd one out.

    python cbow/cbow_example.py --run NAME matrix "matrices - matrix + vector" "red blue axis green"
    python cbow/cbow_example.py --vectors FILE < queries.txt

NAME is a run of ``cbow_trainer``, FILE has the text or binary format of word2vec. The form of a
query says what is asked: one word for its neighbors; words with + and - for the words nearest to
their sum; two words for their cosine; three or more for the odd one out. Without queries, lines are
read from the input. A query that cannot be answered gives one line on stderr that says why; the
others go on, and the exit code is 2.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cbow.embeddings import Embeddings, Method, toy_embeddings
from tutorial_kit.console import USER_ERROR, OneLineParser, one_line, run_entry
from tutorial_kit.text_input import check_text, read_lines
from tutorial_kit.texts import Texts

__all__ = ["answer", "build_parser", "main", "open_vectors", "parse_sum"]

EXAMPLES = ("king", "king - man + woman", "king queen", "king queen prince apple")
_SIGN_OR_WORD = re.compile(
    r"(?<!\S)[+-]|\S+"
)  # a sign stands behind white space, "well-known" is a word


def answer(embeddings: Embeddings, query: str, n: int = 5, method: Method = "add") -> str:
    """Answers one query; its form says what is asked.

    Args:
        embeddings: the vectors.
        query: one word, words with + and -, or several words.
        n: how many neighbors.
        method: of analogies, "add" for 3CosAdd or "mul" for 3CosMul.

    Returns:
        One line: the query, a colon, the answer.

    Raises:
        ValueError: the query is empty or of no known form, or a word is unknown.

    >>> from cbow.embeddings import toy_embeddings
    >>> answer(toy_embeddings(), "king - man + woman", n=1)
    'king - man + woman: queen 0.99'
    """
    parts = [part.strip(",") for part in _SIGN_OR_WORD.findall(query)]
    parts = [part for part in parts if part]
    if not parts:
        raise ValueError("the query has no word: nothing is asked. Type one word or more.")
    if "+" in parts or "-" in parts:
        positive, negative = parse_sum(parts)
        found = embeddings.nearest_to_sum(positive, negative, n, method)
    elif len(parts) == 1:
        found = embeddings.most_similar(parts[0], n)
    elif len(parts) == 2:
        return f"{query.strip()}: cosine {embeddings.similarity(*parts):.2f}"
    else:
        return f"{query.strip()}: {embeddings.odd_one_out(parts)}"
    return f"{query.strip()}: " + ", ".join(f"{word} {score:.2f}" for word, score in found)


def parse_sum(parts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sorts the words of a sum by their signs.

    Args:
        parts: words with "+" or "-" between them, and perhaps before the first.

    Returns:
        The words that are added, and those that are taken away.

    Raises:
        ValueError: words or signs do not take turns, or nothing is added.

    >>> parse_sum("king - man + woman".split())
    (['king', 'woman'], ['man'])
    """
    signed = list(parts) if parts[0] in "+-" else ["+", *parts]
    signs, words = signed[::2], signed[1::2]
    if len(signs) != len(words) or set(signs) - set("+-") or set(words) & set("+-"):
        raise ValueError(
            f"{' '.join(parts)!r} is no sum: between two words stands one + or -. Write it as: "
            "king - man + woman."
        )
    pairs = list(zip(signs, words, strict=True))
    return [w for sign, w in pairs if sign == "+"], [w for sign, w in pairs if sign == "-"]


def open_vectors(args: argparse.Namespace) -> Embeddings:
    """Opens what the command line names.

    Raises:
        FileNotFoundError: there is no such run or file.
        ValueError: none is named, or it cannot be read.
    """
    if args.run is not None:
        from cbow.saved_vectors import load_run

        return load_run(args.run)
    if args.vectors is not None:
        from cbow.vector_files import load_vectors

        return Embeddings(*load_vectors(args.vectors))
    if args.preset == "smoke":
        return toy_embeddings()
    raise ValueError(
        "neither --run nor --vectors was given: there are no word vectors to ask. Train some with "
        "python cbow/cbow_trainer.py, then name the run."
    )


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Ask word vectors for neighbors and analogies.")
    parser.add_argument(
        "queries", nargs="*", metavar="QUERY",
        help="a word; 'king - man + woman'; several words; none reads lines",
    )  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--run", type=Path, metavar="NAME", help="run of cbow_trainer: name or folder"
    )
    which.add_argument("--vectors", type=Path, metavar="FILE",
                       help="vectors in word2vec's text or binary format")  # fmt: skip
    parser.add_argument("--top", type=int, default=5, help="answers to each query")
    parser.add_argument("--method", choices=["add", "mul"], default="add",
                        help="analogies by sums (3CosAdd) or products (3CosMul) of cosines")  # fmt: skip # noqa: E501
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: ten words made by hand"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the answers; returns 2 if a query could not be answered, else 0."""
    args = build_parser().parse_args(argv)
    if args.top < 1:
        raise ValueError(f"--top {args.top} asks for no word. Use 1 or more.")
    embeddings = open_vectors(args)
    smoke = args.preset == "smoke" and args.run is None and args.vectors is None
    queries = args.queries or (EXAMPLES if smoke else None)
    if queries is not None:
        failed = [not _print_answer(embeddings, query, args) for query in queries]
        return USER_ERROR if any(failed) else 0
    return _answer_input(embeddings, args)


def _print_answer(
    embeddings: Embeddings, query: str, args: argparse.Namespace, where: str = "error"
) -> bool:
    """Prints the answer, or on stderr why there is none; returns whether there is one."""
    try:
        print(answer(embeddings, check_text(query), args.top, args.method), flush=True)
        return True
    except ValueError as error:
        print(f"{where}: {one_line(error)}", file=sys.stderr, flush=True)
        return False


def _answer_input(embeddings: Embeddings, args: argparse.Namespace) -> int:
    """Answers every line of the standard input that is not blank; returns the exit code."""
    number = asked = failures = 0
    for lines in read_lines(Texts(Path(__file__).parent).get("example.type")):
        for line in lines:
            number += 1
            if line.strip():
                asked += 1
                failures += not _print_answer(embeddings, line, args, f"line {number}")
    if not asked:
        raise ValueError("the input has no query: nothing is asked. Type or pipe a word a line.")
    typed = sys.stdin is not None and sys.stdin.isatty()
    return USER_ERROR if failures and not typed else 0


if __name__ == "__main__":
    run_entry(main)
