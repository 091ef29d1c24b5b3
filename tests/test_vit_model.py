"""The assembled ViT and its rival: designs, sizes, initial weights, resizing, the proof script."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vit.cnn_baseline import CNNConfig, ResidualCNN, cnn_of_size, cnn_parameter_count
from vit.patch_embedding import to_images, to_patches
from vit.position_encodings import LearnedPositions, RotaryPositions2D
from vit.verify_vit_structure import CHECKS, main
from vit.vit_config import POSITIONS
from vit.vit_model import SIZES, ViT, ViTConfig, parameter_count

SMALL = ViTConfig(
    image_size=12, patch_size=4, channels=3, n_classes=7, d_model=32, n_heads=4, n_layers=2, d_ff=48
)
DESIGNS = [
    {"positions": positions, "pooling": pooling, "stem": stem}
    for positions in POSITIONS
    for pooling in ("cls", "mean")
    for stem in ("patches", "conv")
]


def randomize(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(0.2 * noise)


def small_model(**changes: Any) -> ViT:
    model = ViT(dataclasses.replace(SMALL, **changes)).double().eval()
    randomize(model)
    return model


def batch(size: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, size, size, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: "-".join(d.values()))
def test_every_design_has_the_closed_formulas_parameters_and_learns(design: Any) -> None:
    model = small_model(**design)
    assert sum(p.numel() for p in model.parameters()) == parameter_count(model.config)
    model(batch()).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: "-".join(d.values()))
def test_intermediates_are_the_steps_of_the_same_pass(design: Any) -> None:
    model = small_model(**design)
    logits, named = model(batch(), return_intermediates=True)
    patches = ["patches"] if design["stem"] == "patches" else []
    assert list(named) == [
        *patches, "embedding", "attention_0", "layer_0", "attention_1", "layer_1", "hidden",
        "features", "logits",
    ]  # fmt: skip
    assert (logits - model(batch())).abs().max() < 1e-10 * logits.abs().max()
    assert torch.allclose(named["features"], model.features(batch()))
    weights, tokens = named["attention_1"], model.config.n_tokens
    assert weights.shape == (4, 4, tokens, tokens)
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_permuted_patches_without_positions_permute_the_vectors(pooling: str) -> None:
    model, images = small_model(positions="none", pooling=pooling), batch()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    mixed = to_images(to_patches(images, 4)[:, order], 4, 3)
    logits, named = model(images, return_intermediates=True)
    other, other_named = model(mixed, return_intermediates=True)
    front = model.config.n_tokens - 9
    assert (
        named["hidden"][:, front:][:, order] - other_named["hidden"][:, front:]
    ).abs().max() < 1e-11
    assert (logits - other).abs().max() < 1e-11


@torch.no_grad()
@pytest.mark.parametrize("positions", [name for name in POSITIONS if name != "none"])
def test_permuted_patches_with_positions_are_another_image(positions: str) -> None:
    model, images = small_model(positions=positions), batch()
    mixed = to_images(to_patches(images, 4).flip(1), 4, 3)
    assert (model(images) - model(mixed)).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: "-".join(d.values()))
def test_resizing(design: Any) -> None:
    model = small_model(**design)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert torch.equal(model.resized(12)(batch()), model(batch()))
    larger = model.resized(20)
    assert larger.config.grid == 5 and model.config.grid == 3
    assert larger(batch(20)).isfinite().all() and not larger.training
    larger.head.weight.zero_()
    for name, tensor in model.state_dict().items():  # the first one is as it was
        assert torch.equal(tensor, state[name]), name


def test_a_resized_model_has_its_own_positions_in_its_state() -> None:
    model = small_model(positions="rotary-2d").resized(20)
    assert isinstance(model.positions, RotaryPositions2D)
    fresh = ViT(model.config).double().eval()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(batch(20)), model(batch(20)))


def test_resizing_refuses_half_patches() -> None:
    with pytest.raises(ValueError, match="image_size=18 is no multiple of patch_size=4"):
        small_model().resized(18)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 5.7), ("small", 22.1), ("base", 86.6)])
def test_published_sizes(size: str, millions: float) -> None:
    assert round(parameter_count(SIZES[size]) / 1e6, 1) == millions
    assert SIZES[size].d_head == 64 and SIZES[size].n_tokens == 197


def test_initial_weights_are_the_papers() -> None:
    torch.manual_seed(0)
    model = ViT(ViTConfig(d_model=256, d_ff=512, n_layers=1))
    layer: Any = model.encoder[0]
    for matrix in (*layer.attention.qkv.weight.chunk(3), layer.attention.output.weight):
        assert matrix.std().item() == pytest.approx(math.sqrt(2 / 512), rel=0.03)
    assert layer.feed_forward.expand.weight.std().item() == pytest.approx(
        math.sqrt(2 / 768), rel=0.03
    )
    assert model.stem.linear.weight.std().item() == pytest.approx(1 / 4, rel=0.05)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name.startswith("head") or name == "class_token":
            assert parameter.abs().max() == 0, name
    logits = model(torch.randn(2, 1, 28, 28))
    assert isinstance(logits, Tensor) and logits.abs().max() == 0


@pytest.mark.parametrize("positions", ["learned", "rotary-2d"])
def test_modules_stand_in_the_order_of_forward(positions: Any) -> None:
    """The trainer's optimizer counts on it: the stem first, the head last."""
    model = ViT(dataclasses.replace(SMALL, positions=positions, stem="conv"))
    matrices = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert matrices[0] is model.stem.steps[0].conv  # type: ignore[union-attr,index]
    assert matrices[-1] is model.head
    cnn = ResidualCNN(CNNConfig())
    matrices = [m for m in cnn.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert matrices[0] is cnn.stem and matrices[-1] is cnn.head


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 12, 12), "the images have 1 channels and the model reads 3"),
        ((2, 3, 12, 16), "images of 12 x 16 pixels do not fit a model for 12 x 12"),
        ((3, 12, 12), "are no minibatch"),
    ],
)
def test_foreign_images_are_refused(shape: tuple[int, ...], message: str) -> None:
    for model in (ViT(SMALL), ResidualCNN(CNNConfig(12, 3, 7))):
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 5}, "image_size=28 is no multiple of patch_size=5: 3 pixels"),
        ({"d_model": 130}, "not divisible by n_heads=4"),
        ({"dropout": 1.0}, "dropout=1.0 is no share below 1"),
        ({"channels": 0}, "channels=0 is not possible"),
        ({"positions": "sine"}, "positions='sine' is not known. Use one of learned, learned-2d"),
        ({"pooling": "max"}, "pooling='max' is not known"),
        ({"stem": "big"}, "stem='big' is not known"),
        ({"norm_eps": 0.0}, "norm_eps=0.0 divides by zero"),
        ({"positions": "rotary-2d", "d_model": 24}, "d_head=6 cannot be cut into 4 equal parts"),
        ({"positions": "sine-2d", "d_model": 6, "n_heads": 1}, "d_model=6 cannot be cut into 4"),
        ({"stem": "conv", "patch_size": 1}, "leaves a convolutional stem nothing to shrink"),
        ({"stem": "conv", "patch_size": 7, "image_size": 56}, "halves 56 pixels 3 times"),
        ({"stem": "conv", "patch_size": 14, "d_model": 132}, "cannot be halved for each step"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTConfig(**changes)


@pytest.mark.parametrize("config", [CNNConfig(), CNNConfig(8, 3, 5, 24, 2, 2), CNNConfig(32, 3)])
def test_cnn(config: CNNConfig) -> None:
    model = ResidualCNN(config)
    assert sum(p.numel() for p in model.parameters()) == cnn_parameter_count(config)
    images = torch.randn(2, config.channels, config.image_size, config.image_size)
    assert model(images).shape == (2, config.n_classes) and model(images).abs().max() == 0
    randomize(model)
    features = model.features(images)
    assert features.shape == (2, model.head.in_features)
    assert torch.equal(model.head(features), model(images))
    model(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_the_cnns_blocks_begin_as_their_shortcuts() -> None:
    model = ResidualCNN(CNNConfig())
    x = torch.randn(2, 32, 14, 14)
    block: Any = model.blocks[0]
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("size", "parameters"), [(8, 135_000), (28, 805_130), (32, 1_100_000)])
def test_the_cnn_is_as_large_as_the_vit(size: int, parameters: int) -> None:
    config = cnn_of_size(parameters, size, 1, 10)
    assert cnn_parameter_count(config) == pytest.approx(parameters, rel=0.3)
    for width in (config.width - 8, config.width + 8):
        other = cnn_parameter_count(dataclasses.replace(config, width=width))
        assert abs(other - parameters) >= abs(cnn_parameter_count(config) - parameters)


def test_the_structure_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.count("PASS") == len(CHECKS)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_ledger_lists_every_step(pooling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", "--pooling", pooling]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[2:]]
    assert names[:5] == ["images", "patches", "embedding", "attention.0", "layer.0"]
    assert names[-3:] == ["hidden", "features", "logits"]


def test_a_broken_model_fails_the_proof(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Positions that are forgotten are found."""
    monkeypatch.setattr(LearnedPositions, "forward", lambda self, x: x)
    assert main([]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert any("another order of the patches gives other logits" in line for line in failed)
