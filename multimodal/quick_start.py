"""Pictures and words in a minute and a half, offline: name what was never seen, then answer.

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

from multimodal.answering import answer, questions_about
from multimodal.captions import REQUEST
from multimodal.contrastive_model import DualEncoder
from multimodal.multimodal_config import PRESETS, MultimodalConfig
from multimodal.multimodal_trainer import TrainResult, train
from multimodal.picture_attention import attention_figure
from multimodal.retrieval_figures import (
    combination_accuracies,
    combinations_figure,
    pictures_for_texts_figure,
    texts_for_pictures_figure,
)
from multimodal.scenes import COMBINATIONS, combinations_of
from multimodal.train_state import load_split
from multimodal.vision_language_model import VisionLanguageModel
from multimodal.zero_shot import search
from tutorial_kit.compute import prepare_device
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder


@dataclass(frozen=True)
class QuickNumbers:
    """What the demo measures; shares from 0 to 1 on held-out pictures."""

    matching: dict[str, float]  # of the two encoders, see evaluation.py
    answering: dict[str, float]  # of the language model that sees
    files: tuple[Path, ...]


def bridge_config(preset: str, seed: int, encoder: str) -> MultimodalConfig:
    """Returns the settings of the second training, which takes the first one's vision encoder."""
    return replace(PRESETS[f"{preset}-bridge"], seed=seed, encoder=encoder, vision="frozen")


def show_matching(result: TrainResult, texts: Texts) -> None:
    """Prints what the two encoders do with pictures that they have not seen."""
    names = ("accuracy", "unseen", "picture_to_text", "text_to_picture")
    rows = [(texts.get(f"quick.{name}"), round(100 * result.scores[name], 1)) for name in names]
    table = format_table([texts.get("quick.what"), texts.get("quick.right")], rows)
    texts.say("quick.matched", table=table, guess=100 / len(COMBINATIONS))


def show_answers(result: TrainResult, texts: Texts) -> None:
    """Prints a caption, answers about one picture, and the shares of right ones."""
    assert isinstance(result.model, VisionLanguageModel)
    config = replace(PRESETS["smoke"], groups="two", n_test=1)
    picture = load_split(config, "test")
    caption = answer(result.model, picture.images, [REQUEST])[0]
    texts.say("quick.caption", truth=picture.captions()[0], caption=caption)
    for (one,) in questions_about(picture):
        said = answer(result.model, picture.images, [one.text])[0]
        texts.say("quick.answer", question=one.text, said=said, truth=one.answer)
    names = ("answers", "unseen", "blank", "captions")
    rows = [(texts.get(f"quick.bridge_{name}"), round(100 * result.scores[name], 1))
            for name in names]  # fmt: skip
    table = format_table([texts.get("quick.what"), texts.get("quick.right")], rows)
    texts.say("quick.answered", table=table)


def draw(matched: TrainResult, config: MultimodalConfig, answered: TrainResult) -> list[Path]:
    """Saves the pictures of both models; returns their paths."""
    model, figures = matched.model, matched.folder / "figures"
    assert isinstance(model, DualEncoder) and isinstance(answered.model, VisionLanguageModel)
    splits = [load_split(config, split) for split in ("test", "unseen_test")]
    found = search(model, splits[1])
    scenes = load_split(replace(config, groups="both"), "test")
    return [
        save_figure(combinations_figure(combination_accuracies(model, splits)),
                    figures / "combinations.png"),
        save_figure(pictures_for_texts_figure(found), figures / "text_to_picture.png"),
        save_figure(texts_for_pictures_figure(found), figures / "picture_to_text.png"),
        save_figure(attention_figure(answered.model, scenes),
                    answered.folder / "figures" / "attention.png"),
    ]  # fmt: skip


def tell(preset: str, seed: int, device: str, texts: Texts) -> QuickNumbers:
    """Tells the story and returns its numbers.

    Args:
        preset: "quick" or "smoke".
        seed: of weights, pictures and their order; the held-out pictures are fixed.
        device: "auto", "cpu", "cuda" or "mps".
        texts: the words.
    """
    config = replace(PRESETS[preset], seed=seed)
    prepare_device(device, config.threads)
    captions = load_split(config, "train").captions()[:3]
    texts.say("quick.data", pictures=config.n_pictures, captions="\n   ".join(captions),
              seen=config.combinations, unseen=len(combinations_of("unseen_test")))  # fmt: skip

    texts.say("quick.matching")
    matched = train(config, run_folder("multimodal", f"quick_start_{preset}"), device=device)
    show_matching(matched, texts)

    texts.say("quick.bridge", patches=config.vision_config.n_patches)
    bridge = bridge_config(preset, seed, str(matched.folder))
    folder = run_folder("multimodal", f"quick_start_{preset}_bridge")
    answered = train(bridge, folder, device=device)
    show_answers(answered, texts)

    files = (
        *draw(matched, config, answered),
        *(result.folder / "checkpoints" / "last.pt" for result in (matched, answered)),
    )
    texts.say("quick.files", files="\n".join(f"   {path}" for path in files))
    texts.say("quick.next")
    return QuickNumbers(matched.scores, answered.scores, files)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("Pictures and words in a minute and a half, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    numbers = tell(args.preset, args.seed, args.device, texts)
    return DemoResult(
        family="multimodal",
        learned=texts.get("demo.learned"),
        headline=texts.get("demo.headline", unseen=numbers.matching["unseen"],
                           answers=numbers.answering["answers"],
                           blank=numbers.answering["blank"]),
        value=100.0 * numbers.matching["unseen"],
        unit="%",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in numbers.files),
    )  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
