"""The trainings in which the bugs are shown: the repository's own trainers, at the smallest size.

Each takes a seed and returns the curves of the trainer's log and one number about the model in
use, measured by the same program: a bug in what measures is part of what is shown.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pitfall_curves import Curves
from gpt import train_gpt
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.text_data import TextData
from gpt.train_config import TrainConfig as TextConfig
from instruction_tuning import sft_trainer
from instruction_tuning.demonstrations import demonstrate
from instruction_tuning.instruction_data import sft_rows
from instruction_tuning.tuning_config import SFTConfig
from instruction_tuning.word_world import draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer
from transformer import train_transformer
from transformer.batching import batches_of
from transformer.grammar_corpus import grammar_corpus
from transformer.sentence_pairs import split_by_source
from transformer.toy_tasks import toy_data
from transformer.train_config import TrainConfig as PairConfig
from transformer.transformer_config import TransformerConfig
from transformer.transformer_model import Transformer
from transformer.translation_data import TranslationData
from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.training import read_metrics
from vit import vit_trainer
from vit.image_data import load_image_data
from vit.train_config import TrainConfig as ImageConfig
from vit.vit_config import ViTConfig

POINTS = 12  # evaluations of a training
WINDOW = 16  # tokens that the GPT sees
NEW_WORDS = 100  # words that the Transformer is asked for in the end


@dataclass(frozen=True)
class Stage:
    """A training that may have a bug."""

    label: str  # what is trained on what
    used: str  # what the number about the model in use says
    unit: str  # of that number
    better: str  # "higher" or "lower": which direction of it is better
    steps: int  # of the standard preset
    run: Callable[[int, int, Path], float]  # seed, steps, folder -> the number in use


def train_stage(stage: Stage, seed: int, steps: int | None = None) -> Curves:
    """Trains once, silently, in a folder that is deleted.

    Args:
        stage: what is trained.
        seed: of weights, data order and dropout.
        steps: updates; None means the stage's own.
    """
    silence = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        used = stage.run(seed, steps or stage.steps, Path(name))
        rows = read_metrics(Path(name) / "metrics.jsonl")
    train, validation = (
        tuple(round(row[key], 5) for row in rows) for key in ("train_loss", "validation_loss")
    )
    return Curves(tuple(row["step"] for row in rows), train, validation, round(used, 5))


@functools.cache
def sentences() -> TextData:
    """Returns English sentences of the grammar, as tokens of a small BPE."""
    lines = {
        split: [english + "\n" for english, _ in grammar_corpus(4000).pairs(split)]
        for split in ("train", "validation", "test")
    }
    texts = {split: "".join(found) for split, found in lines.items()}
    tokenizer = ByteBPE.train(texts["train"], 300)
    tokens = {split: torch.tensor(tokenizer.encode(text)) for split, text in texts.items()}
    sizes = {split: len(text.encode()) for split, text in texts.items()}
    return TextData("sentences", tokenizer, tokens, sizes)


def run_gpt(seed: int, steps: int, folder: Path) -> float:
    """Trains a GPT on sentences; returns the loss of reading others as a model writes."""
    model = GPTConfig(
        max_len=WINDOW, d_model=64, n_heads=4, n_kv_heads=4, n_layers=2, d_ff=256, dropout=0.2
    )
    config = TextConfig(
        model=model, batch_size=32, max_steps=steps, lr=5e-3, seed=seed,
        eval_every=max(1, steps // POINTS), checkpoint_every=steps,
    )  # fmt: skip
    result = train_gpt.train(config, sentences(), folder, device="cpu")
    return written_loss(result.model, sentences().tokens["test"])


@torch.no_grad()
def written_loss(model: GPT, tokens: Tensor) -> float:
    """Scores a text token by token through the cache, which cannot hold what comes later.

    Args:
        model: in evaluation mode.
        tokens: (N,).

    Returns:
        Mean cross-entropy in nats per token. It asks `F.cross_entropy` itself and not the model's
        loss function, which may have a bug.
    """
    rows = (len(tokens) - 1) // WINDOW
    x, y = (tokens[i : i + rows * WINDOW].view(rows, WINDOW) for i in (0, 1))
    cache = model.new_cache(rows)
    logits = torch.cat([model(column, cache) for column in x.split(1, dim=1)], dim=1)
    return F.cross_entropy(logits.flatten(0, 1), y.flatten()).item()


def train_pairs(
    data: TranslationData, model: TransformerConfig, seed: int, steps: int, folder: Path
) -> Transformer:
    """Trains a Transformer on a toy task and returns it."""
    config = PairConfig(
        model, dataset=data.name, tokens_per_batch=512, max_steps=steps, lr=4e-3, warmup=0.2,
        label_smoothing=0.0, average="none", eval_every=max(1, steps // POINTS),
        checkpoint_every=steps, bleu_sentences=0, seed=seed,
    )  # fmt: skip
    return train_transformer.train(config, data, folder, device="cpu").model


def words_right(model: Transformer) -> float:
    """Returns the share of new words that are copied without a mistake, in %."""
    scores, _ = train_transformer.score_split(model, toy_data("copy"), "test", limit=NEW_WORDS)
    return 100 * scores.exact_match


@torch.no_grad()
def letters_right(model: Transformer) -> float:
    """Returns the share of letters that are right, each given the right ones before it, in %."""
    right = count = 0
    for b in batches_of(toy_data("copy"), "test", 8192):
        scored = b.labels >= 0  # (B, T)
        logits = model.project(
            model.decode(b.target_in, model.encode(b.source, b.source_mask), b.source_mask)
        )  # (B, T, V)
        right += int((logits.argmax(-1) == b.labels)[scored].sum())
        count += int(scored.sum())
    return 100 * right / count


SMALL = TransformerConfig(
    max_len=32, d_model=64, n_heads=4, n_layers=1, n_decoder_layers=1, d_ff=128, dropout=0.0,
    norm="pre",
)  # fmt: skip


def run_copy(seed: int, steps: int, folder: Path) -> float:
    """Trains a Transformer to copy words."""
    return words_right(train_pairs(toy_data("copy"), SMALL, seed, steps, folder))


def run_post_norm(seed: int, steps: int, folder: Path) -> float:
    """Trains a deeper Transformer to copy words, with norms where the paper has them."""
    model = replace(SMALL, norm="post", n_layers=6, n_decoder_layers=6)
    return letters_right(train_pairs(toy_data("copy"), model, seed, steps, folder))


def run_few_pairs(seed: int, steps: int, folder: Path) -> float:
    """Trains a Transformer on so few words that it can learn them by heart."""
    whole = toy_data("copy")
    few = split_by_source(whole.pairs["train"][:120], 20)
    end = whole.tokenizer.special_tokens["<eos>"]
    encode = whole.tokenizer.encode
    ids = {
        split: [([*encode(source), end], encode(target)) for source, target in pairs]
        for split, pairs in few.items()
    }
    return words_right(train_pairs(replace(whole, pairs=few, ids=ids), SMALL, seed, steps, folder))


def run_vit(seed: int, steps: int, folder: Path) -> float:
    """Trains a ViT on digits; returns its accuracy on the test digits, in %."""
    model = ViTConfig(
        image_size=8, patch_size=2, d_model=32, n_heads=4, n_layers=2, d_ff=64, pooling="mean"
    )
    config = ImageConfig(
        model=model, dataset="digits", batch_size=64, max_steps=steps, optimizer="adamw", lr=5e-3,
        label_smoothing=0.0, ema=0.0, shift=0, eval_every=max(1, steps // POINTS),
        checkpoint_every=steps, seed=seed,
    )  # fmt: skip
    return 100 * vit_trainer.train(config, load_image_data("digits"), folder).test_accuracy


def run_sft(seed: int, steps: int, folder: Path) -> float:
    """Tunes a fresh GPT on demonstrations; returns the loss on others, each reply alone."""
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    policy = GPT(GPTConfig(tokenizer.vocab_size, 64, 32, 2, 2, 1, 64, **RECIPES["modern"]))
    asked = draw_requests(400, "train", 0), draw_requests(64, "validation", 0)
    rows = [sft_rows(demonstrate(requests, 0.0, 0.0), tokenizer, 64) for requests in asked]
    config = SFTConfig(
        batch_size=16, max_steps=steps, lr=1e-2, seed=seed, eval_every=max(1, steps // POINTS),
        checkpoint_every=steps,
    )  # fmt: skip
    data = sft_trainer.SFTData(rows[0], rows[1], [])
    result = sft_trainer.train(config, policy, tokenizer, data, folder, device="cpu")
    counts = [sum(mask[1:]) for _, mask in rows[1]]
    alone = [sft_trainer.evaluate(result.model, [row], 0)[0] for row in rows[1]]
    return sum(loss * n for loss, n in zip(alone, counts, strict=True)) / sum(counts)


_WRITING, _WORDS = "loss when it writes", "new words copied without a mistake"

STAGES = {
    "gpt": Stage("GPT, sentences", _WRITING, "nats/token", "lower", 360, run_gpt),
    "copy": Stage("Transformer, copying words", _WORDS, "%", "higher", 360, run_copy),
    "post_norm": Stage(
        "deep post-norm Transformer", "letters of new words right", "%", "higher", 300,
        run_post_norm,
    ),
    "few_pairs": Stage("Transformer, 80 words", _WORDS, "%", "higher", 240, run_few_pairs),
    "vit": Stage("ViT, digits", "test digits recognized", "%", "higher", 300, run_vit),
    "sft": Stage("GPT, replies", "loss of single replies", "nats/token", "lower", 120, run_sft),
}  # fmt: skip
