"""The parts of BERT, with torch's own layers as the oracle."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bert.asked_places import Places
from bert.bert_components import (
    BertEmbeddings,
    EncoderLayer,
    FeedForward,
    SelfAttention,
    as_addend,
    attend_fused,
    attend_written_out,
)
from bert.bert_config import BertConfig

CONFIG = BertConfig(
    vocab_size=50, max_len=16, d_model=32, n_heads=4, n_layers=2, d_ff=64, dropout=0.0
)
B, T = 3, 11


def randomize(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(0.2 * noise)


def padding() -> torch.Tensor:
    """(B, T), True in front of the padding; the last sequence is one token long."""
    return torch.arange(T) < torch.tensor([[T], [6], [1]])


def vectors() -> torch.Tensor:
    return torch.randn(B, T, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def addend() -> torch.Tensor:
    return as_addend(padding()[:, None, None], torch.float64)


@pytest.mark.parametrize("masked", [True, False])
def test_fused_and_written_out_attention_agree(masked: bool) -> None:
    q, k, v = torch.randn(3, B, 4, T, 8, dtype=torch.float64)
    mask = addend() if masked else None
    mixed, weights = attend_written_out(q, k, v, mask)
    assert (mixed - attend_fused(q, k, v, mask)).abs().max() < 1e-12
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


def test_attention_equals_torchs() -> None:
    ours = SelfAttention(32, 4).double()
    randomize(ours)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True, dtype=torch.float64)
    state = ours.state_dict()
    theirs.load_state_dict(
        {
            "in_proj_weight": state["qkv.weight"],
            "in_proj_bias": state["qkv.bias"],
            "out_proj.weight": state["output.weight"],
            "out_proj.bias": state["output.bias"],
        }
    )
    x = vectors()
    mixed, weights = ours(x, addend(), need_weights=True)
    expected, their_weights = theirs(
        x, x, x, key_padding_mask=~padding(), average_attn_weights=False
    )
    assert (mixed - expected).abs().max() < 1e-12
    assert (weights - their_weights).abs().max() < 1e-12


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_layer_equals_torchs(norm: str) -> None:
    ours = EncoderLayer(dataclasses.replace(CONFIG, norm=norm)).double()  # type: ignore[arg-type]
    randomize(ours)
    theirs = nn.TransformerEncoderLayer(
        32, 4, 64, dropout=0.0, activation="gelu", layer_norm_eps=CONFIG.norm_eps,
        batch_first=True, norm_first=norm == "pre", dtype=torch.float64,
    )  # fmt: skip
    names = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj.": "attention.output.",
        "linear1.": "feed_forward.expand.",
        "linear2.": "feed_forward.contract.",
        "norm1.": "around_attention.norm.",
        "norm2.": "around_feed_forward.norm.",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {
            their + kind: state[our + kind]
            for their, our in names.items()
            for kind in ("weight", "bias")
        }
    )
    x = vectors()
    expected = theirs(x, src_key_padding_mask=~padding())
    mixed, weights = ours(x, addend())
    assert (mixed - expected)[padding()].abs().max() < 1e-12
    assert weights is None


def test_gelu_is_the_exact_one() -> None:
    ours = FeedForward(4, 8).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    hidden = ours.expand(x)
    exact = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    assert (ours(x) - ours.contract(exact)).abs().max() < 1e-12
    assert (ours(x) - ours.contract(F.gelu(hidden, approximate="tanh"))).abs().max() > 1e-8


def test_embeddings_are_the_normalized_sum_of_three() -> None:
    ours = BertEmbeddings(CONFIG).double()
    randomize(ours)
    tokens, segments = torch.randint(50, (B, T)), torch.randint(2, (B, T))
    total = ours.token(tokens) + ours.position(torch.arange(T)) + ours.segment(segments)
    assert (ours(tokens, segments) - ours.norm(total)).abs().max() < 1e-12
    first = torch.zeros_like(segments)
    assert (ours(tokens) - ours(tokens, first)).abs().max() < 1e-12


def test_a_segment_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        BertEmbeddings(CONFIG)(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0, 1, 2]]))


def test_dropout_acts_in_training_alone_and_not_on_attention_weights() -> None:
    layer = EncoderLayer(dataclasses.replace(CONFIG, dropout=0.5)).double()
    x = vectors()
    assert (layer.train()(x, None)[0] - layer(x, None)[0]).abs().max() > 0.1
    assert torch.equal(layer.eval()(x, None)[0], layer(x, None)[0])
    assert torch.equal(layer.attention.train()(x, None)[0], layer.attention(x, None)[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_asked_places_get_the_same_vectors_and_gradients(norm: str, share: float) -> None:
    layer = EncoderLayer(dataclasses.replace(CONFIG, norm=norm)).double()  # type: ignore[arg-type]
    randomize(layer)
    asked = torch.rand(B, T, generator=torch.Generator().manual_seed(2)) < share
    asked[1] = False  # a sequence in which nothing is asked
    x, again = vectors().requires_grad_(), vectors().requires_grad_()
    rows, _ = layer(x, addend(), places=Places.of(asked))
    expected = layer(again, addend())[0][asked]
    assert rows.shape == expected.shape
    assert torch.allclose(rows, expected, rtol=0, atol=1e-12)
    weight = torch.randn_like(rows)
    parameters = list(layer.parameters())
    ours = torch.autograd.grad((rows * weight).sum(), [x, *parameters], allow_unused=True)
    wanted = torch.autograd.grad((expected * weight).sum(), [again, *parameters])
    for gradient, other in zip(ours, wanted, strict=True):
        assert gradient is not None and torch.allclose(gradient, other, rtol=0, atol=1e-11)


def test_places_spread_and_gather_undo_each_other() -> None:
    asked = torch.tensor([[False, True, True, True], [False] * 4, [True, False, False, True]])
    places = Places.of(asked)
    x = torch.randn(3, 4, 2)
    rows = places.take(x)
    assert torch.equal(rows, x[asked])
    assert places.spread(rows).shape == (3, 3, 2)
    assert torch.equal(places.gather(places.spread(rows)), rows)
    assert places.spread(rows)[1].abs().max() == 0
