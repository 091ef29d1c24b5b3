"""The assembled model, with transformers' BertModel and BertForPreTraining as the oracle.

Weights are drawn from N(0, 0.2), everything in float64: at the usual 0.02 a wrong norm epsilon or a
forgotten bias would pass.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bert.bert_heads import BertForPreTraining
from bert.bert_model import SIZES, BertConfig, BertModel, parameter_count
from bert.published_format import tensor_names
from bert.verify_structure import CHECKS, main

transformers = pytest.importorskip("transformers")
SMALL = BertConfig(
    vocab_size=90, max_len=24, d_model=32, n_heads=4, n_layers=3, d_ff=64, dropout=0.0
)
B, T = 4, 20


def randomize(module: nn.Module, std: float = 0.2) -> None:
    """Norm gains and biases too: at 1 and 0, a swapped or forgotten one would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(std * noise)


def small_model(**changes: Any) -> BertForPreTraining:
    model = BertForPreTraining(BertModel(dataclasses.replace(SMALL, **changes))).double().eval()
    randomize(model)
    return model


def reference(model: BertForPreTraining, **changes: Any) -> Any:
    """Returns transformers' BertForPreTraining with the weights of ours."""
    c = model.bert.config
    config = transformers.BertConfig(
        vocab_size=c.vocab_size, hidden_size=c.d_model, num_hidden_layers=c.n_layers,
        num_attention_heads=c.n_heads, intermediate_size=c.d_ff, type_vocab_size=c.n_segments,
        max_position_embeddings=c.max_len, layer_norm_eps=c.norm_eps, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, attn_implementation="eager", **changes,
    )  # fmt: skip
    theirs = transformers.BertForPreTraining(config).double().eval()
    state = model.state_dict()
    weights: dict[str, Tensor] = {}
    for ours, names in tensor_names(state).items():
        weights |= dict(zip(names, state[ours].chunk(len(names)), strict=True))
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and all("decoder" in name for name in missing)
    theirs.tie_weights()
    return theirs


