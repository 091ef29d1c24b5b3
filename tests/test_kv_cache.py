"""The cache: cached and uncached logits agree, rows of any length, trimming and choosing rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from gpt.context_window import Context
from gpt.gpt_config import RECIPES
from gpt.verify_structure import small_model


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("pieces", [[16], [1] * 16, [5, 1, 3, 7], [1, 15]])
def test_pieces_give_the_logits_of_the_whole(recipe: str, pieces: list[int]) -> None:
    model, tokens = small_model(recipe), torch.randint(50, (3, 16))
    cache = model.new_cache(3)
    logits = torch.cat([model(part, cache) for part in tokens.split(pieces, dim=1)], dim=1)
    assert torch.allclose(logits, model(tokens), atol=1e-12)
    assert cache.lengths == [16, 16, 16]


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_of_different_lengths_equal_single_rows(recipe: str) -> None:
    model = small_model(recipe)
    rows = [torch.randint(50, (length,)).tolist() for length in (3, 9, 1, 6)]
    batch = Context(model, rows)
    singles = [Context(model, [row]) for row in rows]
    for _ in range(4):
        together = batch.scores()[:, -1]
        apart = torch.cat([single.scores()[:, -1] for single in singles])
        assert torch.allclose(together, apart, atol=1e-12)
        tokens = torch.randint(50, (4,)).tolist()
        batch.append(tokens)
        for single, token in zip(singles, tokens, strict=True):
            single.append([token])


@pytest.mark.parametrize("recipe", RECIPES)
def test_trimmed_tokens_leave_no_trace(recipe: str) -> None:
    model, tokens = small_model(recipe), torch.randint(50, (2, 10))
    cache = model.new_cache(2)
    model(tokens[:, :6], cache)
    model(torch.randint(50, (2, 5)), cache)  # a wrong guess, taken back
    cache.trim(6)
    assert torch.allclose(model(tokens[:, 6:], cache), model(tokens)[:, 6:], atol=1e-12)


def test_selected_rows_go_on() -> None:
    model, tokens = small_model("modern"), torch.randint(50, (3, 8))
    cache = model.new_cache(3)
    model(tokens[:, :5], cache)
    rows = [2, 2, 0, 1]  # more rows than before, one of them twice
    cache.select(rows)
    expected = model(tokens[rows])[:, 5:]
    assert torch.allclose(model(tokens[rows][:, 5:], cache), expected, atol=1e-12)


def test_trimming_only_shortens() -> None:
    cache = small_model("gpt2").new_cache(1)
    with pytest.raises(ValueError, match="cannot trim a cache row of 0 tokens to 3"):
        cache.trim(3)


def test_grouped_heads_shrink_the_cache() -> None:
    assert small_model("modern").new_cache(1).keys.shape[2] == 2  # 4 query heads share them
    assert small_model("gpt2").new_cache(1).keys.shape[2] == 4
