"""A Vision Transformer in about a minute, offline: digits, its rival the CNN, where it looks.

The words that it prints are in ``texts/en.json``; the numbers are measured while you watch.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from tutorial_kit.compute import prepare_device
from tutorial_kit.config import override
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder
from vit.attention_maps import attention_weights, class_attention, rollout
from vit.attention_pictures import attention_rows_figure
from vit.classical_baselines import Baseline, nearest_neighbors, support_vectors
from vit.embedding_map import embedding_map_figure
from vit.image_data import ImageData, load_image_data
from vit.prediction import Predictions, normalize, predict, unit_range
from vit.prediction_figures import mistakes_figure
from vit.saved_model import DataFacts, build_model, fit_to_data
from vit.train_config import PRESETS, RIVAL, TrainConfig
from vit.vit_model import parameter_count
from vit.vit_trainer import TrainResult, train

SHADES = " .:-=+*#%@"  # from black to white
PICTURED = 4  # digits over which the attention is drawn
MAPPED = 400  # digits in the map of what the models see


@dataclass(frozen=True)
class QuickNumbers:
    """What the demo measures; accuracies from 0 to 1 on the fixed test split."""

    accuracy: float  # ViT
    cnn_accuracy: float
    svm_accuracy: float
    neighbors_accuracy: float
    seconds: float  # the ViT's training steps
    cnn_seconds: float  # the CNN's
    files: tuple[Path, ...]


def in_characters(image: Tensor) -> str:
    """Returns a gray picture, (1, H, W) from 0 to 1, as lines of characters, bright ones dense."""
    levels = (image[0] * (len(SHADES) - 1)).round().long().tolist()
    return "\n".join("   " + "".join(2 * SHADES[level] for level in row) for row in levels)


def show_data(data: ImageData, config: TrainConfig, texts: Texts) -> None:
    """Prints what the pictures are and what becomes of one: a sequence of patches."""
    picture = in_characters(unit_range(data.train.images[0]))
    texts.say("quick.data", size=data.image_size, train=len(data.train.labels),
              validation=len(data.validation.labels), test=len(data.test.labels),
              picture=picture)  # fmt: skip
    model = config.model
    patches = (model.image_size // model.patch_size) ** 2
    texts.say("quick.patches", patches=patches, patch=model.patch_size, width=model.d_model,
              tokens=patches + (model.pooling == "cls"))  # fmt: skip


def contest(
    results: Sequence[TrainResult], baselines: Sequence[Baseline], data: ImageData, texts: Texts
) -> None:
    """Prints the table of all contestants: ViT, CNN, support vectors, nearest neighbors."""
    names = [texts.get(f"quick.{name}") for name in ("vit", "cnn", "svm", "neighbors")]
    rows = [
        (name, round(100 * accuracy, 2), round(seconds, 1))
        for name, accuracy, seconds in zip(
            names,
            [r.test_accuracy for r in results] + [b.accuracy for b in baselines],
            [r.seconds for r in results] + [b.seconds for b in baselines],
            strict=True,
        )
    ]
    rows.append((texts.get("quick.guessing"), round(100 / len(data.classes), 2), 0.0))
    headers = [texts.get(f"quick.{name}") for name in ("contestant", "right", "seconds")]
    texts.say("quick.contest", test=len(data.test.labels), table=format_table(headers, rows))


def show_answers(seen: Predictions, data: ImageData, texts: Texts) -> None:
    """Prints what the ViT says of the first test pictures, and of the one it gets most wrong."""
    truth = data.test.labels
    right = seen.probabilities.gather(1, truth[:, None])[:, 0]  # (N,) of the true class
    for row in [0, 1, int(right.argmin())]:
        texts.say("quick.answer", truth=data.classes[truth[row]],
                  answer=data.classes[seen.classes[row]],
                  probability=float(seen.probabilities[row].max()))  # fmt: skip


def draw(result: TrainResult, seen: Predictions, rival: Predictions, data: ImageData) -> list[Path]:
    """Saves the pictures of a trained ViT into its run's folder; returns their paths.

    Args:
        result: the ViT's.
        seen: what it says of the test pictures.
        rival: what the CNN says of them.
        data: the pictures.
    """
    figures = result.folder / "figures"
    images, labels = unit_range(data.test.images), data.test.labels
    model_config = result.model.config
    grid = data.image_size // model_config.patch_size  # type: ignore[union-attr]
    weights = attention_weights(result.model, normalize(images[:PICTURED], data.mean, data.std))
    captions = [data.classes[answer] for answer in seen.classes[:PICTURED]]
    rows = attention_rows_figure(
        images[:PICTURED], class_attention(weights.mean(dim=2), grid),
        class_attention(rollout(weights), grid), captions,
    )  # fmt: skip
    features = {"ViT": seen.features[:MAPPED], "CNN": rival.features[:MAPPED]}
    return [
        save_figure(rows, figures / "attention.png"),
        save_figure(mistakes_figure(images, labels, seen.probabilities, data.classes),
                    figures / "mistakes.png"),
        save_figure(embedding_map_figure(features, labels[:MAPPED], data.classes),
                    figures / "embedding_map.png"),
        save_figure(model_diagram(result.model, "ViT"), figures / "structure.png"),
    ]  # fmt: skip


def tell(preset: str, seed: int, device: str, texts: Texts) -> QuickNumbers:
    """Tells the story and returns its numbers.

    Args:
        preset: "quick" or "smoke".
        seed: of weights, order and augmentation, for ViT and CNN alike; the split is fixed.
        device: "auto", "cpu", "cuda" or "mps".
        texts: the words.
    """
    config = replace(PRESETS[preset], seed=seed)
    prepare_device(device, config.threads)
    data = load_image_data(config.dataset)
    config = fit_to_data(config, DataFacts.of(data))
    show_data(data, config, texts)

    texts.say("quick.training", parameters=parameter_count(config.model))
    folder = run_folder("vit", f"quick_start_{preset}")
    result = train(config, data, folder, device=device)
    cnn = override(config, RIVAL)  # same pictures, same order, same moves
    parameters = sum(weight.numel() for weight in build_model(cnn).parameters())
    texts.say("quick.rival", parameters=parameters)
    rival = train(cnn, data, run_folder("vit", f"quick_start_{preset}_cnn"), device=device)

    baselines = [support_vectors(data), nearest_neighbors(data)]
    contest([result, rival], baselines, data, texts)
    seen, seen_by_rival = (
        predict(r.model, data.test.images, data.mean, data.std) for r in (result, rival)
    )
    show_answers(seen, data, texts)
    files = (*draw(result, seen, seen_by_rival, data), result.folder / "checkpoints" / "best.pt")
    texts.say("quick.files", files="\n".join(f"   {path}" for path in files))
    texts.say("quick.next", run=folder.name)
    return QuickNumbers(
        result.test_accuracy, rival.test_accuracy, baselines[0].accuracy, baselines[1].accuracy,
        result.seconds, rival.seconds, files,
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("A Vision Transformer in about a minute, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    numbers = tell(args.preset, args.seed, args.device, texts)
    return DemoResult(
        family="vit",
        learned=texts.get("demo.learned"),
        headline=texts.get("demo.headline", vit=numbers.accuracy, cnn=numbers.cnn_accuracy,
                           svm=numbers.svm_accuracy, neighbors=numbers.neighbors_accuracy),
        value=100.0 * numbers.accuracy,
        unit="%",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in numbers.files),
    )  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
