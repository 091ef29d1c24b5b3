"""The trainings behind ``bert_quality``: kept, so that results share them and a stop costs little.

A pre-training lies in ``outputs/bert/benchmark_<name>_<hash>``; the hash is that of its settings
and its text. A stopped one goes on at its last checkpoint; a finished one is read. A fine-tuning is
kept by its accuracy alone. Neither knows of a change in the code: then delete the folders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bert.bert_finetuning import fine_tune, from_scratch
from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from bert.bert_pretraining import train
from bert.finetuning_baselines import tfidf_baseline
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_tasks import TextTask
from bert.masking import IGNORED
from bert.pretraining_batches import evaluation_batches
from bert.pretraining_config import PRESETS, PretrainConfig
from bert.pretraining_data import BertData, load_bert_data
from bert.pretraining_evaluation import Scores, evaluate, unigram_loss
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import override
from tutorial_kit.experiments import kept_outcome, variant_folder
from tutorial_kit.training import run_folder

FAMILY = "bert"
CONTESTANTS = ("pretrained", "scratch", "tfidf")


@dataclass(frozen=True)
class Pretrained:
    """A finished pre-training."""

    model: BertForPreTraining  # in evaluation mode, on the CPU
    data: BertData
    config: PretrainConfig
    folder: Path
    seconds: float  # spent in training steps


@dataclass(frozen=True)
class HeldOut:
    """What a pre-trained model does with the test split of its own text."""

    scores: Scores
    entropy: float  # of the tokens asked for, in nats: no guess without context loses less
    unigram: float  # loss of the frequencies in the training split, in nats


@dataclass(frozen=True)
class Outcome:
    """What decides a fine-tuning's accuracy, beside its task and its start."""

    finetuning: FinetuneConfig
    contestant: str


def pretraining_config(preset: str, changes: dict[str, Any], seed: int) -> PretrainConfig:
    """Returns a preset with some fields replaced, the model's too."""
    return override(replace(PRESETS[preset], seed=seed), changes)


@lru_cache(maxsize=2)
def text_of(dataset: str, wordpiece_tokens: int) -> BertData:
    """Returns the text of a pre-training; the last two stay in memory."""
    return load_bert_data(dataset, wordpiece_tokens)


def pretrain(name: str, config: PretrainConfig) -> Pretrained:
    """Pre-trains, goes on with what was stopped, or reads what is finished.

    Args:
        name: goes into the folder's name.
        config: the settings; other settings mean another folder.
    """
    data = text_of(config.dataset, config.wordpiece_tokens)
    facts = [data.wordpiece.vocab_size, *(len(split.tokens) for split in data.splits.values())]
    digest = variant_folder(FAMILY, config, facts).name[:8]
    folder = run_folder(FAMILY, f"benchmark_{name}_{digest}")
    last = folder / "checkpoints" / "last.pt"
    print(f"pre-training {name}: {'going on in' if last.is_file() else 'in'} {folder}", flush=True)
    train(config, data, folder, resume=last.is_file(), device="cpu")
    # Read again what was written: a run that was finished before has not been evaluated now.
    state = load_checkpoint(last, family=FAMILY)["state"]
    config = replace(config, model=replace(config.model, vocab_size=data.wordpiece.vocab_size))
    model = BertForPreTraining(BertModel(config.model))
    model.load_state_dict(state["model"])
    return Pretrained(model.eval(), data, config, folder, float(state["seconds"]))


def held_out(run: Pretrained) -> HeldOut:
    """Scores the whole test split of a pre-training's text, which no choice has looked at."""
    split, pieces = run.data.splits["test"], run.data.wordpiece
    batches = evaluation_batches(split, pieces, run.config.model.max_len, run.config.objective)
    counts = torch.zeros(pieces.vocab_size, dtype=torch.long)
    for batch in batches:
        tokens = batch.tokens.where(batch.labels == IGNORED, batch.labels)  # before masking
        counts += torch.bincount(tokens.flatten(), minlength=pieces.vocab_size)
    counts[list(pieces.special_tokens.values())] = 0  # never masked
    return HeldOut(
        evaluate(run.model, batches),
        entropy_of(counts),
        unigram_loss(run.data.splits["train"].tokens, batches, pieces),
    )


def entropy_of(counts: torch.Tensor) -> float:
    """Returns the entropy of the distribution that (V,) counts describe, in nats.

    >>> round(entropy_of(torch.tensor([2, 1, 1, 0])), 4)  # 1.5 ln 2
    1.0397
    """
    p = counts[counts > 0].double() / counts.sum()
    return float(-(p * p.log()).sum())


def accuracy(
    contestant: str, run: Pretrained, task: TextTask, config: FinetuneConfig
) -> dict[str, float]:
    """Lets a contestant learn from labels, or returns what it reached before.

    Args:
        contestant: "pretrained"; "scratch", the same model and vocabulary with fresh weights; or
            "tfidf", word counts with logistic regression.
        run: the pre-training; of "scratch" its sizes and vocabulary count.
        task: what is to be told apart.
        config: how; its ``labels`` and its ``seed`` decide which examples are labeled, the same
            for all contestants.

    Returns:
        "accuracy" on the whole test split in %, and "seconds": of all from text to accuracy.
    """
    if contestant == "tfidf":
        few = task.few(config.labels, config.seed)
        return {"accuracy": 100 * tfidf_baseline(few), "seconds": 0.0}
    start = [run.folder.name, task.name, len(task.train), len(task.test)]
    folder = variant_folder(FAMILY, Outcome(config, contestant), start)

    def learn() -> dict[str, float]:
        started, scratch = time.perf_counter(), contestant == "scratch"
        bert = from_scratch(run.config.model, config.seed) if scratch else run.model.bert
        result = fine_tune(bert, run.data.wordpiece, task, config, scratch=scratch, device="cpu")
        seconds = time.perf_counter() - started
        return {"accuracy": 100 * result.test_accuracy, "seconds": seconds}

    return kept_outcome(folder, learn)
