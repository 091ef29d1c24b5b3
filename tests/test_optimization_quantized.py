"""Rounding at any number of bits, a whole model in int8, and models in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gpt.generation import generate
from gpt.gpt_config import RECIPES
from gpt.int8_weights import quantize_rows
from gpt.verify_structure import small_model
from optimization.quantized_model import (
    FORMATS,
    Int8Embedding,
    dynamic_model,
    load_stored,
    quantize_model,
    save_model,
    stored_bytes,
    stored_tensors,
)
from optimization.rounding import bits_per_weight, round_model, round_weights
from optimization.techniques import dynamic_bytes

RECIPE_NAMES = sorted(RECIPES)


def test_rounding_by_hand() -> None:
    weight = torch.tensor([[0.9, -0.2], [0.09, 0.02]])
    one_scale = round_weights(weight, 3, "tensor")  # 3 bits: -3 to 3, a step is 0.3
    assert torch.allclose(one_scale, torch.tensor([[0.9, -0.3], [0.0, 0.0]]))
    row_scales = round_weights(weight, 3, "row")
    assert torch.allclose(row_scales, torch.tensor([[0.9, -0.3], [0.09, 0.03]]))


def test_eight_bits_a_row_are_those_of_gpt() -> None:
    torch.manual_seed(0)
    weight = torch.randn(40, 64)
    integers, scales = quantize_rows(weight)
    assert torch.equal(round_weights(weight, 8, "row"), integers * scales[:, None])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_weight_moves_by_half_a_step_at_most_and_smaller_sets_move_less(bits: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 96) * torch.logspace(-2, 0, 64)[:, None]
    errors = {
        sharing: (round_weights(weight, bits, sharing) - weight).abs()  # type: ignore[arg-type]
        for sharing in ("tensor", "row", "group")
    }
    step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert (errors["row"] <= step / 2 * (1 + 1e-4)).all()
    assert errors["group"].mean() < errors["row"].mean() < errors["tensor"].mean()
    assert len(round_weights(weight, bits, "row")[0].unique()) <= 2**bits - 1


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(ValueError, match="bits=1 is out of range"):
        round_weights(torch.ones(2, 2), 1)
    with pytest.raises(ValueError, match="48 weights cannot be cut into groups of 32"):
        round_weights(torch.ones(2, 48), 8, "group")


def test_bits_a_weight_count_the_scale() -> None:
    assert bits_per_weight(8, "row", 64) == 8.5
    assert bits_per_weight(8, "tensor", 64) == 8


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_a_rounded_copy_leaves_the_model_alone_and_ties_stay(recipe: str) -> None:
    model, tokens = small_model(recipe, torch.float32), torch.randint(50, (2, 16))
    before = model(tokens)
    rounded = round_model(model, 3)
    assert torch.equal(model(tokens), before) and not torch.equal(rounded(tokens), before)
    tied = rounded.head.weight is rounded.token_embedding.weight
    assert tied is model.config.tie_weights


def test_an_embedding_looks_up_its_rounded_rows() -> None:
    torch.manual_seed(0)
    table, tokens = torch.randn(20, 8), torch.randint(20, (3, 5))
    embedding = Int8Embedding(*quantize_rows(table))
    assert torch.equal(embedding(tokens), round_weights(table, 8, "row")[tokens])


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_an_int8_model_writes_and_keeps_its_predictions(recipe: str) -> None:
    model, tokens = small_model(recipe, torch.float32), torch.randint(50, (4, 16))
    int8 = quantize_model(model)
    assert isinstance(int8.token_embedding, Int8Embedding)
    with torch.inference_mode():
        exact, rounded = model(tokens).log_softmax(-1), int8(tokens).log_softmax(-1)
    divergence = (exact.exp() * (exact - rounded)).sum(-1).mean().item()
    assert 0 < divergence < 0.02
    assert len(generate(int8, tokens[:2, :4], 20)[0]) == 20  # through the cache, past the window
    assert isinstance(model.token_embedding, nn.Embedding)


def test_torch_rounds_with_one_scale_a_matrix() -> None:
    """What stands beside ours: its integers are those of one scale for the whole matrix."""
    model = small_model("modern", torch.float32)
    with torch.no_grad():
        model.head.weight[0] *= 10  # one large row makes every other row coarse
    theirs = dynamic_model(model).head.weight()  # type: ignore[operator]
    assert theirs.qscheme() == torch.per_tensor_affine
    exact = model.head.weight.detach()
    ours = round_weights(exact, 8, "row")
    assert (theirs.dequantize() - exact)[1:].abs().mean() > 5 * (ours - exact)[1:].abs().mean()


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
@pytest.mark.parametrize("number_format", FORMATS)
def test_a_stored_model_comes_back(tmp_path: Path, recipe: str, number_format: str) -> None:
    model, path = small_model(recipe, torch.float32), tmp_path / "folder" / "model.safetensors"
    size = save_model(path, model, number_format)  # type: ignore[arg-type]
    again = load_stored(path)
    assert again.config == model.config and not again.training
    assert 0 < size - stored_bytes(model, number_format) < 8000  # type: ignore[arg-type]
    tokens = torch.randint(50, (2, 16))
    difference = (again(tokens) - model(tokens)).abs().max() / model(tokens).abs().max()
    assert (
        difference <= {"float32": 0, "float16": 0.01, "bfloat16": 0.1, "int8": 0.1}[number_format]
    )
    assert (difference == 0) == (number_format == "float32")
    tied = again.head.weight is again.token_embedding.weight
    assert tied is model.config.tie_weights


def test_integers_survive_the_file(tmp_path: Path) -> None:
    model, path = small_model("gpt2", torch.float32), tmp_path / "model.safetensors"
    save_model(path, model, "int8")
    first, second = stored_tensors(model, "int8"), stored_tensors(load_stored(path), "int8")
    integers = [name for name in first if name.endswith(".integers")]
    assert len(integers) == 2 + 4 * model.config.n_layers  # embedding, positions, 4 a block
    assert all(torch.equal(first[name], second[name]) for name in integers)
    assert all(first[name].dtype == torch.int8 for name in integers)


def test_bad_files_and_formats_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="does not exist. Write it with save_model"):
        load_stored(path)
    path.write_bytes(b"not a model at all")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        load_stored(path)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="does not say which shape the model has"):
        load_stored(path)
    with pytest.raises(ValueError, match="number format 'int4' is unknown. Use one of: float32"):
        save_model(path, small_model("gpt2", torch.float32), "int4")  # type: ignore[arg-type]


def test_int8_needs_less_than_a_third_and_less_than_torch() -> None:
    model = small_model("modern", torch.float32)
    full, ours = stored_bytes(model, "float32"), stored_bytes(model, "int8")
    assert ours / full < 0.3
    assert ours < dynamic_bytes(model) < full
