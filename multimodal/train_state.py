"""Everything a training run consists of at one moment, for both tasks; saved, brought back.

What must be in a checkpoint for the resumed run to equal the uninterrupted one bit for bit:
weights, the optimizers' memories, the number of the next minibatch, the random generators, the
counters. The pictures are made anew from the seed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gpt.gpt_components import CausalSelfAttention
from gpt.gpt_model import GPT
from multimodal.contrastive_components import contrastive_loss
from multimodal.contrastive_model import DualEncoder, as_numbers, blank
from multimodal.multimodal_config import MultimodalConfig
from multimodal.multimodal_data import (
    Batch,
    CaptionSampler,
    Pictures,
    QuestionSampler,
    Sampler,
    digit_pictures,
    scene_pictures,
)
from multimodal.saved_model import FAMILY, build_model, load_vision
from multimodal.scenes import Split
from multimodal.vision_language_model import VisionLanguageModel, answer_loss
from tutorial_kit.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from tutorial_kit.config import config_to_dict
from tutorial_kit.device import seed_everything
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.run_progress import RunProgress, check_same_settings
from tutorial_kit.training import warmup_cosine
from vit.filter_muon import FilterMuon
from vit.vit_components import SelfAttention
from vit.vit_model import ViT

EVALUATION_SEED = 10_000  # of the scenes that are evaluated: the same ones whatever is trained
MAY_DIFFER = {"eval_every", "checkpoint_every", "threads", "n_test"}
"""Settings that a resumed run may change: what it has learned so far does not depend on them."""


def load_split(config: MultimodalConfig, split: Split) -> Pictures:
    """Returns the pictures of a split; the training's depend on the seed, the others do not."""
    if config.dataset != "scenes":
        return digit_pictures(split, config.dataset)
    train = split == "train"
    count, seed = (config.n_pictures, config.seed) if train else (config.n_test, EVALUATION_SEED)
    return scene_pictures(split, count, seed, config.groups, config.combinations)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Returns what Muon trains: matrices and filters inside the ViT and the GPT.

    The first convolution reads pixels; embeddings, heads, projections, vectors stay with AdamW.
    """
    found: list[nn.Parameter] = []
    for part in model.modules():
        if isinstance(part, ViT):
            inside = [*list(part.stem.parameters())[1:], *part.encoder.parameters()]
            found += [p for p in inside if p.ndim in (2, 4)]
        elif isinstance(part, GPT):
            found += [p for p in part.blocks.parameters() if p.ndim == 2]
        elif isinstance(part, SelfAttention | CausalSelfAttention):
            width = part.qkv.in_features
            part.qkv.weight.muon_splits = (width, width, width)  # type: ignore[attr-defined]
    return [p for p in found if p.requires_grad]


def build_optimizers(model: nn.Module, config: MultimodalConfig) -> list[torch.optim.Optimizer]:
    """Returns Muon for ``hidden_matrices`` and AdamW for the rest.

    Each parameter group remembers its peak learning rate as "peak_lr".
    """
    hidden = hidden_matrices(model)
    taken = {id(p) for p in hidden}
    groups = decay_groups(model, config.weight_decay)
    for group in groups:
        group["params"] = [p for p in group["params"] if id(p) not in taken]
    for weight in hidden:
        if weight.ndim == 4:  # FilterMuon wants its filters so
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    optimizers = [
        FilterMuon(hidden, config.muon_lr, weight_decay=config.muon_decay),
        fused_adamw(groups, config.lr, (0.9, 0.99)),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


class TrainState(RunProgress):
    """One run: model, optimizers, place in the data, counters."""

    def __init__(self, config: MultimodalConfig, device: torch.device) -> None:
        """Starts a run at step 0, seeded.

        Raises:
            FileNotFoundError: the run that ``encoder`` names has no checkpoint.
            ValueError: its vision encoder is of another shape.
        """
        super().__init__(config.max_steps)
        self.config, self.device = config, device
        self.train_pictures = load_split(config, "train")
        seed_everything(config.seed)
        self.model = build_model(config)
        if isinstance(self.model, VisionLanguageModel):
            if config.encoder:
                load_vision(self.model, config)
            self.model.vision.requires_grad_(config.vision == "trained")
        self.model.to(device)
        self.optimizers = build_optimizers(self.model, config)
        self.sampler = self._sampler()
        self.known = self._features_of_all()  # a frozen encoder always says the same

    def _sampler(self) -> Sampler:
        c = self.config
        if c.task == "contrastive":
            return CaptionSampler(self.train_pictures, c.batch_size, c.seed, c.gray)
        return QuestionSampler(
            self.train_pictures, c.batch_size, c.seed, questions=c.questions,
            caption_share=c.caption_share, caption_steps=c.caption_steps,
        )  # fmt: skip

    def set_learning_rates(self) -> float:
        """Sets every group's learning rate for the coming step; returns the factor of the peak."""
        factor = warmup_cosine(self.share_for_schedule(least=1e-3), self.config.warmup, 0.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["peak_lr"]
        return factor

    def loss(self, batch: Batch) -> Tensor:
        """Returns the loss of a minibatch, a number."""
        tokens, extra = batch.tokens.to(self.device), batch.extra.to(self.device)
        if isinstance(self.model, DualEncoder):
            scores = self.model(as_numbers(batch.images.to(self.device)), tokens, extra)
            return contrastive_loss(scores)  # extra: lengths
        if self.known is not None:
            features = self.known[batch.rows].to(self.device)  # (B, N, D_v)
        else:
            features = self.model.features(self._shown(batch.images))  # (B, N, D_v)
        return answer_loss(self.model(features, tokens, batch.parts), extra)  # extra: targets

    def _shown(self, images: Tensor) -> Tensor:
        """Returns what the language model is shown: the pictures, or nothing."""
        shown = blank(images) if self.config.pictures == "blank" else images
        return as_numbers(shown.to(self.device))

    @torch.no_grad()
    def _features_of_all(self) -> Tensor | None:
        """Returns what a frozen encoder says of every training picture, (N, patches, D_v)."""
        if not isinstance(self.model, VisionLanguageModel) or self.config.vision != "frozen":
            return None
        self.model.eval()
        parts = self.train_pictures.images.split(512)
        return torch.cat([self.model.features(self._shown(part)).cpu() for part in parts])

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "batches": self.sampler.number,
            "random": random_states(),
            **self.counters(),
        }
        save_checkpoint(path, family=FAMILY, config=config_to_dict(self.config), state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings.
        """
        checkpoint = load_checkpoint(path, family=FAMILY)
        state = checkpoint["state"]
        check_same_settings(checkpoint["config"], config_to_dict(self.config), path, MAY_DIFFER)
        self.model.load_state_dict(state["model"])
        self.known = self._features_of_all()  # the named encoder may have been trained anew
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.sampler.number = state["batches"]
        restore_random_states(state["random"])
        self.restore_counters(state)
