"""BERT's published format, with transformers as the oracle on randomly drawn checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertConfig, BertModel
from bert.pretrained import load_pretrained, save_pretrained
from bert.wordpiece import WordPiece

transformers = pytest.importorskip("transformers")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = SPECIAL + list(LETTERS) + [f"##{letter}" for letter in LETTERS] + [",", "."]
SMALL = {
    "vocab_size": len(VOCABULARY), "max_position_embeddings": 24, "hidden_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip


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


def reference(kind: str = "BertForPreTraining", dtype: Any = torch.float64, **changes: Any) -> Any:
    config = transformers.BertConfig(**SMALL | changes, attn_implementation="eager")
    model = getattr(transformers, kind)(config).to(dtype).eval()
    randomize(model)
    return model


def saved(folder: Path, **changes: Any) -> Path:
    """A checkpoint as transformers writes it, with BERT's vocab.txt."""
    reference(**changes).save_pretrained(folder)
    WordPiece(VOCABULARY).save(folder)
    return folder


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


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(20) < torch.tensor([[20], [9]])
    tokens = torch.randint(1, len(VOCABULARY), (2, 20), generator=generator) * mask
    return {"tokens": tokens, "mask": mask, "segments": (torch.arange(20) > 6) * mask}


@torch.no_grad()
def difference(ours: BertForPreTraining, theirs: Any) -> float:
    """Largest relative difference of vectors, token logits and next-sentence logits."""
    given = inputs()
    places = given["mask"].nonzero(as_tuple=True)
    hidden, pooled = ours.bert(**given)
    logits = ours.predict_masked(given["tokens"], given["mask"], given["segments"], places)
    expected = theirs(
        input_ids=given["tokens"], attention_mask=given["mask"].long(),
        token_type_ids=given["segments"].long(), output_hidden_states=True,
    )  # fmt: skip
    pairs = [
        (hidden[places], expected.hidden_states[-1][places]),
        (logits, expected.prediction_logits[places]),
        (ours.next_head(pooled), expected.seq_relationship_logits),
    ]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_vectors_and_logits_equal_in_float64_to_rounding(tmp_path: Path, eps: float) -> None:
    folder = saved(tmp_path, layer_norm_eps=eps)
    ours, wordpiece = load_pretrained(folder)
    theirs = transformers.BertForPreTraining.from_pretrained(folder, dtype=torch.float64).eval()
    assert difference(ours, theirs) < 1e-12
    assert not ours.training and wordpiece.vocab_size == len(VOCABULARY)
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    assert difference(ours, theirs) > 1e-9


def test_float32_and_half_precision_become_float32(tmp_path: Path) -> None:
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 1e-4)):
        folder = saved(tmp_path / str(dtype), dtype=dtype)
        ours, _ = load_pretrained(folder)
        theirs = transformers.BertForPreTraining.from_pretrained(folder, dtype=torch.float32)
        assert next(ours.parameters()).dtype == torch.float32
        assert difference(ours, theirs.eval()) < bound


def test_old_gamma_and_beta_names_load(tmp_path: Path) -> None:
    folder = saved(tmp_path)

    def old(name: str) -> str:
        if "LayerNorm" not in name:
            return name
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )

    expected, _ = load_pretrained(folder)
    rename(folder, old)
    assert any(name.endswith("gamma") for name in load_file(folder / "model.safetensors"))
    edit_config(folder, model_type="bert", position_embedding_type="absolute")
    ours, _ = load_pretrained(folder)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def test_a_folder_without_heads_is_said_and_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path, kind="BertModel")  # tensors without the prefix "bert."
    ours, _ = load_pretrained(folder)
    said = capsys.readouterr().out
    assert "no weights of the masked-token head, the next-sentence head: drawn freshly" in said
    theirs = transformers.BertModel.from_pretrained(folder, dtype=torch.float64).eval()
    given = inputs()
    with torch.no_grad():
        hidden, pooled = ours.bert(**given)
        expected = theirs(
            input_ids=given["tokens"], attention_mask=given["mask"].long(),
            token_type_ids=given["segments"].long(),
        )  # fmt: skip
    assert (hidden - expected.last_hidden_state)[given["mask"]].abs().max() < 1e-12
    assert (pooled - expected.pooler_output).abs().max() < 1e-12
    assert ours.next_head.weight.abs().max() <= 0.04  # fresh


