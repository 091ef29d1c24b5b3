"""Two rivals that learn no features: nearest neighbors and support vectors (scikit-learn).

A picture is a list of pixels to them. Nearest neighbors ask the most similar training pictures; a
support vector machine with a Gaussian kernel weighs the training pictures near a border (Cortes &
Vapnik 1995). On small, centered digits both take a second and are hard to beat; neither survives
pictures whose object moves. Their settings are chosen on the validation split, as ours are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vit.image_data import ImageData, ImageSplit
from vit.prediction import unit_range

NEIGHBORS = (1, 3, 5)
"""How many training pictures are asked."""

PENALTIES = (1.0, 3.0, 10.0, 30.0)
"""The SVM's C: how much a picture on the wrong side costs."""


@dataclass(frozen=True)
class Baseline:
    """How a classical method does."""

    accuracy: float  # share of right answers on the test split, 0 to 1
    setting: float  # the number of neighbors, or C
    seconds: float  # of choosing and fitting


def nearest_neighbors(data: ImageData) -> Baseline:
    """Returns how nearest neighbors do, by Euclidean distance of pixels."""
    from sklearn.neighbors import KNeighborsClassifier

    return _best(
        {k: KNeighborsClassifier(n_neighbors=k) for k in NEIGHBORS if k <= len(data.train.labels)},
        data,
    )


def support_vectors(data: ImageData) -> Baseline:
    """Returns how an SVM with a Gaussian kernel does; its width is scikit-learn's "scale"."""
    from sklearn.svm import SVC

    return _best({c: SVC(C=c) for c in PENALTIES}, data)


def _best(candidates: dict[Any, Any], data: ImageData) -> Baseline:
    """Fits every candidate on the training split; the best on validation is asked for the test."""
    started = time.perf_counter()
    x, y = _pixels(data.train)
    held_out = _pixels(data.validation)
    fitted = {setting: candidate.fit(x, y) for setting, candidate in candidates.items()}
    chosen = max(fitted, key=lambda setting: fitted[setting].score(*held_out))  # of equals: first
    seconds = time.perf_counter() - started
    return Baseline(float(fitted[chosen].score(*_pixels(data.test))), float(chosen), seconds)


def _pixels(split: ImageSplit) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, H, W), (N,) -> the pixels (N, C H W) from 0 to 1, and the labels."""
    return unit_range(split.images).flatten(1).numpy(), split.labels.numpy()
