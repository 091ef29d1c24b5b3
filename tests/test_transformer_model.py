"""The assembled model: the structure checks, the cache with beams, initialization, bad settings."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from transformer.attention import MultiHeadAttention
from transformer.transformer_config import TransformerConfig, parameter_count
from transformer.transformer_model import Transformer
from transformer.verify_structure import (
    CHECKS,
    TARGET_LEN,
    VOCAB,
    main,
    small_batch,
    small_model,
    torch_logits,
    torch_name,
    torch_transformer,
    trace,
)


@pytest.mark.parametrize(
    ("check", "tolerance"), CHECKS, ids=lambda item: getattr(item, "__name__", "")
)
def test_structure(check: Callable[[], float], tolerance: float) -> None:
    assert check() <= tolerance


def test_structure_checks_can_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that ignores its masks must not pass."""
    mix = MultiHeadAttention._mix

    def blind(self: MultiHeadAttention, q: Tensor, k: Tensor, v: Tensor, *rest: object) -> object:
        return mix(self, q, k, v, None, *rest[1:])  # type: ignore[arg-type]

    monkeypatch.setattr(MultiHeadAttention, "_mix", blind)
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  Changing target tokens 4 and later" in printed
    assert "FAIL  Six more padding tokens" in printed
    assert "FAIL  Post-norm: the logits are torch.nn.Transformer's" in printed


def test_trace_names_every_tensor_with_its_shape() -> None:
    ledger = trace("pre")
    assert "cross.attention.2    (3, 4, 7, 9)" in ledger
    assert "encoder.attention.1  (3, 4, 9, 9)" in ledger
    assert "logits               (3, 7, 50)" in ledger


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_logits_equal_torch_in_float32(norm: str) -> None:
    model, (source, target, mask) = small_model(norm, torch.float32), small_batch()
    difference = model(source, target, mask) - torch_logits(model, source, target, mask)
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_gradients_equal_torch(norm: str) -> None:
    """One backward pass: every weight of every layer gets torch's gradient."""
    model, (source, target, mask) = small_model(norm), small_batch()
    reference = torch_transformer(model)
    scale, table = math.sqrt(model.config.d_model), model.positions(0, 9)
    source_x = (model.source_embedding(source) * scale + table).detach()
    target_x = (model.target_embedding(target) * scale + table[:TARGET_LEN]).detach()
    future = ~torch.ones(TARGET_LEN, TARGET_LEN).tril().bool()
    theirs = reference(
        source_x, target_x, tgt_mask=future, src_key_padding_mask=~mask,
        memory_key_padding_mask=~mask,
    )  # fmt: skip
    theirs.square().sum().backward()
    ours = model.decode(target, model.encode(source, mask), mask)
    ours.square().sum().backward()
    for name, parameter in model.named_parameters():
        if torch_name(name):
            expected = reference.get_parameter(torch_name(name)).grad
            assert expected is not None and parameter.grad is not None
            assert torch.allclose(parameter.grad, expected, rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "none"])
def test_intermediates_end_in_the_same_logits(norm: str, positions: str) -> None:
    model, batch = small_model(norm, positions=positions), small_batch()
    logits, named = model(*batch, return_intermediates=True)
    assert torch.allclose(logits, model(*batch), atol=1e-12)
    assert torch.equal(model.project(named["hidden"]), named["logits"])
    assert torch.allclose(model.encode(batch[0], batch[2]), named["memory"], atol=1e-12)
    for name, tensor in named.items():
        if "attention" in name:
            assert torch.allclose(tensor.sum(-1), torch.ones(()).double(), atol=1e-12)
    seen = small_batch()[2][:, None, None].expand_as(named["cross.attention.0"])
    assert named["cross.attention.0"][~seen].abs().max() == 0
    assert named["decoder.attention.2"].triu(1).abs().max() == 0


