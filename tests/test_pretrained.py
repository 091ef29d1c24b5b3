"""GPT-2's published format, with transformers as the oracle on randomly initialized checkpoints."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.pretrained import load_gpt2_folder, save_gpt2_folder
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.byte_bpe import END_OF_TEXT, ByteBPE
from tutorial_kit.tokenizers import CharTokenizer

transformers = pytest.importorskip("transformers")
TEXT = "the cat sat on the mat, the cat ate the rat; 中文 and \U0001f600 are bytes too. " * 20
SMALL = {"n_positions": 24, "n_embd": 48, "n_layer": 3, "n_head": 4}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers.logging.set_verbosity_error()


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train(TEXT, n_merges=60)


def randomize(model, std):
    """Norm gains and biases too: at 1 and 0, a swapped or forgotten one would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(std * noise)


def reference(vocab_size, std=0.2, dtype=torch.float32, **changes):
    """A GPT2LMHeadModel whose every parameter is drawn from N(0, std)."""
    config = transformers.GPT2Config(
        vocab_size=vocab_size,
        **(SMALL | {"bos_token_id": 0, "eos_token_id": 0} | changes),
        attn_implementation="eager",
    )
    model = transformers.GPT2LMHeadModel(config).to(dtype).eval()
    randomize(model, std)
    return model


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A small checkpoint as transformers writes it, with GPT-2's two tokenizer files."""
    reference(tokenizer.vocab_size).save_pretrained(tmp_path / "hf")
    tokenizer.save(tmp_path / "hf")
    return tmp_path / "hf"


def tokens_for(model, batch=2):
    length, vocab_size = model.config.n_positions, model.config.vocab_size
    return torch.randint(vocab_size, (batch, length), generator=torch.manual_seed(1))


@torch.no_grad()
def difference(ours, theirs, tokens):
    """Largest difference of the logits, divided by the largest logit."""
    expected = theirs(tokens).logits
    return ((ours(tokens) - expected).abs().max() / expected.abs().max()).item()


def test_logits_equal_in_float32(folder, tokenizer):
    model, loaded = load_gpt2_folder(folder)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    tokens = tokens_for(theirs)
    with torch.no_grad():
        assert (model(tokens) - theirs(tokens).logits).abs().max() < 1e-4
    assert loaded == tokenizer
    assert not model.training and model.head.weight is model.token_embedding.weight
    assert next(model.parameters()).dtype == torch.float32


def test_logits_equal_in_float64_to_rounding(tmp_path, tokenizer):
    """In float32 a LayerNorm epsilon of 1e-6 instead of 1e-5 would pass; here it does not."""
    theirs = reference(tokenizer.vocab_size, dtype=torch.float64)
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    ours, _ = load_gpt2_folder(tmp_path)
    tokens = tokens_for(theirs)
    assert difference(ours, theirs, tokens) < 1e-12
    for module in ours.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    assert difference(ours, theirs, tokens) > 1e-9


@pytest.mark.parametrize("recipe", [{}, {"tie_weights": False}, {"d_ff": 40, "dropout": 0.2}])
def test_a_saved_folder_loads_in_transformers_with_equal_logits(tmp_path, tokenizer, recipe):
    config = GPTConfig(vocab_size=tokenizer.vocab_size, max_len=24, d_model=48, **recipe)
    model = GPT(config).double().eval()
    randomize(model, 0.2)
    assert save_gpt2_folder(model, tokenizer, tmp_path / "out") == tmp_path / "out"
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out", dtype=torch.float64)
    assert difference(model, theirs.eval(), tokens_for(theirs)) < 1e-12
    again, same_tokenizer = load_gpt2_folder(tmp_path / "out")
    assert again.config == config and same_tokenizer == tokenizer
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def test_the_saved_tokenizer_gives_transformers_the_same_ids(tmp_path):
    special = (END_OF_TEXT, "<|user|>")
    tokenizer = ByteBPE.train(TEXT, n_merges=60, special_tokens=special)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, max_len=24, d_model=16, n_layers=1))
    save_gpt2_folder(model, tokenizer, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (TEXT, "  two  spaces\n\n\ttab", "the<|user|>cat<|endoftext|>"):
        assert theirs(text).input_ids == tokenizer.encode(text, allow_special=True)
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token == END_OF_TEXT and theirs.model_max_length == 24


def test_a_vocabulary_without_an_end_token_grows_none(tmp_path):
    tokenizer = ByteBPE.train(TEXT, n_merges=10, special_tokens=())
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, max_len=24, d_model=16, n_layers=1))
    save_gpt2_folder(model, tokenizer, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] is None
    assert load_gpt2_folder(tmp_path)[1] == tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("the cat").input_ids == tokenizer.encode("the cat")


def test_a_folder_with_only_tokenizer_json_loads(folder, tokenizer):
    """What transformers 5 writes after a fine-tuning."""
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
    _, loaded = load_gpt2_folder(folder)
    text = TEXT + "the<|endoftext|>cat"
    assert loaded.encode(text, allow_special=True) == tokenizer.encode(text, allow_special=True)

    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["pre_tokenizer"]["add_prefix_space"] = True
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="does not describe GPT-2's byte-level BPE"):
        load_gpt2_folder(folder)
    path.write_text('{"model": {}}', encoding="utf-8")
    with pytest.raises(ValueError, match="'pre_tokenizer' is missing"):
        load_gpt2_folder(folder)


