"""ViT's published format, with transformers as the oracle on randomly drawn checkpoints.

The oracle runs torch's fused attention: its written-out one has the softmax in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vit.pretrained import load_pretrained, save_pretrained
from vit.vit_config import SIZES
from vit.vit_model import ViT, ViTConfig

transformers = pytest.importorskip("transformers")
CLASSES = ("cat", "dog", "a bird", "mouse", "fish")
SMALL = {
    "image_size": 12, "patch_size": 4, "num_channels": 3, "hidden_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "id2label": dict(enumerate(CLASSES)),
    "label2id": {name: i for i, name in enumerate(CLASSES)},
}  # fmt: skip
OURS = ViTConfig(
    image_size=12, patch_size=4, channels=3, n_classes=5, d_model=32, n_heads=4, n_layers=2, d_ff=48
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers.logging.set_verbosity_error()


def randomize(model: nn.Module, std: float = 0.2) -> None:
    """Norm gains and biases too: at 1 and 0, a swapped or forgotten one would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(std * noise)


def saved(
    folder: Path,
    kind: str = "ViTForImageClassification",
    dtype: Any = torch.float64,
    **changes: Any,
) -> Path:
    """A checkpoint as transformers writes it."""
    model = getattr(transformers, kind)(transformers.ViTConfig(**SMALL | changes)).to(dtype)
    randomize(model)
    model.save_pretrained(folder)
    return folder


def opened(folder: Path, dtype: Any = torch.float64) -> Any:
    return transformers.ViTForImageClassification.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa"
    ).eval()


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(values), encoding="utf-8")


def rename(folder: Path, change: Any) -> None:
    """Rewrites the weights with names changed; ``change`` returns None to leave one out."""
    path = folder / "model.safetensors"
    tensors = {change(name): tensor.clone() for name, tensor in load_file(path).items()}
    tensors.pop(None, None)
    save_file(tensors, path)


def images(size: int = 12, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=generator)


@torch.no_grad()
def difference(ours: ViT, theirs: Any, size: int = 12, count: int = 3) -> float:
    """Largest relative difference of logits and vectors."""
    given = images(size, count).to(ours.head.weight.dtype)
    logits, named = ours(given, return_intermediates=True)
    expected = theirs(given.to(theirs.dtype), output_hidden_states=True)
    pairs = [(logits, expected.logits), (named["layer_0"], expected.hidden_states[1])]
    pairs.append((ours(given), expected.logits))
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_logits_equal_in_float64_to_rounding(tmp_path: Path, eps: float) -> None:
    folder = saved(tmp_path, layer_norm_eps=eps)
    ours, classes = load_pretrained(folder)
    theirs = opened(folder)
    assert classes == CLASSES and not ours.training
    assert difference(ours, theirs) < 1e-12
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    assert difference(ours, theirs) > 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("way", ["read", "written"])
def test_the_base_shape_equals_in_float64_to_rounding(tmp_path: Path, way: str) -> None:
    """224 x 224 pixels, 12 layers of 768 numbers, 1,000 classes, weights from N(0, 0.2)."""
    if way == "read":
        config = transformers.ViTConfig(num_labels=1000)
        theirs = transformers.ViTForImageClassification(config).double().eval()
        randomize(theirs)
        theirs.save_pretrained(tmp_path)
        ours, _ = load_pretrained(tmp_path)
        assert ours.config == ViTConfig(**SIZES["base"].__dict__ | {"norm_eps": 1e-12})
    else:
        ours = ViT(SIZES["base"]).double().eval()
        randomize(ours)
        save_pretrained(tmp_path, ours, [f"class {i}" for i in range(1000)])
    assert difference(ours, opened(tmp_path), 224, 1) < 1e-12


def test_losses_and_gradients_equal_transformers(tmp_path: Path) -> None:
    """With the last layer computed for the class token alone, and norms made again."""
    model = ViT(OURS).double()
    randomize(model)
    save_pretrained(tmp_path, model, CLASSES)
    theirs, labels = opened(tmp_path), torch.tensor([3, 0, 1])
    loss = nn.functional.cross_entropy(model(images()), labels)
    expected = theirs(images(), labels=labels).loss
    assert (loss - expected).abs() < 1e-12
    loss.backward()
    expected.backward()
    theirs_by_name = dict(theirs.named_parameters())
    for a, b in (
        ("stem.linear.weight", "vit.embeddings.patch_embeddings.projection.weight"),
        ("class_token", "vit.embeddings.cls_token"),
        ("positions.weight", "vit.embeddings.position_embeddings"),
        ("norm.weight", "vit.layernorm.weight"),
        ("head.weight", "classifier.weight"),
    ):
        gradient, wanted = model.get_parameter(a).grad, theirs_by_name[b].grad
        assert gradient is not None
        assert (gradient - wanted.view_as(gradient)).abs().max() < 1e-11 * wanted.abs().max(), a


