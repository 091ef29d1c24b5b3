"""Measures how good ``cbow``'s vectors are, beside gensim's, counted ones and random ones.

Two texts, the documentation corpus and WikiText-2. Ours and gensim's Word2Vec train with the same
settings: CBOW, window 5, 5 negatives, 100 dimensions, 5 epochs, learning rate 0.1 (gensim's own
default, 0.025, is too small for so few epochs). Counting is PPMI and a truncated SVD of the same
window and dimensions. Everything is asked of everybody: analogies (3CosAdd), WordSim-353,
SimLex-999, and on the documentation purity. A margin is the mean over the seeds of the difference
of both sides.

Few of the rated words occur in documentation: there a score of similarity rests on some dozen
pairs, and random vectors have one, too.

A finished training is kept under ``outputs/cbow/experiments`` and not repeated; a change in the
code makes no new folder: then delete them.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import mean

from benchmarks.cbow_peers import PEER, build_peer, line_file, peer_embeddings, train_peer
from benchmarks.seed_measures import NO_GOAL, Goal, over_seeds, print_and_record
from benchmarks.timing import THREADS, prepare
from cbow.cbow_config import TrainConfig
from cbow.cbow_data import CBOWData, load_corpus
from cbow.cbow_trainer import train
from cbow.embeddings import Embeddings, random_embeddings
from cbow.evaluation import evaluate
from cbow.ppmi import counting_embeddings
from cbow.purity import homes_of, purity
from cbow.word_tests import load_tests
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.experiments import kept_outcome, variant_folder
from tutorial_kit.results import Result

FAMILY = "cbow"
OURS, COUNTED, RANDOM = "ours", "ppmi", "random"
SIDES = {OURS: "CBOW", PEER: "gensim's CBOW", COUNTED: "PPMI and SVD", RANDOM: "random vectors"}
TEXTS = {"documentation": "documentation corpus", "wikitext2": "WikiText-2"}
SCORES = {
    "analogies": "analogies, 3CosAdd",
    "wordsim": "WordSim-353, 100 Spearman",
    "simlex": "SimLex-999, 100 Spearman",
    "purity": "purity of the 10 nearest words",
}
COUNTS = {  # how much of each list a text's vocabulary knows
    "analogies_asked": ("analogies", "analogies whose words all have vectors"),
    "wordsim_pairs": ("pairs", "pairs of WordSim-353 whose words have vectors"),
    "simlex_pairs": ("pairs", "pairs of SimLex-999 whose words have vectors"),
}
VS_GENSIM: Goal = (-1.0, 0.0)  # points
VS_COUNTED: Goal = (0.0, 10.0)
SEEDS = (0, 1, 2, 3, 4, 5)
SETTINGS = TrainConfig()  # dataset and seed are put in


def scores_of(text: str) -> list[str]:
    """Returns what can be asked of a text's vectors."""
    return [name for name in SCORES if name != "purity" or text == "documentation"]


def _measures() -> dict[str, str]:
    found = {}
    for text, title in TEXTS.items():
        for score in scores_of(text):
            for side, who in SIDES.items():
                found[f"cbow.{text}.{score}_{side}"] = f"{title}, {SCORES[score]}: {who}"
            margin = f"{title}, {SCORES[score]}: CBOW minus"
            found[f"cbow.{text}.{score}_vs_{PEER}"] = f"{margin} gensim's"
            if score == "purity":
                found[f"cbow.{text}.{score}_vs_{COUNTED}"] = f"{margin} PPMI and SVD"
        for name, (_, meaning) in COUNTS.items():
            found[f"cbow.{text}.{name}"] = f"{title}: {meaning}"
    return found


MEASURES = _measures()


@lru_cache(maxsize=1)
def text_of(dataset: str, min_count: int) -> CBOWData:
    """Returns a text."""
    return load_corpus(dataset, min_count)