def test_greedy_text_is_equal(folder, tokenizer):
    ours, _ = load_gpt2_folder(folder)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    prompt = tokenizer.encode("the cat")
    tokens = torch.tensor([prompt])
    with torch.no_grad():
        while tokens.shape[1] < ours.config.max_len:
            tokens = torch.cat([tokens, ours(tokens)[:, -1:].argmax(dim=-1)], dim=1)
    expected = theirs.generate(
        torch.tensor([prompt]), do_sample=False, max_length=24, eos_token_id=None, pad_token_id=0
    )
    assert tokenizer.decode(tokens[0]) == tokenizer.decode(expected[0])
    assert len(set(tokens[0].tolist())) > 3  # not one token repeated


def test_the_layout_of_the_published_files_loads(folder):
    """They name no "transformer.", hold the causal mask of each layer, and may repeat the head."""
    expected = load_gpt2_folder(folder)[0].state_dict()
    path = folder / "model.safetensors"
    old = {name.removeprefix("transformer."): t for name, t in load_file(path).items()}
    for layer in range(SMALL["n_layer"]):
        old[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
        old[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    old["lm_head.weight"] = old["wte.weight"].clone()
    save_file(old, path)
    loaded = load_gpt2_folder(folder)[0].state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(folder, dtype):
    path = folder / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    model, _ = load_gpt2_folder(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_wider_feed_forward_is_read(tmp_path, tokenizer):
    theirs = reference(tokenizer.vocab_size, n_inner=56)
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    ours, _ = load_gpt2_folder(tmp_path)
    assert ours.config.d_ff == 56
    assert difference(ours, theirs, tokens_for(theirs)) < 1e-5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_type": "llama"}, "model_type='llama'"),
        ({"model_type": None}, "model_type=None"),
        ({"activation_function": "gelu"}, "activation_function='gelu'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06"),
        ({"scale_attn_weights": False}, "scale_attn_weights=False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"add_cross_attention": True}, "add_cross_attention=True"),
        ({"quantization_config": {"bits": 8}}, "quantization_config="),
        ({"n_layer": None}, "n_layer=None, which is no whole number"),
        ({"n_head": "4"}, "n_head='4', which is no whole number"),
        ({"n_head": 5}, "not divisible by n_heads=5"),
        ({"n_layer": 4}, r"lacks the tensor 'h.3.attn.c_attn.bias' \(12 such\)"),
        ({"n_layer": 2}, r"has an unknown tensor 'h.2.attn.c_attn.bias' \(12 such\)"),
        (
            {"n_inner": 100},
            r"c_fc.weight has the shape \(192, 48\) where config.json makes it \(100, 48\)",
        ),
        ({"n_positions": 32}, r"wpe.weight has the shape \(24, 48\)"),
        ({"vocab_size": 50}, "the model's vocab_size is 50"),
    ],
)
def test_a_config_that_does_not_fit_is_named(folder, change, text):
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps({k: v for k, v in values.items() if k != "model_type" or v}))
    with pytest.raises(ValueError, match=text):
        load_gpt2_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.json", "merges.txt"])
def test_missing_and_truncated_files_are_named(folder, name):
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_gpt2_folder(folder)
    for size in (0, 5, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError):
            load_gpt2_folder(folder)


def test_weights_in_other_formats_are_explained(folder):
    path = folder / "model.safetensors"
    path.rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="is a pickle, which could run code"):
        load_gpt2_folder(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is split into several files"):
        load_gpt2_folder(folder)
    with pytest.raises(FileNotFoundError, match="nowhere/config.json does not exist"):
        load_gpt2_folder(folder / "nowhere")
    (folder / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no JSON object"):
        load_gpt2_folder(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (RECIPES["modern"], "norm='rmsnorm' cannot be saved in GPT-2's format"),
        ({"positions": "rotary"}, "positions='rotary'"),
        ({"activation": "swiglu"}, "activation='swiglu'"),
        ({"n_kv_heads": 2}, "n_kv_heads=2"),
        ({"bias": False}, "bias=False"),
        ({"qk_norm": True}, "qk_norm=True"),
    ],
)
def test_what_the_format_has_no_place_for_is_not_saved(tmp_path, tokenizer, change, text):
    config = {
        "vocab_size": tokenizer.vocab_size,
        "max_len": 8,
        "d_model": 16,
        "n_layers": 1,
    } | change
    with pytest.raises(ValueError, match=text):
        save_gpt2_folder(GPT(GPTConfig(**config)), tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_character_model_is_not_saved(tmp_path):
    characters = CharTokenizer.from_text("abc")
    model = GPT(GPTConfig(vocab_size=3, max_len=8, d_model=16, n_layers=1))
    with pytest.raises(ValueError, match="a CharTokenizer cannot be saved"):
        save_gpt2_folder(model, characters, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_loading_does_not_need_transformers(folder):
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        f"from gpt.pretrained import load_gpt2_folder; load_gpt2_folder({str(folder)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)


@pytest.mark.slow
def test_the_124m_shape(tmp_path):
    """The published size, randomly drawn: logits in float32, saved back, loaded by transformers."""
    symbols = ByteBPE.train(TEXT, n_merges=60)
    theirs = reference(50257, 0.02, n_positions=1024, n_embd=768, n_layer=12, n_head=12)
    theirs.save_pretrained(tmp_path / "hf")
    symbols.save(tmp_path / "hf")
    ours, _ = load_gpt2_folder(tmp_path / "hf")
    tokens = torch.randint(50257, (1, 64), generator=torch.manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert (ours(tokens) - expected).abs().max() < 1e-4
        save_gpt2_folder(ours, symbols, tmp_path / "ours")
        shutil.rmtree(tmp_path / "hf")
        back = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
        assert (back(tokens).logits - expected).abs().max() < 1e-6
