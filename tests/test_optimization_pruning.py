"""Pruning: which weights and neurons go, and what a short training may not bring back."""

from __future__ import annotations

import pytest
import torch

from gpt.generation import generate
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.verify_structure import small_model
from optimization.pruning import (
    block_matrices,
    magnitude_masks,
    neuron_scores,
    prune,
    remove_neurons,
    retrain,
    zero_share,
)
from optimization.techniques import sparse_bytes
from optimization.verify_optimization import small_text


def model_of(recipe: str = "modern") -> GPT:
    return small_model(recipe, torch.float32)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_smallest_weights_go(scope: str) -> None:
    model = model_of()
    masks = magnitude_masks(model, 0.6, scope)  # type: ignore[arg-type]
    assert set(masks) == set(block_matrices(model))
    kept = torch.cat([w[masks[n]].abs() for n, w in block_matrices(model).items()])
    gone = torch.cat([w[~masks[n]].abs() for n, w in block_matrices(model).items()])
    assert len(gone) / (len(gone) + len(kept)) == pytest.approx(0.6, abs=1e-3)
    if scope == "global":
        assert gone.max() <= kept.min()
    else:
        shares = [1 - mask.float().mean().item() for mask in masks.values()]
        assert shares == pytest.approx([0.6] * len(shares), abs=1e-3)


def test_global_pruning_takes_more_from_matrices_of_small_weights() -> None:
    model = model_of()
    first = next(iter(block_matrices(model)))
    with torch.no_grad():
        block_matrices(model)[first].mul_(0.1)
    masks = magnitude_masks(model, 0.3, "global")
    assert masks[first].float().mean() < 0.2


def test_nothing_left_out_is_the_same_model() -> None:
    model, tokens = model_of(), torch.randint(50, (2, 16))
    pruned, masks = prune(model, 0.0)
    assert all(mask.all() for mask in masks.values())
    assert torch.equal(pruned(tokens), model(tokens))


def test_a_pruned_copy_leaves_the_model_alone() -> None:
    model = model_of()
    pruned, _ = prune(model, 0.5)
    assert zero_share(model) == 0 and zero_share(pruned) == pytest.approx(0.5, abs=1e-3)
    assert sparse_bytes(pruned) < sparse_bytes(model)


def test_training_moves_only_what_is_kept() -> None:
    pruned, masks = prune(model_of(), 0.8)
    before = {name: w.clone() for name, w in block_matrices(pruned).items()}
    retrain(pruned, small_text(), 3, masks=masks, batch_size=4)
    for name, weight in block_matrices(pruned).items():
        assert (weight[~masks[name]] == 0).all()
        assert (weight != before[name])[masks[name]].float().mean() > 0.9
    assert not pruned.training


def test_training_lowers_the_loss_and_repeats() -> None:
    data = small_text()
    x, y = data.tokens["train"][None, :16], data.tokens["train"][None, 1:17]
    models = [prune(model_of(), 0.5) for _ in range(2)]
    before = torch.nn.functional.cross_entropy(models[0][0](x)[0], y[0])
    for model, masks in models:
        retrain(model, data, 20, masks=masks, batch_size=4, lr=1e-2)
    assert torch.nn.functional.cross_entropy(models[0][0](x)[0], y[0]) < before
    assert torch.equal(models[0][0](x), models[1][0](x))


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_removed_neurons_make_a_smaller_model_that_writes(recipe: str) -> None:
    model = model_of(recipe)
    small = remove_neurons(model, 0.75)
    assert small.config.d_ff == model.config.d_ff // 4
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    assert len(generate(small, [[1, 2, 3]], 20)[0]) == 20
    same, tokens = remove_neurons(model, 0.0), torch.randint(50, (2, 16))
    assert torch.allclose(same(tokens), model(tokens))


def test_a_neuron_scores_by_what_it_can_change() -> None:
    feed_forward = model_of("modern").blocks[0].feed_forward  # squared ReLU
    with torch.no_grad():
        feed_forward.expand.weight[0] *= 3
        before = neuron_scores(feed_forward)
        feed_forward.expand.weight[0] *= 2
        feed_forward.contract.weight[:, 1] *= 2
        after = neuron_scores(feed_forward)
    ratios = (after / before).tolist()
    assert ratios[:3] == pytest.approx([4.0, 2.0, 1.0], rel=1e-4)


def test_bad_shares_are_explained() -> None:
    with pytest.raises(ValueError, match="sparsity=1.0 is no share below 1"):
        magnitude_masks(model_of(), 1.0)
    with pytest.raises(ValueError, match="share=-0.1 of the neurons cannot be removed"):
        remove_neurons(model_of(), -0.1)
    gated = GPT(GPTConfig(50, activation="swiglu"))
    with pytest.raises(ValueError, match="swiglu.*Use a model with gelu or relu2"):
        remove_neurons(gated, 0.5)
