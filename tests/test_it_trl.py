"""The losses equal those of TRL's trainers, values and gradients, on minibatches that TRL made.

Texts go through TRL's own preparation: it marks the completions, adds the end token and pads. The
model is a tiny GPT-2, the tokenizer knows a few words; both are made in memory.

TRL has no PPO any more: PPO and GAE are held to their formulas in ``test_it_losses``. Its "sft"
term of DPO is a mean over the tokens of all chosen replies, ours a mean over the replies (Pang et
al. 2024, section 2), so the two are compared on chosen replies of one length.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instruction_tuning.losses import (
    dpo_loss,
    group_advantages,
    grpo_loss,
    ipo_loss,
    likelihood_loss,
    reward_loss,
    sequence_log_probs,
    sft_loss,
    token_log_probs,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytest.importorskip("trl", reason="the reference is not installed: requirements-dev.txt")

import datasets
import transformers
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import models, pre_tokenizers
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # among TRL and transformers

WORDS = ["<pad>", "<end>", "<unk>", *"abcdefghijklmnop"]
BETA = 0.3
PAIRS = [
    {"prompt": "a b c", "chosen": " d e f", "rejected": " g"},
    {"prompt": "h", "chosen": " i j f", "rejected": " k l m n a"},
    {"prompt": "o p a b", "chosen": " c o c", "rejected": " d d"},
    {"prompt": "e e", "chosen": " f g h", "rejected": " p o n"},
]


def tokenizer() -> Any:
    words = HubTokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )


def model(seed: int = 0, kind: str = "GPT2LMHeadModel") -> Any:
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_positions=32, n_embd=16, n_layer=1, n_head=2, num_labels=1,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, pad_token_id=0, bos_token_id=1,
        eos_token_id=1,
    )  # fmt: skip
    made = getattr(transformers, kind)(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.3)
    return made


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    """What every trainer is given: all pairs in one minibatch, float32, plain memory use."""
    return {
        "output_dir": str(folder), "per_device_train_batch_size": len(PAIRS), "report_to": [],
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
        **more,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Without progress bars, and without a change of the random numbers of other tests."""
    datasets.disable_progress_bars()
    with torch.random.fork_rng():
        yield


def pairs_data(*names: str) -> Any:
    return datasets.Dataset.from_list([{name: row[name] for name in names} for row in PAIRS])


def minibatch(trainer: Any) -> dict[str, Tensor]:
    return dict(next(iter(trainer.get_train_dataloader())))


