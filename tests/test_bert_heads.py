"""The heads: what they score, what they leave out, and where their gradients go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert import masked_loss
from bert.bert_heads import (
    BertForPreTraining,
    BertForSequenceClassification,
    BertForSpan,
    BertForTokenClassification,
    mean_pool,
)
from bert.bert_model import BertConfig, BertModel
from bert.masked_loss import IGNORE, projected_loss

B, T, V = 4, 12, 60


def small_bert(**changes: Any) -> BertModel:
    """Weights far from zero, double precision, no dropout."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": V, "max_len": 16, "d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 32,
        "dropout": 0.0,
    }  # fmt: skip
    bert = BertModel(BertConfig(**settings | changes)).double()
    randomize(bert)
    return bert


def randomize(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.2)


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(V, (B, T), generator=generator)
    mask = torch.arange(T) < torch.tensor([[T], [9], [5], [T]])
    hidden = (torch.rand(B, T, generator=generator) < 0.3) & mask
    hidden[3] = False  # a sequence in which nothing was hidden
    labels = torch.where(hidden, torch.randint(V, (B, T), generator=generator), IGNORE)
    segments = (torch.arange(T) > 4).long().expand(B, T)
    return {"tokens": tokens, "mask": mask, "segments": segments, "labels": labels}


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("with_next", [True, False])
def test_losses_and_gradients_equal_the_head_on_every_token(norm: str, with_next: bool) -> None:
    model, given = BertForPreTraining(small_bert(norm=norm)).double(), batch()
    next_labels = torch.tensor([0, 1, 1, 0]) if with_next else None
    output = model(**given, next_labels=next_labels)
    hidden, pooled = model.bert(given["tokens"], given["mask"], given["segments"])
    logits = model.masked_head(hidden)  # (B, T, V): what the masked-only head saves
    expected = F.cross_entropy(logits.flatten(0, 1), given["labels"].flatten())
    assert (output.mlm_loss - expected).abs() < 1e-12
    scored = given["labels"] != IGNORE
    assert output.mlm_correct == ((logits.argmax(-1) == given["labels"]) & scored).sum()
    assert output.n_masked == scored.sum()
    if next_labels is not None:
        next_logits = model.next_head(pooled)
        next_loss = F.cross_entropy(next_logits, next_labels)
        assert (output.nsp_loss - next_loss).abs() < 1e-12
        assert output.nsp_correct == (next_logits.argmax(-1) == next_labels).sum()
        expected = expected + next_loss
    else:
        assert output.nsp_loss == 0 and output.n_pairs == 0
    used = [
        p for n, p in model.named_parameters() if with_next or "next" not in n and "pool" not in n
    ]
    ours = torch.autograd.grad(output.loss, used)
    for gradient, wanted in zip(ours, torch.autograd.grad(expected, used), strict=True):
        assert (gradient - wanted).abs().max() < 1e-12


def test_no_gradient_reaches_padding_nor_a_sequence_without_hidden_tokens() -> None:
    model, given = BertForPreTraining(small_bert()).double(), batch()
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, made: Tensor) -> None:
        made.retain_grad()
        kept.append(made)

    model.bert.embeddings.register_forward_hook(keep)
    model(**given).loss.backward()
    gradient = kept[0].grad
    assert gradient is not None
    touched = gradient.abs().amax(-1) > 0  # (B, T)
    visible = given["mask"] & (given["labels"] != IGNORE).any(1, keepdim=True)
    assert visible.any() and not visible[3].any()
    assert torch.equal(touched, visible)


def test_nothing_hidden_costs_nothing() -> None:
    model, given = BertForPreTraining(small_bert()).double(), batch()
    given["labels"] = torch.full_like(given["labels"], IGNORE)
    output = model(**given)
    assert output.loss == 0 and output.n_masked == 0
    output.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model(**given, next_labels=torch.tensor([0, 1, 0, 1])).loss > 0


def test_both_answers_about_the_next_sentence_are_learned() -> None:
    """An ignored label 0 would leave half of the pairs without a gradient."""
    for answer in (0, 1):
        model, given = BertForPreTraining(small_bert()).double(), batch()
        given["labels"] = torch.full_like(given["labels"], IGNORE)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(30):
            output = model(**given, next_labels=torch.full((B,), answer))
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
        assert output.nsp_loss < 0.1 and output.nsp_correct == B


def test_the_decoder_is_the_token_embedding_itself() -> None:
    model = BertForPreTraining(small_bert())
    assert model.masked_head.decoder.weight is model.bert.embeddings.token.weight