def test_resized_positions_equal_transformers(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    ours, _ = load_pretrained(folder)
    with torch.no_grad():
        logits = ours.resized(20)(images(20))
        expected = opened(folder)(images(20), interpolate_pos_encoding=True).logits
    assert ((logits - expected).abs().max() / expected.abs().max()).item() < 1e-12


def test_float32_and_half_precision_become_float32(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        folder = saved(tmp_path / str(dtype), dtype=dtype)
        ours, _ = load_pretrained(folder)
        assert ours.head.weight.dtype == torch.float32
        assert difference(ours, opened(folder, torch.float32)) < 1e-4


def test_a_folder_without_a_head_is_said_and_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path, kind="ViTModel")  # tensors without the prefix "vit."
    ours, _ = load_pretrained(folder)
    said = capsys.readouterr().out
    assert "has no head: it begins at zero" in said
    assert "does not use (vit.pooler.dense.bias): left out" in said
    theirs = transformers.ViTModel.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        hidden = ours(images(), return_intermediates=True)[1]["hidden"]
        expected = theirs(images()).last_hidden_state
        assert (hidden - expected).abs().max() < 1e-11
        assert ours(images()).abs().max() == 0


def test_a_folder_of_masked_images_loads_its_encoder(tmp_path: Path) -> None:
    lines: list[str] = []
    load_pretrained(saved(tmp_path, kind="ViTForMaskedImageModeling"), lines.append)
    assert len(lines) == 2 and "(decoder.0.bias): left out" in lines[1]


def test_a_folder_without_class_names_counts_them(tmp_path: Path) -> None:
    transformers.ViTForImageClassification(
        transformers.ViTConfig(**SMALL | {"id2label": None, "label2id": None})
    ).save_pretrained(tmp_path)
    ours, classes = load_pretrained(tmp_path)
    assert classes == ("LABEL_0", "LABEL_1") and ours.config.n_classes == 2


@pytest.mark.parametrize("changes", [{}, {"norm_eps": 1e-5, "n_heads": 2, "channels": 1}])
def test_a_saved_folder_loads_in_transformers_and_back(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = ViT(ViTConfig(**OURS.__dict__ | changes)).double().eval()
    randomize(model)
    assert save_pretrained(tmp_path, model, CLASSES) == tmp_path
    theirs, report = transformers.ViTForImageClassification.from_pretrained(
        tmp_path, dtype=torch.float64, output_loading_info=True, attn_implementation="sdpa"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert [theirs.config.id2label[i] for i in range(5)] == list(CLASSES)
    given = images()[:, : model.config.channels]
    with torch.no_grad():
        expected = theirs.eval()(given).logits
        assert ((model(given) - expected).abs().max() / expected.abs().max()).item() < 1e-12
    theirs.save_pretrained(tmp_path / "theirs")
    for folder in (tmp_path, tmp_path / "theirs"):
        again, classes = load_pretrained(folder)
        assert classes == CLASSES and again.config == model.config
        for name, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name


def test_the_normalization_travels_with_the_folder(tmp_path: Path) -> None:
    model, mean, std = ViT(OURS), [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
    save_pretrained(tmp_path, model, CLASSES, mean, std)
    content = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert content["image_mean"] == mean and content["image_std"] == std
    assert content["size"] == {"height": 12, "width": 12}
    save_pretrained(tmp_path / "without", model, CLASSES)
    assert not (tmp_path / "without" / "preprocessor_config.json").exists()


@pytest.mark.parametrize("changes", [{"positions": "none"}, {"pooling": "mean"}, {"stem": "conv"}])
def test_other_designs_cannot_be_saved(tmp_path: Path, changes: dict[str, Any]) -> None:
    (name, value), *_ = changes.items()
    model = ViT(ViTConfig(**OURS.__dict__ | changes))
    with pytest.raises(ValueError, match=f"{name}='{value}' cannot be saved in ViT's format"):
        save_pretrained(tmp_path, model, CLASSES)
    with pytest.raises(ValueError, match="2 class names do not belong to a model with 5 classes"):
        save_pretrained(tmp_path, ViT(OURS), ["a", "b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"), [("model_type", "deit"), ("hidden_act", "gelu_new"), ("qkv_bias", False)]
)
def test_another_architecture_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    folder = saved(tmp_path)
    edit_config(folder, **{name: value})
    with pytest.raises(ValueError, match=f"says {name}={value!r}, but this ViT computes"):
        load_pretrained(folder)


def test_damaged_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config.json and model.safetensors"):
        load_pretrained(tmp_path / "nowhere")
    folder = saved(tmp_path / "vit")
    edit_config(folder, intermediate_size=40)
    with pytest.raises(ValueError, match=r"has the shape \(48, 32\) where config.json makes it"):
        load_pretrained(folder)
    edit_config(folder, intermediate_size=48, image_size=[12, 12])
    with pytest.raises(ValueError, match=r"image_size=\[12, 12\], which is no whole number"):
        load_pretrained(folder)
    edit_config(folder, image_size=16)
    with pytest.raises(ValueError, match=r"position_embeddings has the shape \(1, 10, 32\)"):
        load_pretrained(folder)
    edit_config(folder, image_size=12, id2label={"0": "cat", "2": "dog"})
    with pytest.raises(ValueError, match="is not one name for each class from 0 on"):
        load_pretrained(folder)
    edit_config(folder, id2label={str(i): name for i, name in enumerate(CLASSES)})
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        load_pretrained(folder)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="is a pickle, which could run code"):
        load_pretrained(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is no JSON object"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: None if n.endswith("1.output.dense.bias") else n, "lacks the tensor"),
        (lambda n: n.replace("layer.2.", "layer.3."), "lacks the tensor"),
        (lambda n: n.replace("classifier", "cls_classifier"), "has an unknown tensor"),
    ],
)
def test_a_missing_or_unknown_tensor_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = saved(tmp_path)
    rename(folder, change)
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


def test_a_tensor_beyond_the_model_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    edit_config(folder, num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"has an unknown tensor 'vit.encoder.layer.2"):
        load_pretrained(folder)