def test_without_positions_the_order_of_the_source_does_not_matter() -> None:
    source, target, _ = small_batch()
    shuffled = source[:, torch.randperm(source.shape[1])]
    blind, seeing = small_model(positions="none"), small_model()
    assert torch.allclose(blind(source, target), blind(shuffled, target), atol=1e-12)
    assert not torch.allclose(seeing(source, target), seeing(shuffled, target), atol=1e-3)


def test_padding_behind_the_target_changes_no_logit() -> None:
    model, (source, target, mask) = small_model(), small_batch()
    longer = torch.cat([target, torch.zeros(3, 5, dtype=torch.long)], dim=1)
    difference = model(source, longer, mask)[:, :TARGET_LEN] - model(source, target, mask)
    assert difference.abs().max() < 1e-12


def test_no_mask_is_a_mask_that_allows_all() -> None:
    model, (source, target, _) = small_model(), small_batch()
    everything = torch.ones_like(source, dtype=torch.bool)
    assert torch.allclose(model(source, target), model(source, target, everything), atol=1e-13)


def test_both_ways_of_attention_give_the_model_s_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = small_model(), small_batch()
    written_out = model(*batch)
    monkeypatch.setattr("transformer.attention.written_out_is_faster", lambda q: False)
    assert torch.allclose(written_out, model(*batch), atol=1e-12)


def full_logits(model: Transformer, source: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return model.project(model.decode(target, model.encode(source, mask), mask)[:, -1])


@torch.no_grad()
def test_beams_go_on_as_if_they_had_always_been_alone() -> None:
    """Split, reorder and drop beams and sentences between steps, as beam search does."""
    model, (source, _, mask) = small_model("pre"), small_batch()
    cache = model.start_cache(model.encode(source, mask), mask, 8, beams=3)
    written = torch.zeros(3, 1, 0, dtype=torch.long)  # (B, W, T)
    sentence = torch.arange(3)
    torch.manual_seed(3)
    selections = [  # parents of each sentence's beams, then the sentences that stay
        ([[0, 0], [0, 0], [0, 0]], [0, 1, 2]),  # two beams a sentence
        ([[1, 0], [0, 0], [1, 1]], [0, 1, 2]),  # beams change places and die
        ([[0, 1, 1], [0, 0, 1], [1, 0, 1]], [0, 2]),  # a third beam; one sentence is finished
        ([[2, 0], [1, 2]], [1, 0]),  # a beam less; sentences change places
        ([[0, 1], [1, 0]], [1]),
    ]
    for parents, staying in selections:
        tokens = torch.randint(VOCAB, written.shape[:2])
        written = torch.cat([written, tokens[..., None]], dim=2)
        logits = model.step(tokens, cache)
        for beam in range(tokens.shape[1]):
            expected = full_logits(model, source[sentence], written[:, beam], mask[sentence])
            assert torch.allclose(logits[:, beam], expected, atol=1e-12)
        cache.follow(torch.tensor(parents))
        cache.select(torch.tensor(staying))
        written = torch.stack([row[p] for row, p in zip(written, parents, strict=True)])[staying]
        sentence = sentence[staying]
    assert cache.past.shape == (1, 2, cache.used) and cache.used == 1 + 2 + 2 + 3 + 2


@torch.no_grad()
def test_following_beams_copies_no_keys() -> None:
    model, (source, _, mask) = small_model(), small_batch()
    cache = model.start_cache(model.encode(source, mask), mask, 4, beams=3)
    model.step(torch.zeros(3, 1, dtype=torch.long), cache)
    keys, of_source = cache.target.data_ptr(), cache.source[0][0].data_ptr()
    cache.follow(torch.zeros(3, 3, dtype=torch.long))
    model.step(torch.zeros(3, 3, dtype=torch.long), cache)
    assert (cache.target.data_ptr(), cache.source[0][0].data_ptr()) == (keys, of_source)
    assert len(cache.source[0][0]) == 3  # one copy for all beams of a sentence


@torch.no_grad()
def test_a_full_cache_and_too_many_tokens_are_refused() -> None:
    model, (source, target, mask) = small_model(), small_batch()
    memory = model.encode(source, mask)
    cache = model.start_cache(memory, mask, 1)
    model.step(target[:, :1], cache)
    with pytest.raises(ValueError, match="the cache has room for 1 tokens and all are used"):
        model.step(target[:, 1:2], cache)
    with pytest.raises(ValueError, match="17 tokens do not fit into max_len=16"):
        model.start_cache(memory, mask, 17)
    long = torch.zeros(1, 17, dtype=torch.long)
    with pytest.raises(ValueError, match="17 tokens do not fit into max_len=16"):
        model(long, target[:1])
    with pytest.raises(ValueError, match="17 tokens do not fit into max_len=16"):
        model(source[:1], long)


def test_a_tied_matrix_collects_the_gradients_of_its_three_uses() -> None:
    model, (source, target, mask) = small_model(), small_batch()
    loose = Transformer(TransformerConfig(**vars(model.config) | {"tie_weights": False})).double()
    loose.load_state_dict(model.state_dict())
    assert len({id(p) for p in loose.parameters()}) == len({id(p) for p in model.parameters()}) + 2
    for each in (model, loose.eval()):
        each(source, target, mask).square().sum().backward()
    three = (loose.source_embedding.weight, loose.target_embedding.weight, loose.head.weight)
    total = torch.stack([weight.grad for weight in three if weight.grad is not None]).sum(0)
    assert model.head.weight.grad is not None
    assert torch.allclose(model.head.weight.grad, total, rtol=1e-10)


def test_initialization_follows_its_table() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=500, positions="learned", tie_weights=False))
    expected = {
        "source_embedding.weight": 128**-0.5,
        "target_embedding.weight": 128**-0.5,
        "head.weight": 128**-0.5,
        "positions.weight": 128**-0.5,
        "encoder.0.attention.qkv.weight": 256**-0.5,
        "decoder.2.cross_attention.output.weight": 128**-0.5,
        "decoder.1.feed_forward.expand.weight": math.sqrt(2 / 640),
        "encoder.2.feed_forward.contract.weight": math.sqrt(2 / 640),
    }
    for name, std in expected.items():
        assert model.get_parameter(name).std().item() == pytest.approx(std, rel=0.03)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0
        elif "norm" in name:
            assert (parameter == 1).all()


