"""Models as their runs' checkpoints hold them, and the vision encoder out of one."""

from __future__ import annotations

from pathlib import Path

from multimodal.contrastive_components import Temperature
from multimodal.contrastive_model import DualEncoder
from multimodal.multimodal_config import MultimodalConfig
from multimodal.vision_language_model import VisionLanguageModel
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_from_dict
from tutorial_kit.saved_runs import find_run, load_weights

FAMILY = "multimodal"


def build_model(config: MultimodalConfig) -> DualEncoder | VisionLanguageModel:
    """Returns the model of the task that the settings name, with random weights."""
    if config.task == "bridge":
        return VisionLanguageModel(config.vision_config, config.language_config)
    learned = config.temperature == "learned"
    return DualEncoder(
        config.vision_config, config.language_config,
        temperature=Temperature(config.start_temperature, learned),
    )  # fmt: skip


def load_run(path: Path | str) -> tuple[DualEncoder | VisionLanguageModel, MultimodalConfig]:
    """Loads a trained model.

    Args:
        path: a checkpoint file, a run's folder, or a run's name under ``outputs/multimodal``.

    Returns:
        The model in evaluation mode, and its settings.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: the file is not a checkpoint of this package.
    """
    place = find_run(FAMILY, path)
    checkpoint = load_checkpoint(place, family=FAMILY)
    config = config_from_dict(MultimodalConfig, checkpoint["config"])
    model = build_model(config)
    load_weights(model, checkpoint["state"]["model"], place)
    return model.eval(), config


def load_vision(model: VisionLanguageModel, config: MultimodalConfig) -> None:
    """Puts the vision encoder of the run ``config.encoder`` into a model.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: the run trained another task, or an encoder of another shape.
    """
    trained, theirs = load_run(config.encoder)
    if not isinstance(trained, DualEncoder):
        raise ValueError(
            f"encoder={config.encoder} is a run of task={theirs.task}: the vision encoder comes "
            "from contrastive training. Name such a run."
        )
    if theirs.vision_config != config.vision_config:
        raise ValueError(
            f"encoder={config.encoder} has the shape {theirs.vision_config}, the settings ask for "
            f"{config.vision_config}: its weights do not fit. Use the same sizes."
        )
    model.vision.load_state_dict(trained.vision.state_dict())
