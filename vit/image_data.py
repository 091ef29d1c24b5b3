"""The sets of pictures by name, each in three splits, and a smaller part of one.

The test split is fixed. Validation pictures come out of the training pictures, never out of the
test pictures.

Traps of the data: scikit-learn's digits were written by 13 people and the set does not say which
digit is whose, so that each hand is in every split. No two of its pictures are equal, and none of
Fashion-MNIST's 70,000 (checked); a folder's copies are left out by ``image_folder``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from tutorial_kit.datasets import dataset_files
from vit.idx_format import find_idx_files, holds_idx_files, read_labeled_images
from vit.image_folder import read_class_folders
from vit.image_set import SPLITS, ImageData, ImageSplit, channel_statistics

GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip

_TEST_SHARE = 0.25  # of the digits
_VALIDATION_DIGITS = 150  # out of the other 1,347
_VALIDATION_PART = 12  # one picture in 12 of a set in the format of MNIST: 5,000 of 60,000
_SMALL = {"train": 200, "validation": 50, "test": 50}  # pictures of "digits-small"


def load_image_data(name: str, seed: int = 0, image_size: int = 0) -> ImageData:
    """Reads a set of pictures.

    Args:
        name: "digits" (1,797 of scikit-learn's, offline), "digits-small" (300 of them, for smoke
            tests), "fashion_mnist" (downloaded once), a folder with the four files of MNIST's
            format, or a folder with one folder of PNG and JPEG files for each class.
        seed: of the choice of the validation pictures. The test pictures never depend on it.
        image_size: pixels to which the pictures of class folders are brought; 0 means the shorter
            side of the first one. The other sets keep their size.

    Raises:
        FileNotFoundError: an unknown name that is no folder either, or a file is missing.
        ValueError: the folder has no pictures in two classes or more, or a file is damaged.
    """
    readers: dict[str, Callable[[], ImageData]] = {
        "digits": lambda: _digits(seed),
        "digits-small": lambda: _small_digits(seed),
        "fashion_mnist": lambda: _from_idx(
            name, dataset_files("fashion_mnist"), seed, classes=GARMENTS
        ),
    }
    if name in readers:
        return readers[name]()
    folder = Path(name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"--dataset {name!r} is neither a known name nor a folder. Use {', '.join(readers)}, "
            "or the path of a folder: the four files of MNIST's format, or a folder of PNG and "
            "JPEG files for each class."
        )
    if holds_idx_files(folder):
        return _from_idx(name, find_idx_files(folder), seed)
    classes, parts = read_class_folders(folder, image_size, seed)
    return _with_statistics(name, classes, *(ImageSplit(*parts[split]) for split in SPLITS))


def few(data: ImageData, amount: int | float, seed: int) -> ImageData:
    """Keeps a part of the training pictures, as many of each class as possible.

    Validation and test stay whole. Mean and deviation are computed anew, from the few. For one seed
    a smaller part is contained in every larger one.

    Args:
        data: the whole set.
        amount: how many pictures are kept in all (an integer), or their share (above 0, below 1).
        seed: of the choice.

    Raises:
        ValueError: the amount is less than one picture for each class, or more than there are.

    >>> few(load_image_data("digits"), 20, seed=0).train.labels.bincount()
    tensor([2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    size, n_classes = len(data.train.labels), len(data.classes)
    count = round(amount * size) if isinstance(amount, float) else amount
    if not n_classes <= count <= size:
        raise ValueError(
            f"{amount} of the {size:,} training pictures of {data.name} is {count:,}: at least one "
            f"for each of its {n_classes} classes is needed, and no more than there are. Use "
            f"{n_classes} to {size:,}."
        )
    train = _balanced_part(data.train, count, seed)
    mean, std = channel_statistics(train.images)
    return replace(data, train=train, mean=mean, std=std)


def _digits(seed: int) -> ImageData:
    """The digits of scikit-learn, levels 0 to 16 of 8 x 8 pixels, a quarter of them for the test.

    ``train_test_split(..., test_size=0.25, stratify=labels, random_state=0)`` gives everybody the
    same test pictures.
    """
    from sklearn.datasets import load_digits  # takes a second to import
    from sklearn.model_selection import train_test_split

    pixels, digits = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16  # (1797, 1, 8, 8)
    labels = torch.from_numpy(digits).long()
    rest, test = train_test_split(
        range(len(labels)), test_size=_TEST_SHARE, stratify=labels, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=_VALIDATION_DIGITS, stratify=labels[rest], random_state=seed
    )
    splits = (ImageSplit(images[rows], labels[rows]) for rows in (train, validation, test))
    return _with_statistics("digits", tuple(map(str, range(10))), *splits)


def _small_digits(seed: int) -> ImageData:
    data = _digits(seed)
    splits = (_balanced_part(getattr(data, split), _SMALL[split], seed=0) for split in SPLITS)
    return _with_statistics("digits-small", data.classes, *splits)


def _from_idx(
    name: str, files: Mapping[str, Path], seed: int, classes: tuple[str, ...] = ()
) -> ImageData:
    """Reads four files in the format of MNIST; without names, a class is called by its number."""
    images, labels = read_labeled_images(files["train.images"], files["train.labels"])
    test = ImageSplit(*read_labeled_images(files["test.images"], files["test.labels"]))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first = len(labels) - max(1, len(labels) // _VALIDATION_PART)
    rows = {"train": order[:first].sort().values, "validation": order[first:].sort().values}
    train, validation = (ImageSplit(images[chosen], labels[chosen]) for chosen in rows.values())
    classes = classes or tuple(map(str, range(int(labels.max()) + 1)))
    return _with_statistics(name, classes, train, validation, test)


def _with_statistics(name: str, classes: tuple[str, ...], *splits: ImageSplit) -> ImageData:
    """Puts the three splits together; mean and deviation are those of the first."""
    train, validation, test = splits
    return ImageData(name, classes, train, validation, test, *channel_statistics(train.images))


def _balanced_part(split: ImageSplit, count: int, seed: int) -> ImageSplit:
    """Takes one picture of each class in turn, in a random order, until there are enough."""
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(seed))
    labels = split.labels[order]
    by_class = labels.argsort(stable=True)
    sizes = labels.bincount()  # (classes,)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # (N,) where the class begins
    turn = torch.arange(len(labels)) - starts  # (N,) 0 for the first picture of a class
    rows = order[by_class[turn.argsort(stable=True)]][:count]
    return ImageSplit(split.images[rows], split.labels[rows])
