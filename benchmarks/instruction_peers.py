"""What ``instruction_tuning`` is measured beside: TRL's SFTTrainer and DPOTrainer.

Both sides tune a model of GPT-2's design, 4 layers of 128, on the same minibatches of 32 of this
family's own conversations, about 20 tokens each, in float32. TRL's defaults of bfloat16 and of
gradient checkpointing, made for large models on a GPU, are off: on a CPU they only cost time.

What is timed is the loop of each trainer, whole, as its user would run it (`Lockstep`).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

from gpt.gpt2_format import tensor_names
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning.chat import END, PAD, Row
from instruction_tuning.demonstrations import demonstrate, slip
from instruction_tuning.instruction_data import build_tokenizer, pair_rows, sft_rows
from instruction_tuning.preferences import Preference
from instruction_tuning.tuning_batches import SORTED_TOGETHER, RowSampler
from instruction_tuning.word_world import draw_requests

ROWS = 32  # conversations, or pairs of them, in a minibatch
LR, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.99), 1e-8, 0.0, 1.0
BETA = 0.1  # of DPO
Pair = tuple[Row, Row]  # chosen and rejected


def shape() -> GPTConfig:
    """Returns the model that both sides tune: GPT-2's design, this family's vocabulary."""
    return GPTConfig(vocab_size=build_tokenizer().vocab_size, max_len=96)


def demonstration_rows(count: int) -> list[Row]:
    """Returns demonstrations of the world, encoded; the same in every process."""
    return sft_rows(demonstrate(draw_requests(count, "train", 0)), build_tokenizer(), None)


def preference_rows(count: int) -> list[Pair]:
    """Returns pairs, a right reply and one with a slip, encoded; the same in every process."""
    dice = random.Random("peers")
    pairs = [
        Preference(request, request.answer, slip(request.answer, dice))
        for request in draw_requests(count, "train", 0)
    ]
    return pair_rows(pairs, build_tokenizer(), None)


def in_order(lengths: Sequence[int], size: int, *, by_length: bool = True) -> list[int]:
    """Returns the row numbers of one epoch in the order in which our trainers take them.

    Args:
        lengths: tokens of each row; ``size`` divides the number of rows.
        size: rows in a minibatch.
        by_length: sort the rows of eight minibatches by length among themselves, as our trainers
            do; no: leave them as they were shuffled. Either way the eight hold the same rows.
    """
    together = SORTED_TOGETHER if by_length else 1
    sampler = RowSampler(lengths, size, seed=0, sorted_together=together)
    return [row for _ in range(len(lengths) // size) for row in sampler.next_rows()]


def peer_model(model: GPT) -> Any:
    """Returns transformers' GPT2LMHeadModel with the weights of ours, without dropout."""
    import transformers

    transformers.logging.set_verbosity_error()
    c, end = model.config, build_tokenizer().special_tokens[END]
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=c.vocab_size, n_positions=c.max_len, n_embd=c.d_model, n_layer=c.n_layers,
            n_head=c.n_heads, n_inner=c.d_ff, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=end, eos_token_id=end, use_cache=False,
        )
    )  # fmt: skip
    weights = model.state_dict()
    theirs = {
        f"transformer.{name}": weights[ours].T if transposed else weights[ours]
        for ours, (name, transposed) in tensor_names(model).items()
    }
    peer.load_state_dict({**theirs, "lm_head.weight": weights["token_embedding.weight"]})
    return peer


def id_tokenizer(vocab_size: int) -> Any:
    """Returns a tokenizer of transformers whose text is ids: "<17><4>" becomes 17 and 4.

    TRL's trainers insist on text; so both sides get the same ids all the same.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {as_text([i]): i for i in range(vocab_size)}
    backend = Tokenizer(models.WordLevel(names, unk_token=as_text([0])))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("<[0-9]+>"), "isolated")
    pad, end = (as_text([build_tokenizer().special_tokens[name]]) for name in (PAD, END))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, eos_token=end)


def as_text(ids: Sequence[int]) -> str:
    """Returns ids as ``id_tokenizer`` reads them.

    >>> as_text([17, 4])
    '<17><4>'
    """
    return "".join(f"<{i}>" for i in ids)


def trainer_settings(folder: str, size: int) -> dict[str, Any]:
    """Returns what both trainers of TRL are told, so that they do what ours do.

    Args:
        folder: they want one, and write nothing to it.
        size: rows in a minibatch.
    """
    return {
        "output_dir": folder, "per_device_train_batch_size": size, "num_train_epochs": 1,
        "train_sampling_strategy": "sequential", "seed": 0,
        "learning_rate": LR, "lr_scheduler_type": "linear", "optim": "adamw_torch_fused",
        "adam_beta1": BETAS[0], "adam_beta2": BETAS[1], "adam_epsilon": EPS,
        "weight_decay": WEIGHT_DECAY, "max_grad_norm": CLIP,
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }  # fmt: skip


def sft_trainer(model: GPT, rows: Sequence[Row], size: int, folder: str) -> Any:
    """Returns TRL's SFTTrainer for a model like ours.

    Args:
        model: ours, whose weights it starts with.
        rows: one epoch in the order of the minibatches.
        size: rows in a minibatch.
        folder: see ``trainer_settings``.
    """
    import datasets
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    labels = [
        [i if trained else -100 for i, trained in zip(ids, mask, strict=True)] for ids, mask in rows
    ]
    return SFTTrainer(
        model=peer_model(model),
        args=SFTConfig(**trainer_settings(folder, size)),
        train_dataset=datasets.Dataset.from_dict(
            {"input_ids": [ids for ids, _ in rows], "labels": labels}
        ),
        processing_class=id_tokenizer(model.config.vocab_size),
    )


def dpo_trainer(
    model: GPT, pairs: Sequence[Pair], size: int, folder: str, *, precompute: bool = False
) -> Any:
    """Returns TRL's DPOTrainer for a model like ours; the reference is a copy.

    Args:
        model: ours, whose weights it starts with.
        pairs: one epoch in the order of the minibatches.
        size: pairs in a minibatch.
        folder: see ``trainer_settings``.
        precompute: compute the reference's log-probabilities now, not in every step.
    """
    import datasets
    from trl import DPOConfig, DPOTrainer

    datasets.disable_progress_bars()
    texts: dict[str, list[str]] = {"prompt": [], "chosen": [], "rejected": []}
    for (chosen, mask), (rejected, _) in pairs:
        start = mask.index(True)
        texts["prompt"].append(as_text(chosen[:start]))
        texts["chosen"].append(as_text(chosen[start:]))
        texts["rejected"].append(as_text(rejected[start:]))
    peer = peer_model(model)
    return DPOTrainer(
        model=peer,
        ref_model=copy.deepcopy(peer),
        args=DPOConfig(
            **trainer_settings(folder, size), beta=BETA, precompute_ref_log_probs=precompute
        ),
        train_dataset=datasets.Dataset.from_dict(texts),
        processing_class=id_tokenizer(model.config.vocab_size),
    )