def test_a_head_of_another_task_is_said_and_left_out(tmp_path: Path) -> None:
    folder = saved(tmp_path, kind="BertForSequenceClassification")
    lines: list[str] = []
    load_pretrained(folder, lines.append)
    assert len(lines) == 2 and "(classifier.bias): left out" in lines[1]


def small_model(**changes: Any) -> BertForPreTraining:
    settings: dict[str, Any] = {
        "vocab_size": len(VOCABULARY), "max_len": 24, "d_model": 32, "n_layers": 2, "d_ff": 48,
    }  # fmt: skip
    model = BertForPreTraining(BertModel(BertConfig(**settings | changes))).double().eval()
    randomize(model)
    return model


@pytest.mark.parametrize("changes", [{}, {"norm_eps": 1e-5, "dropout": 0.2, "n_heads": 2}])
def test_a_saved_folder_loads_in_transformers_and_back(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    model, wordpiece = small_model(**changes), WordPiece(VOCABULARY)
    assert save_pretrained(tmp_path, model, wordpiece) == tmp_path
    theirs, report = transformers.BertForPreTraining.from_pretrained(
        tmp_path, dtype=torch.float64, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert difference(model, theirs.eval()) < 1e-12
    again, same = load_pretrained(tmp_path)
    assert again.bert.config.n_heads == model.bert.config.n_heads
    assert same.to_dict() == wordpiece.to_dict()
    assert difference(again, theirs) < 1e-12
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    text = "A cab, a FAQ."
    assert tokenizer(text)["input_ids"] == wordpiece.pair(wordpiece.encode(text))[0]
    assert tokenizer.model_max_length == 24


def test_transformers_saves_what_we_saved_and_we_load_it(tmp_path: Path) -> None:
    model = small_model()
    save_pretrained(tmp_path / "ours", model, WordPiece(VOCABULARY))
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path / "ours", dtype=torch.float64)
    theirs.save_pretrained(tmp_path / "theirs")
    WordPiece(VOCABULARY).save(tmp_path / "theirs")
    again, _ = load_pretrained(tmp_path / "theirs")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_pre_norm_and_foreign_vocabularies_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="norm='pre' cannot be saved in BERT's format"):
        save_pretrained(tmp_path, small_model(norm="pre"), WordPiece(VOCABULARY))
    with pytest.raises(ValueError, match="a vocabulary of 58 tokens does not belong"):
        save_pretrained(tmp_path, small_model(), WordPiece(VOCABULARY[:-1]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "gelu_new"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("tie_word_embeddings", False),
    ],
)
def test_another_architecture_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    folder = saved(tmp_path)
    edit_config(folder, **{name: value})
    with pytest.raises(ValueError, match=f"says {name}={value!r}, but this BERT computes"):
        load_pretrained(folder)


def test_damaged_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="config.json, model.safetensors and vocab.txt"):
        load_pretrained(tmp_path / "nowhere")
    folder = saved(tmp_path / "bert")
    WordPiece(VOCABULARY[:-1]).save(folder)
    with pytest.raises(ValueError, match="vocab.txt has 58 tokens, config.json says vocab_size=59"):
        load_pretrained(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match="vocab.txt"):
        load_pretrained(folder)
    WordPiece(VOCABULARY).save(folder)
    edit_config(folder, intermediate_size=40)
    with pytest.raises(ValueError, match=r"has the shape \(48, 32\) where config.json makes it"):
        load_pretrained(folder)
    edit_config(folder, intermediate_size="48")
    with pytest.raises(ValueError, match="intermediate_size='48', which is no whole number"):
        load_pretrained(folder)
    edit_config(folder, intermediate_size=48)
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
        (lambda n: n + ".extra" if "seq_rel" not in n and n.endswith("2.output.dense.bias") else n,
         "has an unknown tensor|lacks the tensor"),
        (lambda n: n.replace("layer.2.", "layer.3."), "lacks the tensor"),
    ],
)  # fmt: skip
def test_a_missing_or_unknown_tensor_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = saved(tmp_path)
    rename(folder, change)
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


def test_a_tensor_beyond_the_model_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    edit_config(folder, num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"has an unknown tensor 'bert.encoder.layer.2"):
        load_pretrained(folder)