@torch.no_grad()
def test_predictions_come_in_the_order_of_the_positions() -> None:
    model, given = BertForPreTraining(small_bert()).double(), batch()
    rows, columns = torch.tensor([2, 0, 0, 2]), torch.tensor([1, 7, 3, 1])
    logits = model.predict_masked(
        given["tokens"], given["mask"], given["segments"], (rows, columns)
    )
    hidden, _ = model.bert(given["tokens"], given["mask"], given["segments"])
    assert (logits - model.masked_head(hidden)[rows, columns]).abs().max() < 1e-12
    nowhere = torch.zeros(0, dtype=torch.long)
    assert model.predict_masked(given["tokens"], None, None, (nowhere, nowhere)).shape == (0, V)


def loss_inputs(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(7, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64, generator=generator, requires_grad=True)
    return hidden, weight, bias, torch.randint(7, (count,), generator=generator)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_the_fused_loss_is_cross_entropy(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked_loss, "CHUNK", 4)
    hidden, weight, bias, labels = loss_inputs(count)
    loss, correct = projected_loss(hidden, weight, bias, labels)
    logits = F.linear(hidden, weight, bias)
    expected = F.cross_entropy(logits, labels)
    assert (loss - expected).abs() < 1e-12
    assert correct == (logits.argmax(1) == labels).sum()
    inputs = (hidden, weight, bias)
    for ours, theirs in zip(
        torch.autograd.grad(3.0 * loss, inputs),
        torch.autograd.grad(3.0 * expected, inputs),
        strict=True,
    ):
        assert (ours - theirs).abs().max() < 1e-12
    with torch.no_grad():
        assert projected_loss(hidden, weight, bias, labels)[0] == loss


def test_huge_logits_overflow_nothing() -> None:
    hidden, weight, bias, labels = loss_inputs(6)
    big = hidden.float() * 1e4
    loss, _ = projected_loss(big, weight.float(), bias.float(), labels)
    expected = F.cross_entropy(F.linear(big, weight.float(), bias.float()), labels)
    assert loss.isfinite() and (loss - expected).abs() / expected < 1e-6


def test_bfloat16_trains() -> None:
    model, given = BertForPreTraining(small_bert()).float(), batch()
    exact = model(**given).loss
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**given, next_labels=torch.tensor([0, 1, 0, 1]))
    output.loss.backward()
    assert output.mlm_loss.dtype == torch.float32
    assert (output.mlm_loss - exact).abs() < 0.1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_sequence_classification_asks_the_pooled_vector_or_the_mean() -> None:
    bert, given = small_bert(), batch()
    inputs = (given["tokens"], given["mask"], given["segments"])
    hidden, pooled = bert(*inputs)
    by_first = BertForSequenceClassification(bert, 3).double().eval()
    assert (by_first(*inputs) - by_first.classifier(pooled)).abs().max() < 1e-12
    by_mean = BertForSequenceClassification(bert, 3, pooling="mean").double().eval()
    mean = torch.stack([h[m].mean(0) for h, m in zip(hidden, given["mask"], strict=True)])
    assert (by_mean(*inputs) - by_mean.classifier(mean)).abs().max() < 1e-12
    assert torch.allclose(mean_pool(hidden, None), hidden.mean(1))
    assert by_mean.bert is bert


@torch.no_grad()
def test_token_classification_scores_every_token() -> None:
    bert, given = small_bert(), batch()
    model = BertForTokenClassification(bert, 5).double().eval()
    logits = model(given["tokens"], given["mask"])
    assert logits.shape == (B, T, 5)
    alone = model(given["tokens"][2:3, :5])
    assert (logits[2, :5] - alone[0]).abs().max() < 1e-12


@torch.no_grad()
def test_a_span_begins_and_ends_only_where_allowed() -> None:
    bert, given = small_bert(), batch()
    model = BertForSpan(bert).double().eval()
    text = given["segments"] == 1
    for allowed in (None, text):
        start, end = model(given["tokens"], given["mask"], given["segments"], allowed)
        assert start.shape == end.shape == (B, T)
        possible = given["mask"] & text if allowed is not None else given["mask"]
        some = possible.any(1)
        for logits in (start, end):
            assert (logits.softmax(-1)[some][~possible[some]] == 0).all()
            assert logits.log_softmax(-1).isfinite().all()
    assert (start - end).abs().max() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda bert: BertForSequenceClassification(bert, 1), "n_classes=1 leaves nothing"),
        (
            lambda bert: BertForSequenceClassification(bert, 2, "max"),  # type: ignore[arg-type]
            "pooling='max' makes no",
        ),
        (lambda bert: BertForTokenClassification(bert, 0), "n_tags=0 leaves nothing"),
    ],
)
def test_impossible_heads_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(small_bert())