def batch() -> dict[str, Tensor]:
    """Padding of different lengths, both segments, some hidden tokens, both kinds of pairs."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(T) < torch.tensor([[T], [13], [7], [T]])
    tokens = torch.randint(1, SMALL.vocab_size, (B, T), generator=generator) * mask
    segments = (torch.arange(T) >= torch.tensor([[9], [6], [3], [T]])).long() * mask
    hidden = (torch.rand(B, T, generator=generator) < 0.3) & mask
    labels = torch.where(hidden, torch.randint(90, (B, T), generator=generator), -100)
    return {
        "tokens": tokens,
        "mask": mask,
        "segments": segments,
        "labels": labels,
        "next_labels": torch.tensor([0, 1, 1, 0]),
    }


def their_inputs(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "input_ids": given["tokens"],
        "attention_mask": given["mask"].long(),
        "token_type_ids": given["segments"],
    }


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def test_vectors_equal_transformers_with_padding_and_segments() -> None:
    model, given = small_model(), batch()
    theirs = reference(model).bert(**their_inputs(given))
    hidden, pooled = model.bert(given["tokens"], given["mask"], given["segments"])
    real = given["mask"]
    assert relative(hidden[real], theirs.last_hidden_state[real]) < 1e-12
    assert relative(pooled, theirs.pooler_output) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_a_wrong_norm_epsilon_cannot_hide(eps: float) -> None:
    model, given = small_model(norm_eps=eps), batch()
    theirs = reference(model)
    hidden = model.bert(given["tokens"], given["mask"], given["segments"])[0][given["mask"]]

    def difference() -> float:
        output = theirs.bert(**their_inputs(given)).last_hidden_state[given["mask"]]
        return relative(hidden, output)

    assert difference() < 1e-12
    for module in theirs.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    assert difference() > 1e-9


def test_losses_and_gradients_equal_transformers() -> None:
    """So the head on hidden tokens alone trains the same model as the head on all."""
    model, given = small_model(), batch()
    theirs = reference(model)
    output = model(**given)
    expected = theirs(
        **their_inputs(given), labels=given["labels"], next_sentence_label=given["next_labels"]
    )
    assert relative(output.loss, expected.loss) < 1e-12
    output.loss.backward()
    expected.loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for ours, names in tensor_names(model.state_dict()).items():
        gradient = model.get_parameter(ours).grad
        assert gradient is not None
        wanted = torch.cat([gradients[name] for name in names])
        scale = wanted.abs().max().clamp(min=1e-3)  # a key's bias has no gradient but rounding
        assert ((gradient - wanted).abs().max() / scale).item() < 1e-11, ours


@torch.no_grad()
def test_predicted_logits_equal_transformers() -> None:
    model, given = small_model(), batch()
    places = (given["labels"] != -100).nonzero(as_tuple=True)
    logits = model.predict_masked(given["tokens"], given["mask"], given["segments"], places)
    expected = reference(model)(**their_inputs(given)).prediction_logits[places]
    assert relative(logits, expected) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_padding_changes_nothing(norm: str) -> None:
    model, given = small_model(norm=norm), batch()
    longer = torch.cat([given["tokens"], torch.randint(90, (B, 4))], dim=1)
    mask = torch.cat([given["mask"], torch.zeros(B, 4, dtype=torch.bool)], dim=1)
    hidden, pooled = model.bert(given["tokens"], given["mask"])
    more, more_pooled = model.bert(longer, mask)
    assert relative(more[:, :T][given["mask"]], hidden[given["mask"]]) < 1e-12
    assert relative(more_pooled, pooled) < 1e-12
    alone, _ = model.bert(given["tokens"][2:3, :7])
    assert relative(hidden[2, :7], alone[0]) < 1e-12


@torch.no_grad()
def test_every_token_sees_both_sides_and_its_place_and_segment() -> None:
    model, given = small_model(), batch()
    tokens = given["tokens"]
    hidden, _ = model.bert(tokens)
    for place in (0, 10, T - 1):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 90
        assert ((model.bert(changed)[0] - hidden).abs().amax((0, 2)) > 1e-6).all()
    swapped = tokens[:, torch.tensor([0, 2, 1, *range(3, T)])]
    assert (model.bert(swapped)[0][:, 0] - hidden[:, 0]).abs().max() > 1e-6
    other = model.bert(tokens, None, torch.ones_like(tokens))[0]
    assert (other - hidden).abs().max() > 1e-6
    zeros = model.bert(tokens, None, torch.zeros_like(tokens))[0]
    assert relative(zeros, hidden) < 1e-12


@torch.no_grad()
def test_a_sequence_of_nothing_but_padding_makes_no_nan() -> None:
    model, given = small_model(), batch()
    mask = given["mask"].clone()
    mask[1] = False
    hidden, pooled = model.bert(given["tokens"], mask)
    assert hidden.isfinite().all() and pooled.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_intermediates_are_the_steps_of_the_same_pass(norm: str) -> None:
    model, given = small_model(norm=norm).bert, batch()
    hidden, pooled = model(given["tokens"], given["mask"], given["segments"])
    again, same, named = model(
        given["tokens"], given["mask"], given["segments"], return_intermediates=True
    )
    assert list(named) == [
        "embedding", "attention.0", "layer.0", "attention.1", "layer.1", "attention.2", "layer.2",
        "hidden", "pooled",
    ]  # fmt: skip
    assert relative(again, hidden) < 1e-12 and relative(same, pooled) < 1e-12
    weights = named["attention.1"]
    assert weights.shape == (B, SMALL.n_heads, T, T)
    assert (weights.sum(-1) - 1).abs().max() < 1e-12
    assert weights[1, :, :, 13:].abs().max() == 0  # nobody looks at padding
    assert (named["layer.2"] is again) or norm == "pre"


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_parameter_count_is_the_closed_formula(norm: str) -> None:
    model = small_model(norm=norm, n_segments=3)
    count = sum(p.numel() for p in model.bert.parameters())
    assert count == parameter_count(model.bert.config)
    count = sum(p.numel() for p in model.parameters())
    assert count == parameter_count(model.bert.config, pretraining_heads=True)


@pytest.mark.parametrize(
    ("size", "heads", "count"), [("tiny", 2, 4_385_920), ("base", 12, 109_482_240)]
)
def test_published_sizes(size: str, heads: int, count: int) -> None:
    assert SIZES[size].n_heads == heads
    assert parameter_count(SIZES[size]) == count


def test_initial_weights_are_the_published_codes() -> None:
    torch.manual_seed(0)
    model = BertForPreTraining(BertModel(BertConfig()))
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            wanted = 1.0 if name.endswith("norm.weight") else 0.0
            assert (parameter == wanted).all(), name
        else:
            assert parameter.abs().max() <= 0.04, name
            if parameter.numel() > 1000:  # 0.02 times the deviation of N(0, 1) cut at two, 0.88
                assert parameter.std().item() == pytest.approx(0.0176, rel=0.04), name


def test_positions_may_begin_as_sines_of_the_same_size() -> None:
    config = BertConfig(d_model=128, max_len=64, initial_std=0.1, first_positions="sine")
    positions = BertModel(config).embeddings.position.weight
    assert positions.requires_grad
    assert positions.square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-5)
    products = positions @ positions.T  # (64, 64): the distance alone decides
    for shift in (1, 5):
        along = products.diagonal(shift)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-5)
        assert along[0] < products[0, 0]


def test_a_sequence_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="25 tokens do not fit into BERT's 24 positions"):
        small_model().bert(torch.zeros(1, 25, dtype=torch.long))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0 is not possible"),
        ({"d_model": 130, "n_heads": 4}, "not divisible by n_heads=4"),
        ({"dropout": 1.0}, "dropout=1.0 is no share below 1"),
        ({"norm": "both"}, "norm='both' is no place"),
        ({"norm_eps": 0.0}, "norm_eps=0.0 divides by zero"),
        ({"n_segments": 0}, "n_segments=0 is not possible"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertConfig(**changes)


def test_the_structure_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.count("PASS") == len(CHECKS)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_ledger_lists_every_step(norm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", "--norm", norm]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[2:]]
    assert names[:4] == ["tokens", "embedding", "attention.0", "layer.0"]
    assert names[-4:] == ["pooled", "masked_rows", "masked_logits", "next_logits"]


def test_a_broken_model_fails_the_proof(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask that hides nothing is found by the check of padding."""
    monkeypatch.setattr(BertModel, "_padding", lambda self, mask: None)
    assert main([]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert any("padding tokens change no vector" in line for line in failed)
