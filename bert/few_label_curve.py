"""Few-label curves: how much each contestant knows after 50, 200, 1,000 or all labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bert.bert_config import BertConfig
from bert.bert_finetuning import fine_tune, from_scratch
from bert.bert_model import BertModel
from bert.finetuning_baselines import tfidf_baseline
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_tasks import TextTask
from bert.wordpiece import WordPiece
from tutorial_kit.experiments import mean_and_spread

TFIDF = "TF-IDF"


@dataclass(frozen=True)
class CurvePoint:
    """One contestant with one number of labels, over the seeds."""

    contestant: str
    n_labels: int  # 0 means all
    accuracies: tuple[float, ...]  # on the test split, 0 to 1, one for each seed

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return mean_and_spread(self.accuracies)[0]

    @property
    def spread(self) -> float:
        """The sample standard deviation over the seeds."""
        return mean_and_spread(self.accuracies)[1]


def few_label_curve(
    contestants: Mapping[str, BertModel | BertConfig],
    wordpiece: WordPiece,
    task: TextTask,
    n_labels: Sequence[int] = (50, 200, 1000),
    seeds: Sequence[int] = (0, 1, 2),
    config: FinetuneConfig | None = None,
    device: str = "auto",
) -> list[CurvePoint]:
    """Fine-tunes every contestant with every number of labels and every seed.

    A seed decides which examples are labeled, the initial head, the order and, from scratch, the
    initial encoder. All contestants get the same examples; TF-IDF with logistic regression is
    always one of them.

    Args:
        contestants: name -> a pre-trained encoder; or a config: from scratch, at ``scratch_lr``.
        wordpiece: the vocabulary of all encoders.
        task: the whole task.
        n_labels: training examples; 0 means all.
        seeds: three or more, for a spread that means something.
        config: the recipe; its ``labels`` and ``seed`` are replaced.
        device: where to train.
    """
    config = config or FinetuneConfig()
    points = []
    for count in n_labels:
        for name, start in contestants.items():
            accuracies = []
            for seed in seeds:
                scratch = isinstance(start, BertConfig)
                bert = from_scratch(start, seed) if isinstance(start, BertConfig) else start
                result = fine_tune(
                    bert, wordpiece, task, replace(config, labels=count, seed=seed),
                    scratch=scratch, device=device,
                )  # fmt: skip
                accuracies.append(result.test_accuracy)
            points.append(CurvePoint(name, count, tuple(accuracies)))
        by_words = [tfidf_baseline(task.few(count, seed)) for seed in seeds]
        points.append(CurvePoint(TFIDF, count, tuple(by_words)))
    return points