def learn(side: str, config: TrainConfig, data: CBOWData, folder: Path) -> Embeddings:
    """Makes the vectors of one side.

    Args:
        side: of ``SIDES``.
        config: the settings.
        data: the text.
        folder: for the run; of ours only the log stays.
    """
    words, width = data.vocabulary.words, config.model.d_model
    if side == RANDOM:
        return random_embeddings(words, width, config.seed)
    if side == COUNTED:
        return counting_embeddings(data.train, width, config.window, config.seed)
    if side == PEER:
        with line_file(data.train) as path:
            model = build_peer(config, path)
            train_peer(model, path, config.epochs)
        return peer_embeddings(model, words)
    result = train(config, data, folder, device="cpu")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return Embeddings(words, result.vectors)


def judge(embeddings: Embeddings, data: CBOWData) -> dict[str, float]:
    """Asks everything; returns the scores in percent and how much was asked.

    A correlation of fewer than three pairs does not exist and counts as 0.
    """
    found = evaluate(embeddings, load_tests())
    percent = found.percentages()
    scores = {name: percent[name] for name in ("analogies", "wordsim", "simlex")}
    scores = {name: 0.0 if math.isnan(value) else value for name, value in scores.items()}
    scores["analogies_asked"] = found.analogies.total.asked
    scores["wordsim_pairs"], scores["simlex_pairs"] = found.wordsim.found, found.simlex.found
    if data.labels()[0]:
        scores["purity"] = 100 * purity(embeddings, homes_of(data))
    return scores


def outcome(side: str, config: TrainConfig) -> dict[str, float]:
    """Returns the scores of one side; a finished training is not repeated."""
    data = text_of(config.dataset, config.min_count)
    sizes = [len(data.train.tokens), len(data.vocabulary)]
    folder = variant_folder(FAMILY, config, [f"benchmark {side}", sizes])

    def to_the_end() -> dict[str, float]:
        print(f"{side} on {config.dataset}, seed {config.seed}", flush=True)
        return judge(learn(side, config, data, folder), data)

    return kept_outcome(folder, to_the_end)


def measure(text: str, seeds: Sequence[int], config: TrainConfig = SETTINGS) -> list[Result]:
    """Trains all sides on a text and compares them; prints a table.

    Args:
        text: of ``TEXTS``.
        seeds: one training of each side for each.
        config: the settings of all sides.
    """
    started = time.perf_counter()
    configs = [replace(config, dataset=text, seed=seed, threads=THREADS) for seed in seeds]
    told = {side: [outcome(side, one) for one in configs] for side in SIDES}

    def result(name: str, values: Sequence[float], unit: str, goal: Goal = NO_GOAL) -> Result:
        key = f"cbow.{text}.{name}"
        return over_seeds(
            key, values, unit, goal, seeds=seeds, note=MEASURES[key], preset="",
            seconds=time.perf_counter() - started,
        )  # fmt: skip

    def margin(score: str, other: str, goal: Goal) -> Result:
        pairs = zip(told[OURS], told[other], strict=True)
        values = [ours[score] - theirs[score] for ours, theirs in pairs]
        return result(f"{score}_vs_{other}", values, "points", goal)

    results: list[Result] = []
    for score in scores_of(text):
        results += [
            result(f"{score}_{side}", [one[score] for one in told[side]], "%") for side in SIDES
        ]
        results.append(margin(score, PEER, VS_GENSIM))
        if score == "purity":
            results.append(margin(score, COUNTED, VS_COUNTED))
    for name, (unit, _) in COUNTS.items():
        results.append(result(name, [told[OURS][0][name]], unit))
    print(table(text, told), flush=True)
    return results


def table(text: str, told: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Returns the mean of each side's scores for the terminal."""
    rows = [
        (who, *(round(mean(one[score] for one in told[side]), 1) for score in scores_of(text)))
        for side, who in SIDES.items()
    ]
    return format_table([TEXTS[text], *scores_of(text)], rows)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.cbow_quality", description="Measure how good cbow's vectors are."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all of its text")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="three at least")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains, compares, records each text as soon as it is done."""
    args = build_parser().parse_args(argv)
    machine = prepare()
    results: list[Result] = []
    for text in TEXTS:
        if args.only is None or args.only.startswith(f"cbow.{text}."):
            results += print_and_record("cbow_quality", measure(text, args.seeds), machine)
    return results


if __name__ == "__main__":
    run_entry(main)
