"""The trainings behind an experiment: where they are kept and what they give.

A pre-training is kept by its settings, so variants and experiments that need the same one share its
checkpoint; a fine-tuning is kept by its own settings and those of the pre-training under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bert.bert_finetuning import fine_tune, from_scratch
from bert.bert_model import BertModel, parameter_count
from bert.bert_pretraining import train
from bert.finetuning_baselines import tfidf_baseline
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_tasks import TextTask, library_task
from bert.pretraining_config import PretrainConfig
from bert.pretraining_data import BertData, load_bert_data
from bert.saved_model import load_run
from bert.smoke_model import SENTENCES
from tutorial_kit.experiments import kept_outcome, variant_folder

FAMILY = "bert"
SMOKE_COPIES = 6  # of each sentence in the toy task of a smoke test


@dataclass(frozen=True)
class BothConfigs:
    """What the accuracy of a variant depends on."""

    pretraining: PretrainConfig | None  # None: from scratch
    finetuning: FinetuneConfig


@lru_cache(maxsize=2)
def pretraining_text(dataset: str, wordpiece_tokens: int) -> BertData:
    """Returns the text that the variants share."""
    return load_bert_data(dataset, wordpiece_tokens)


@lru_cache(maxsize=2)
def labeled_paragraphs(smoke: bool) -> TextTask:
    """Returns the task by which every pre-training is judged; for a smoke test a toy."""
    if not smoke:
        return library_task()
    toy = tuple(
        (f"{n} {text}", "arrays" if "array" in text or "matrix" in text else "other")
        for n in range(SMOKE_COPIES)
        for text in SENTENCES
    )
    return TextTask("toy", ("arrays", "other"), toy, toy, toy)


def pretrain(config: PretrainConfig) -> tuple[Path, dict[str, float]]:
    """Pre-trains, or reads what an earlier pre-training of the same settings gave.

    Returns:
        Its folder, and "mlm_gain", "seconds", "parameters". The gain is how many nats the loss of
        held-out masked tokens lies below the unigram model's: 0 means that context is not used. Its
        text depends on the objective, as the training's does: sequences or pairs.
    """
    data = pretraining_text(config.dataset, config.wordpiece_tokens)
    folder = variant_folder(FAMILY, config, _facts(data))

    def train_it() -> dict[str, float]:
        result = train(config, data, folder)
        return {
            "mlm_gain": result.unigram_entropy - result.validation_loss,
            "seconds": result.seconds,
            "parameters": float(parameter_count(result.model.bert.config)),
        }

    return folder, kept_outcome(folder, train_it)


def run_variant(
    before: PretrainConfig, after: FinetuneConfig, scratch: bool, smoke: bool
) -> dict[str, float]:
    """Pre-trains and fine-tunes one variant, as far as that has not been done before.

    Args:
        before: the pre-training; without one, the sizes of the model and its vocabulary.
        after: the fine-tuning.
        scratch: leave the pre-training out.
        smoke: judge by the toy task.

    Returns:
        "accuracy" in % on the test paragraphs, "seconds", "parameters", and, with a pre-training,
        "mlm_gain".
    """
    data = pretraining_text(before.dataset, before.wordpiece_tokens)
    task = labeled_paragraphs(smoke)
    outcome = {} if scratch else dict(pretrain(before)[1])
    sizes = [len(task.train), len(task.test), scratch]
    folder = variant_folder(FAMILY, BothConfigs(before, after), [_facts(data), sizes])

    def fine_tune_it() -> dict[str, float]:
        bert = _fresh(before, data) if scratch else load_run(pretrain(before)[0])[0].bert
        result = fine_tune(bert, data.wordpiece, task, after, scratch=scratch)
        return {
            "accuracy": 100 * result.test_accuracy,
            "seconds": result.seconds,
            "parameters": float(parameter_count(bert.config)),
        }

    tuned = kept_outcome(folder, fine_tune_it)
    return outcome | tuned | {"seconds": outcome.get("seconds", 0.0) + tuned["seconds"]}


def run_tfidf(after: FinetuneConfig, smoke: bool) -> dict[str, float]:
    """Counts words instead: "accuracy" in % of TF-IDF with logistic regression, same labels."""
    task = labeled_paragraphs(smoke).few(after.labels, after.seed)
    return {"accuracy": 100 * tfidf_baseline(task)}


def _fresh(config: PretrainConfig, data: BertData) -> BertModel:
    """Returns a model of the config's sizes that has read nothing."""
    sizes = {**vars(config.model), "vocab_size": data.wordpiece.vocab_size}
    return from_scratch(type(config.model)(**sizes), config.seed)


def _facts(data: BertData) -> list[int]:
    """Returns numbers that change when the text or its vocabulary changes."""
    sizes = [len(split.tokens) for split in data.splits.values()]
    return [data.wordpiece.vocab_size, *sizes]
