"""LoRA: equal to peft, merged and unmerged, saved and loaded, refused where it makes no sense."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT
from instruction_tuning.lora import (
    LoRALinear,
    add_lora,
    lora_layers,
    lora_parameters,
    merge_lora,
    remove_lora,
    unmerge_lora,
    without_lora,
)
from instruction_tuning.losses import sft_loss, token_log_probs
from instruction_tuning.saved_model import load_trained, trained_weights
from instruction_tuning.small_examples import small_batch, small_model

NAMES = ("qkv", "output", "expand")


def randomize(model: nn.Module, seed: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for matrix in lora_parameters(model):
            matrix.copy_(0.3 * torch.randn(matrix.shape, generator=generator).to(matrix.dtype))


def tuned_model() -> GPT:
    model = small_model()
    add_lora(model, NAMES, rank=4, alpha=8.0)
    randomize(model)
    return model


def tokens() -> Tensor:
    return small_batch()[0]


def loss_of(model: nn.Module) -> Tensor:
    batch, mask = small_batch()
    return sft_loss(token_log_probs(model(batch), batch), mask[:, 1:])


def test_equal_to_peft_in_values_and_gradients() -> None:
    peft = pytest.importorskip("peft")
    base = small_model()
    ours, theirs = copy.deepcopy(base), copy.deepcopy(base)
    add_lora(ours, NAMES, rank=4, alpha=8.0)
    randomize(ours)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(NAMES), lora_dropout=0.0)
    theirs = peft.inject_adapter_in_model(config, theirs)
    pairs = []
    for name, layer in lora_layers(ours):
        twin = theirs.get_submodule(name)
        pairs += [(layer.lora_a, twin.lora_A["default"].weight)]
        pairs += [(layer.lora_b, twin.lora_B["default"].weight)]
    with torch.no_grad():
        for mine, other in pairs:
            assert mine.shape == other.shape
            other.copy_(mine)
    assert torch.allclose(ours(tokens()), theirs(tokens()), rtol=0, atol=1e-6)
    loss_of(ours).backward()
    loss_of(theirs).backward()
    for mine, other in pairs:
        assert mine.grad is not None and mine.grad.abs().max() > 1e-4
        assert torch.allclose(mine.grad, other.grad.to(mine.dtype), rtol=0, atol=1e-6)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == sum(
        p.numel() for p in ours.parameters() if p.requires_grad
    )
    unmerged = ours(tokens())
    merge_lora(ours)
    for module in theirs.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
    assert torch.allclose(ours(tokens()), theirs(tokens()), rtol=0, atol=1e-6)
    assert torch.allclose(ours(tokens()), unmerged, rtol=0, atol=1e-6)


def test_by_hand() -> None:
    layer = LoRALinear(nn.Linear(2, 2), rank=1, alpha=3.0)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(2))
        layer.linear.bias.copy_(torch.tensor([0.0, 1.0]))
        layer.lora_a.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_b.copy_(torch.tensor([[1.0], [-1.0]]))
    # x = (1, 1): A x = 3, B A x = (3, -3), scaled by 3 / 1
    assert torch.equal(layer(torch.ones(1, 2)), torch.tensor([[1.0 + 9.0, 2.0 - 9.0]]))


def test_a_step_changes_a_and_b_alone_and_lowers_the_loss() -> None:
    model = small_model()
    add_lora(model, NAMES, rank=4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(lora_parameters(model), lr=0.01)
    first = loss_of(model)
    for _ in range(5):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    assert loss_of(model) < first
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(trained_weights(model))


def test_names_are_ends_of_names() -> None:
    model = small_model()
    assert add_lora(model, ("blocks.0.attention.qkv",)) == ["blocks.0.attention.qkv"]
    every = add_lora(small_model(), ("qkv", "attention.qkv", "head"))
    assert every == ["blocks.0.attention.qkv", "blocks.1.attention.qkv", "head"]


def test_any_linear_layer_of_any_module() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    assert add_lora(model, ("0", "2"), rank=2) == ["0", "2"]
    x = torch.randn(4, 3)
    randomize(model)
    tuned = model(x)
    merge_lora(model)
    remove_lora(model)
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert torch.allclose(model(x), tuned, atol=1e-6)


def test_merging_many_times_does_not_drift() -> None:
    """A training that merges for each rollout must come back to the same weights."""
    model = tuned_model().float()
    model.turns = model.turns.float()
    before, weights = model(tokens()), copy.deepcopy(model.state_dict())
    for _ in range(3):
        merge_lora(model)
        merge_lora(model)  # a second call adds nothing
        assert torch.allclose(model(tokens()), before, atol=1e-4)
        unmerge_lora(model)
        unmerge_lora(model)
    assert torch.equal(model(tokens()), before)
    assert all(torch.equal(weights[name], w) for name, w in model.state_dict().items())


def test_removed_after_merging_the_model_is_a_plain_one_that_can_be_trained() -> None:
    model = tuned_model()
    tuned, plain = model(tokens()), small_model()
    merge_lora(model)
    remove_lora(model)
    plain.load_state_dict(model.state_dict())  # the names of a plain model
    assert torch.allclose(plain(tokens()), tuned, atol=1e-12)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_removed_without_merging_it_is_the_model_from_before() -> None:
    model = tuned_model()
    remove_lora(model)
    assert torch.equal(model(tokens()), small_model()(tokens()))


@pytest.mark.parametrize("merged", [False, True])
def test_without_lora_it_is_the_reference_and_afterwards_the_policy(merged: bool) -> None:
    model, reference = tuned_model(), small_model()
    if merged:
        merge_lora(model)
    tuned = model(tokens())
    with without_lora(model):
        assert torch.equal(model(tokens()), reference(tokens()))
    assert torch.equal(model(tokens()), tuned) and not torch.equal(tuned, reference(tokens()))


def test_without_lora_ends_also_after_an_error() -> None:
    model = tuned_model()
    tuned = model(tokens())
    with pytest.raises(KeyError), without_lora(model):
        raise KeyError
    assert torch.equal(model(tokens()), tuned)


def test_what_is_saved_is_a_and_b_alone_and_fits_another_model(tmp_path: Path) -> None:
    model = tuned_model()
    state = {name: weight.clone() for name, weight in trained_weights(model).items()}
    assert len(state) == 2 * 6 and all(name.endswith((".lora_a", ".lora_b")) for name in state)
    assert sum(t.numel() for t in state.values()) < 0.5 * sum(
        p.numel() for p in small_model().parameters()
    )
    other = small_model()
    add_lora(other, NAMES, rank=4, alpha=8.0)
    load_trained(other, state, tmp_path)
    assert torch.equal(other(tokens()), model(tokens()))


def test_corrections_of_other_layers_are_refused(tmp_path: Path) -> None:
    other = small_model()
    add_lora(other, ("qkv",), rank=4)
    with pytest.raises(ValueError, match="do not fit its own settings .+on one side only"):
        load_trained(other, trained_weights(tuned_model()), tmp_path)


def tied_model() -> GPT:
    return GPT(replace(small_model().config, tie_weights=True))


@pytest.mark.parametrize(
    ("build", "arguments", "text"),
    [
        (
            small_model,
            {"names": ("qkv", "query")},
            "LoRA on 'query': the model has no linear layer of that name.+ "
            "contract, expand, head, output, qkv",
        ),
        (small_model, {"names": ("token_embedding",)}, "LoRA on 'token_embedding'"),
        (small_model, {"names": ("kv",)}, "LoRA on 'kv'"),  # part of a name is no name
        (small_model, {"rank": 0}, "lora rank=0 leaves no correction"),
        (tied_model, {"names": ("head",)}, r"LoRA on 'head': its weight is also another layer's"),
        (tuned_model, {}, "the model has LoRA layers already"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_model_left_alone(
    build: object, arguments: dict[str, object], text: str
) -> None:
    model = build()  # type: ignore[operator]
    frozen = [p.requires_grad for p in model.parameters()]
    with pytest.raises(ValueError, match=text):
        add_lora(model, **arguments)
    assert [p.requires_grad for p in model.parameters()] == frozen
