"""Speculative decoding: the target's text and the target's distribution, whatever the draft."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpt.generation import generate
from gpt.gpt_config import RECIPES
from gpt.gpt_model import GPT
from gpt.sampling import GREEDY, Sampling, distribution
from gpt.speculative import speculate
from gpt.verify_structure import small_model


def other_model(recipe: str, scale: float) -> GPT:
    """A draft that agrees with the target in part: the target's weights with noise."""
    model = small_model(recipe)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return model


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("scale", [0.0, 0.02, 1.0])
def test_greedy_text_is_the_targets_own(recipe: str, scale: float) -> None:
    target, draft = small_model(recipe), other_model(recipe, scale)
    expected = generate(target, [[1, 2, 3]], 60)[0]  # passes the window of 16
    for draft_tokens in (1, 3, 7):
        result = speculate(target, draft, [1, 2, 3], 60, GREEDY, draft_tokens=draft_tokens)
        assert result.tokens == expected
        if scale == 0.0:
            assert result.acceptance == 1.0 and result.passes < 60
    stop = expected[7]
    cut = speculate(target, draft, [1, 2, 3], 60, GREEDY, stop=[stop]).tokens
    assert cut == expected[: expected.index(stop)]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=4)])
def test_sampled_tokens_follow_the_targets_distribution(sampling: Sampling) -> None:
    """Chi-square over pairs of tokens: the second one depends on what was accepted before it."""
    torch.manual_seed(0)
    config = replace(small_model("gpt2").config, vocab_size=6, max_len=8)
    target, draft = GPT(config).double().eval(), GPT(config).double().eval()
    with torch.no_grad():
        for model in (target, draft):
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.3)
    runs = 3000
    pairs = torch.zeros(6, 6, dtype=torch.float64)
    accepted = 0
    for seed in range(runs):
        result = speculate(target, draft, [2], 2, sampling, seed=seed, draft_tokens=2)
        pairs[result.tokens[0], result.tokens[1]] += 1
        accepted += result.accepted
    with torch.no_grad():
        first = distribution(target(torch.tensor([[2]]))[:, -1], sampling)[0]  # (V,)
        prompts = torch.tensor([[2, token] for token in range(6)])
        second = distribution(target(prompts)[:, -1], sampling)  # (V, V)
    expected = runs * first[:, None] * second
    assert (pairs[expected == 0] == 0).all()
    large = expected > 5
    chi_square = ((pairs - expected).square()[large] / expected[large]).sum().item()
    degrees = int(large.sum()) - 1
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5  # four standard deviations
    assert 0 < accepted < runs  # the draft was neither always nor never right


def test_a_foreign_draft_is_refused() -> None:
    target = small_model("gpt2")
    draft = GPT(replace(target.config, vocab_size=51)).double()
    with pytest.raises(ValueError, match="the draft has 51 tokens and the target 50"):
        speculate(target, draft, [1], 3)
    with pytest.raises(ValueError, match="draft_tokens=0 proposes nothing"):
        speculate(target, target, [1], 3, draft_tokens=0)
