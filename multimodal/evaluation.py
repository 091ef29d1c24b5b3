"""What a trained model is measured by, for both tasks, on validation or on test pictures."""

from __future__ import annotations

from functools import partial
from typing import Literal

from multimodal.answering import answer, exact_match, questions_about
from multimodal.contrastive_model import DualEncoder
from multimodal.multimodal_config import MultimodalConfig
from multimodal.train_state import load_split
from multimodal.vision_language_model import VisionLanguageModel
from multimodal.zero_shot import accuracy, class_labels, class_names, classify, search


def evaluate(
    model: DualEncoder | VisionLanguageModel,
    config: MultimodalConfig,
    part: Literal["validation", "test"],
) -> dict[str, float]:
    """Measures a model; of the test more than of the validation.

    Args:
        model: set to evaluation mode.
        config: the settings it was trained with.
        part: "validation" to watch and to choose settings by; "test" once, at the end.

    Returns:
        Shares, 0 to 1. Contrastive: "accuracy" (zero-shot, trained combinations or digits),
        "unseen" (zero-shot, combinations never trained, out of all 36), and of the test
        "picture_to_text" and "text_to_picture" (recall at 1). Bridge, shown what it was trained
        with: "answers" (exact match over all kinds), "blank" (the same without the picture), and of
        the test "unseen" (pictures of combinations never trained), "captions" (every word right),
        "answers_KIND" of each kind.
    """
    if isinstance(model, DualEncoder):
        return _matching(model, config, part)
    pictures = load_split(config, part)
    if part == "validation":  # twelve questions about each: a part is enough to watch
        pictures = pictures.rows(range(-(-config.n_test // 4)))
    ask = partial(exact_match, model, blanked=config.pictures == "blank")  # as it was trained
    scores = ask(pictures)
    found = {
        "answers": scores.overall, "blank": exact_match(model, pictures, blanked=True).overall
    }  # fmt: skip
    if part == "test":
        found["unseen"] = ask(load_split(config, "unseen_test")).overall
        found["captions"] = ask(pictures, captions=True).overall
        found |= {f"answers_{kind}": share for kind, share in scores.by_kind.items()}
    return found


def _matching(
    model: DualEncoder, config: MultimodalConfig, part: Literal["validation", "test"]
) -> dict[str, float]:
    pictures = load_split(config, part)
    found = {"accuracy": accuracy(model, pictures)}
    if config.dataset == "scenes":
        unseen = load_split(config, "unseen_test" if part == "test" else "unseen_validation")
        found["unseen"] = accuracy(model, unseen)
        if part == "test":
            found["picture_to_text"], found["text_to_picture"] = search(model, pictures).hits()
    return found


def sample_in_words(model: DualEncoder | VisionLanguageModel, config: MultimodalConfig) -> str:
    """Returns one line to read: how three validation pictures are named, or what is answered."""
    pictures = load_split(config, "validation").rows(range(3))
    if isinstance(model, DualEncoder):
        names = class_names(pictures)
        pairs = zip(
            classify(model, pictures).tolist(), class_labels(pictures).tolist(), strict=True
        )
        return "names: " + ", ".join(
            names[said] if said == true else f"[{names[said]}, not {names[true]}]"
            for said, true in pairs
        )
    kinds = questions_about(pictures)
    asked = [kinds[2 * row][row] for row in range(3)]  # three kinds, a picture each
    said = answer(model, pictures.images, [one.text for one in asked])
    return " ".join(
        f"{one.text} {text}" if text == one.answer else f"{one.text} [{text}, not {one.answer}]"
        for one, text in zip(asked, said, strict=True)
    )