def assert_same(ours: Tensor, theirs: Tensor, net: nn.Module, tolerance: float = 1e-6) -> None:
    """Holds value and every gradient to the tolerance."""
    assert abs(ours.item() - theirs.item()) <= tolerance
    parameters = [p for p in net.parameters() if p.requires_grad]
    mine = torch.autograd.grad(ours, parameters, retain_graph=True, allow_unused=True)
    other = torch.autograd.grad(theirs, parameters, allow_unused=True)
    assert max(g.abs().max().item() for g in mine if g is not None) > 1e-3
    for a, b in zip(mine, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert torch.allclose(a, b, rtol=1e-5, atol=tolerance)


def test_sft(tmp_path: Path) -> None:
    data = pairs_data("prompt", "chosen").rename_column("chosen", "completion")
    net = model()
    trainer = SFTTrainer(
        net, SFTConfig(**settings(tmp_path)), train_dataset=data, processing_class=tokenizer()
    )
    batch = minibatch(trainer)
    tokens, mask = batch["input_ids"], batch["labels"] != -100
    assert (tokens == 1)[mask].sum() == len(PAIRS)  # every end token is trained
    theirs = trainer.compute_loss(net, dict(batch))
    logits = net(input_ids=tokens, attention_mask=batch["attention_mask"]).logits
    ours = sft_loss(token_log_probs(logits, tokens), mask[:, 1:])
    assert_same(ours, theirs, net)


def test_reward(tmp_path: Path) -> None:
    net = model(kind="GPT2ForSequenceClassification")
    trainer = RewardTrainer(
        net, RewardConfig(**settings(tmp_path)),
        train_dataset=pairs_data("prompt", "chosen", "rejected"), processing_class=tokenizer(),
    )  # fmt: skip
    batch = minibatch(trainer)
    theirs = trainer.compute_loss(net, dict(batch))
    chosen, rejected = net(**batch).logits.squeeze(1).chunk(2)
    assert_same(reward_loss(chosen, rejected), theirs, net)


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "likelihood"])
def test_dpo_and_its_relatives(kind: str, tmp_path: Path) -> None:
    net, reference = model(), model(seed=1)
    mixed = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}
    chosen_loss = mixed if kind == "likelihood" else {"loss_type": [kind]}
    trainer = DPOTrainer(
        net, reference, DPOConfig(**settings(tmp_path, beta=BETA, **chosen_loss)),
        train_dataset=pairs_data("prompt", "chosen", "rejected"), processing_class=tokenizer(),
    )  # fmt: skip
    batch = minibatch(trainer)
    tokens, mask = batch["input_ids"], batch["completion_mask"].bool()[:, 1:]
    theirs = trainer.compute_loss(net, dict(batch))

    def replies(scorer: nn.Module) -> tuple[Tensor, Tensor]:
        logits = scorer(input_ids=tokens, attention_mask=batch["attention_mask"]).logits
        chosen, rejected = sequence_log_probs(token_log_probs(logits, tokens), mask).chunk(2)
        return chosen, rejected

    with torch.no_grad():
        of_reference = replies(reference)
    lengths, other_lengths = mask.sum(1).chunk(2)
    arguments = *replies(net), *of_reference, BETA
    if kind == "sigmoid":
        ours, chosen, rejected = dpo_loss(*arguments)
    elif kind == "ipo":
        ours, chosen, rejected = ipo_loss(*arguments, lengths=(lengths, other_lengths))
    else:
        assert len(lengths.unique()) == 1 and len(other_lengths.unique()) > 1
        ours, chosen, rejected = dpo_loss(*arguments)
        ours = ours + 0.5 * likelihood_loss(arguments[0], lengths)
    assert_same(ours, theirs, net)
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert metrics["rewards/chosen"] == pytest.approx(chosen.mean().item(), abs=1e-5)
    assert metrics["rewards/rejected"] == pytest.approx(rejected.mean().item(), abs=1e-5)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo"])
def test_grpo(kind: str, tmp_path: Path) -> None:
    """TRL draws the replies, scores them and works out advantages; the policy then moves on."""
    group, most, unbiased = 4, 5, kind == "dr_grpo"
    given: list[float] = []

    def reward(completions: list[str], **_: Any) -> list[float]:
        given.extend(0.1 * len(set(text)) for text in completions)
        return given

    start = tmp_path / "start"
    model().save_pretrained(start)
    trainer = GRPOTrainer(
        str(start), reward,
        GRPOConfig(**settings(
            tmp_path, per_device_train_batch_size=2 * group, num_generations=group, beta=BETA,
            max_completion_length=most, loss_type=kind, use_bias_correction_kl=False,
            scale_rewards=not unbiased, epsilon=0.2, seed=3,
        )),
        train_dataset=datasets.Dataset.from_list([{"prompt": "a b c"}, {"prompt": "d e f"}]),
        processing_class=tokenizer(),
    )  # fmt: skip
    net = trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    advantages = group_advantages(torch.tensor(given).view(-1, group), unbiased)
    assert advantages.abs().max() > 0.01
    of_trl = batch["advantages"]  # of the same replies, but shuffled
    assert torch.allclose(advantages.flatten().sort().values, of_trl.sort().values, atol=1e-6)

    tokens = torch.cat((batch["prompt_ids"], batch["completion_ids"]), 1)
    mask, width = batch["completion_mask"].bool(), batch["completion_ids"].shape[1]
    assert len(mask.sum(1).unique()) > 1

    def completions(scorer: nn.Module) -> Tensor:
        return token_log_probs(scorer(input_ids=tokens).logits, tokens)[:, -width:]

    with torch.no_grad():
        batch["old_per_token_logps"] = old = completions(net)
        for parameter in net.parameters():  # as if some steps had been made on this minibatch
            parameter.add_(0.05 * torch.randn_like(parameter))
    reference = batch["ref_per_token_logps"]
    trainer.current_gradient_accumulation_steps = 1  # its training loop would set it
    theirs = trainer._compute_loss(net, batch)
    ours, kl, clipped = grpo_loss(
        completions(net), old, reference, of_trl, mask, 0.2, BETA, unbiased, most
    )
    assert 0 < clipped < 1
    assert_same(ours, theirs, net)
    assert trainer._metrics["train"]["kl"][-1] == pytest.approx(kl.item(), abs=1e-5)