def test_it_starts_near_a_uniform_guess() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=1000)).eval()
    logits = model(torch.randint(1000, (8, 12)), torch.randint(1000, (8, 12)))
    assert logits.std().item() == pytest.approx(1.0, abs=0.15)


def test_dropout_makes_training_random_and_repeatable() -> None:
    model, batch = small_model(dropout=0.2).train(), small_batch()
    torch.manual_seed(1)
    first, second = model(*batch), model(*batch)
    torch.manual_seed(1)
    assert torch.equal(model(*batch), first) and not torch.equal(first, second)


def test_size_of_the_paper_s_base_model() -> None:
    config = TransformerConfig(
        vocab_size=37_000, d_model=512, n_heads=8, n_layers=6, n_decoder_layers=6, d_ff=2048
    )
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(p.numel() for p in model.parameters()) == parameter_count(config)
    assert parameter_count(config) / 65e6 == pytest.approx(1, abs=0.04)  # table 3 says 65 million


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"d_model": 130}, "d_model=130 is not divisible by n_heads=4: each head would get 32.5"),
        ({"d_model": 33, "n_heads": 3}, "d_model=33 is odd, and sinusoids come in pairs"),
        ({"n_decoder_layers": 0}, "n_decoder_layers=0 is not possible"),
        ({"dropout": 1.0}, "dropout=1.0 is no share"),
        ({"vocab_size": 0}, "vocab_size=0 gives no token"),
    ],
)
def test_impossible_settings_say_what_to_do(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Transformer(TransformerConfig(**{"vocab_size": 10, **wrong}))  # type: ignore[arg-type]
