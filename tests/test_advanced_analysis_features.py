"""The sparse autoencoder and the measure of readability, on cases whose answer is known."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from advanced_topics import readability
from advanced_topics.readability import (
    KINDS,
    base_rate,
    check,
    explain,
    kinds_of_tokens,
    labels_of,
    readable_shares,
    strongest_places,
)
from advanced_topics.sparse_autoencoder import (
    AutoencoderSettings,
    SparseAutoencoder,
    revive,
    train_autoencoder,
)
from advanced_topics.sparse_features import changed_stream, loss_recovered, units_of
from advanced_topics.text_model import neurons_of
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT, next_token_loss
from tutorial_kit.tokenizers import CharTokenizer


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=27, max_len=16, d_model=16, n_heads=2, n_kv_heads=2, n_layers=2,
                       d_ff=24, **RECIPES["modern"])  # fmt: skip
    model = GPT(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    return model


@pytest.fixture
def autoencoder() -> SparseAutoencoder:
    torch.manual_seed(0)
    return SparseAutoencoder(3.0 * torch.randn(500, 8) + 5.0, n_features=32, active=3)


# The autoencoder


def test_the_stream_is_moved_to_mean_zero_and_mean_square_one() -> None:
    stream = 3.0 * torch.randn(2000, 8) + torch.arange(8.0)
    normalized = SparseAutoencoder(stream, 16, 2).normalize(stream)
    assert normalized.mean(dim=0).abs().max() < 1e-4
    assert normalized.square().mean().item() == pytest.approx(1.0, rel=1e-4)


def test_no_more_features_than_allowed_and_none_below_zero(autoencoder: SparseAutoencoder) -> None:
    features = autoencoder.encode(3.0 * torch.randn(4, 7, 8) + 5.0)
    assert features.shape == (4, 7, 32)
    assert (features >= 0).all() and (features > 0).sum(dim=-1).max() <= 3
    autoencoder.threshold.data -= 100.0
    assert not autoencoder.encode(torch.randn(5, 8)).any()  # the k largest may be below zero


def test_the_reconstruction_is_the_sum_of_its_directions(autoencoder: SparseAutoencoder) -> None:
    stream = 3.0 * torch.randn(1, 8) + 5.0
    features = autoencoder.encode(stream)[0]
    total = autoencoder.bias.detach().clone()
    for number, direction in zip(features, autoencoder.decoder, strict=True):
        total = total + number * direction
    expected = total * autoencoder.scale + autoencoder.mean
    assert torch.allclose(autoencoder(stream)[0], expected, atol=1e-5)


def test_only_the_features_in_use_learn(autoencoder: SparseAutoencoder) -> None:
    stream = 3.0 * torch.randn(1, 8) + 5.0
    used = autoencoder.encode(stream)[0] > 0
    (autoencoder(stream) - stream).square().sum().backward()
    for gradient in (autoencoder.decoder.grad, autoencoder.encoder.grad.mT):  # type: ignore[union-attr]
        assert gradient is not None
        assert torch.equal(gradient.abs().sum(dim=1) > 0, used)


def test_gradients_agree_with_differences(autoencoder: SparseAutoencoder) -> None:
    small = copy.deepcopy(autoencoder).double()
    stream = (3.0 * torch.randn(3, 8) + 5.0).double()
    parameters = (small.encoder, small.decoder, small.threshold, small.bias)

    def error(*_parameters: Tensor) -> Tensor:
        return (small(stream) - stream).square().mean()

    assert torch.autograd.gradcheck(error, parameters, eps=1e-7, atol=1e-4)


def test_directions_have_length_one(autoencoder: SparseAutoencoder) -> None:
    autoencoder.decoder.data *= 4.0
    autoencoder.shorten()
    assert torch.allclose(autoencoder.decoder.norm(dim=1), torch.ones(32))
    settings = AutoencoderSettings(n_features=16, active=2, batch_size=32, max_steps=20)
    trained = train_autoencoder(torch.randn(200, 8), settings, seed=0)
    assert torch.allclose(trained.decoder.norm(dim=1), torch.ones(16), atol=1e-5)


def test_dead_features_point_at_what_is_missing(autoencoder: SparseAutoencoder) -> None:
    before = autoencoder.decoder.detach().clone()
    dead = torch.zeros(32, dtype=torch.bool)
    dead[[4, 9]] = True
    error = torch.zeros(5, 8)
    error[3, 6] = -2.0  # one token's number 6 comes out too small
    revive(autoencoder, dead, torch.randn(5, 8), error)
    assert torch.equal(autoencoder.decoder[~dead], before[~dead])
    assert torch.equal(autoencoder.decoder[dead], torch.eye(8)[[6, 6]])
    revive(autoencoder, torch.zeros(32, dtype=torch.bool), torch.randn(5, 8), error)


def test_a_number_of_features_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="active=9 of n_features=8 cannot be kept.*Use 1 to 8"):
        SparseAutoencoder(torch.randn(10, 4), 8, 9)


@pytest.mark.slow
def test_the_directions_that_made_the_data_are_found() -> None:
    """Sums of 2 out of 24 directions in 12 dimensions: most are found to a cosine above 0.95."""
    torch.manual_seed(0)
    true = torch.nn.functional.normalize(torch.randn(24, 12), dim=1)
    weights = torch.zeros(20_000, 24)
    chosen = torch.rand(20_000, 24).topk(2, dim=1).indices
    weights.scatter_(1, chosen, 1.0 + torch.rand(20_000, 2))
    settings = AutoencoderSettings(n_features=32, active=2, batch_size=512, max_steps=1500, lr=5e-3)
    found = train_autoencoder(weights @ true, settings, seed=0).decoder.detach()
    best = (true @ found.mT).amax(dim=1)
    control = (true @ torch.nn.functional.normalize(torch.randn(32, 12), dim=1).mT).amax(dim=1)
    assert (best > 0.95).float().mean() > 0.7 > 0.1 > (control > 0.95).float().mean()


# What the model does with it


def test_an_unchanged_stream_changes_nothing(model: GPT) -> None:
    tokens = torch.randint(27, (2, 16))
    before = model(tokens)
    with changed_stream(model, 0, lambda stream: stream):
        assert torch.equal(model(tokens), before)
    with changed_stream(model, 0, torch.zeros_like):
        assert not torch.allclose(model(tokens), before, atol=1e-2)
    assert torch.equal(model(tokens), before)


def test_all_or_nothing_is_recovered(model: GPT) -> None:
    """100 % by an autoencoder that is the identity, 0 % by one that always says the mean."""
    text = torch.cat([torch.randint(27, (6, 1)), model_guesses(model)], dim=1)
    identity = SparseAutoencoder(torch.randn(50, 16), 32, 32)
    identity.mean.zero_()
    identity.scale.fill_(1.0)
    identity.decoder.data = torch.cat([torch.eye(16), -torch.eye(16)])
    identity.encoder.data = identity.decoder.data.mT.clone()
    whole = loss_recovered(model, 0, identity, text)
    assert whole["recovered"] == pytest.approx(100.0, abs=0.1)
    assert whole["clean"] == pytest.approx(next_token_loss(model(text[:, :-1]), text[:, 1:]).item())
    identity.threshold.data -= 1e6
    nothing = loss_recovered(model, 0, identity, text)
    assert nothing["recovered"] == pytest.approx(0.0, abs=1e-3)
    assert nothing["rebuilt"] > nothing["clean"]


def model_guesses(model: GPT) -> Tensor:
    """Text that the model likes, so that taking its stream away costs something."""
    tokens = torch.randint(27, (6, 1))
    for _ in range(16):
        following = model(tokens[:, -16:])[:, -1:].argmax(dim=-1)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens[:, :-1]


def test_neurons_are_those_of_the_feed_forward(model: GPT) -> None:
    tokens = torch.randint(27, (2, 16))
    named = model.intermediates(tokens)
    block = model.blocks[1]
    mixed, _ = block.attention(block.attention_norm(named["block.0"]), model.causal, model.turns)
    middle = named["block.0"] + mixed
    hidden = block.feed_forward.expand(block.feed_forward_norm(middle)).relu().square()
    found = neurons_of(model, 1, tokens)
    assert found.shape == (2, 16, 24)
    assert torch.allclose(found, hidden, rtol=1e-3, atol=1e-4)


def test_the_groups_of_units(model: GPT) -> None:
    autoencoder = SparseAutoencoder(torch.randn(100, 16), 20, 4)
    units = units_of(model, autoencoder, 0, seed=0)
    tokens = torch.randint(27, (3, 16))
    shapes = {name: tuple(unit(tokens).shape[2:]) for name, unit in units.items()}
    assert shapes == {"features": (20,), "neurons": (24,), "stream": (32,), "random": (20,)}
    assert torch.equal(
        units["random"](tokens), units_of(model, autoencoder, 0, 0)["random"](tokens)
    )


# Readability

TOKENIZER = CharTokenizer([*"abcdefghijklmnopqrstuvwxyz", " "])


def random_text(rows: int = 40, length: int = 12) -> Tensor:
    return torch.randint(26, (rows, length))


def unit_of(condition: str, letter: int) -> readability.Unit:
    """A unit that is strong where the token, or the one before it, is a letter, else noise."""

    def activations(tokens: Tensor) -> Tensor:
        noise = 0.1 * torch.rand(*tokens.shape, 1)
        hit = (tokens if condition == "this" else tokens.roll(1, dims=1)) == letter
        return noise + hit[..., None].float()

    return activations


def test_kinds_of_tokens() -> None:
    tokenizer = CharTokenizer([*"a7.\n"])
    kinds = [KINDS[int(kind)] for kind in kinds_of_tokens(tokenizer)]
    assert sorted(kinds) == ["blank", "letters", "number", "other"]


def test_the_strongest_places_are_found_once_a_window() -> None:
    def unit(tokens: Tensor) -> Tensor:
        return (tokens / 100)[..., None]

    tokens = torch.tensor([[99, 3, 9, 1], [99, 2, 2, 8], [99, 0, 0, 0]])
    places, values = strongest_places(unit, tokens, count=3)
    assert places[:2, 0].tolist() == [1, 5]  # 9 and 8, not 99
    assert values[:, 0].tolist() == pytest.approx([0.09, 0.08, 0.0])
    with pytest.raises(ValueError, match="3 windows cannot show 4 places"):
        strongest_places(unit, tokens, count=4)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = random_text(50)

    def unit(tokens: Tensor) -> Tensor:
        return torch.stack([tokens.float().sin(), tokens.float().cos()], dim=-1)

    whole = strongest_places(unit, text, 20)
    monkeypatch.setattr(readability, "CHUNK", 7)
    assert torch.equal(whole[0], strongest_places(unit, text, 20)[0])


@pytest.mark.parametrize("condition", ["this", "before"])
def test_a_unit_that_means_something_is_read(condition: str) -> None:
    torch.manual_seed(0)
    units = {"made": unit_of(condition, 4)}
    found = readable_shares(units, [random_text(400), random_text(400)], TOKENIZER)
    assert found["shares"]["made"][condition] == found["shares"]["made"]["readable"] == 100.0
    assert found["shares"]["made"]["wider"] == 100.0
    words = {"this": "it is 'e'", "before": "before it is 'e'"}[condition]
    assert found["examples"]["made"] == [f"0: {words} (20 of 20)"]


def test_noise_is_not_read() -> None:
    torch.manual_seed(0)
    units = {"noise": lambda tokens: torch.rand(*tokens.shape, 64)}
    found = readable_shares(units, [random_text(400), random_text(400)], TOKENIZER)
    assert found["shares"]["noise"]["readable"] == 0.0 and found["examples"]["noise"] == []


def test_what_holds_at_the_very_top_only_is_seen_through() -> None:
    """A unit that is strongest at 25 places of the letter e, and strong anywhere else at random."""
    torch.manual_seed(0)
    texts = [random_text(400), random_text(400)]
    for text in texts:
        text[:25, 5] = 4

    def unit(tokens: Tensor) -> Tensor:
        values = torch.rand(*tokens.shape, 1)
        if any(torch.equal(tokens, text[:64, :-1]) for text in texts):  # the first chunk
            values[:25, 5] += 1.0
        return values

    shares = readable_shares({"top": unit}, texts, TOKENIZER)["shares"]["top"]
    assert shares["this"] == shares["readable"] == 100.0 and shares["wider"] == 0.0


def test_a_dead_unit_is_not_counted() -> None:
    torch.manual_seed(0)
    alive = unit_of("this", 4)
    units = {"one of two": lambda t: torch.cat([alive(t), torch.zeros(*t.shape, 1)], dim=-1)}
    shares = readable_shares(units, [random_text(400), random_text(400)], TOKENIZER)["shares"]
    assert shares["one of two"]["readable"] == 100.0


def test_what_holds_on_one_text_only_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit of the letter e that turns to the letter f on the second text."""
    torch.manual_seed(0)
    first, second = random_text(400), random_text(400)

    def unit(tokens: Tensor) -> Tensor:
        letter = 4 if torch.equal(tokens[0], first[0, :-1]) else 5
        return (tokens == letter)[..., None].float()

    monkeypatch.setattr(readability, "CHUNK", 400)  # so that the unit sees which text it reads
    found = readable_shares({"fickle": unit}, [first, second], TOKENIZER)
    assert found["shares"]["fickle"]["readable"] == 0.0


def test_what_holds_nearly_everywhere_explains_nothing() -> None:
    """All letters are of one kind: a unit whose places share only that is not readable."""
    torch.manual_seed(0)
    text = random_text(60)
    labels = {"kind": labels_of(text, kinds_of_tokens(TOKENIZER))["kind"]}
    places, _ = strongest_places(lambda tokens: torch.rand(*tokens.shape, 3), text[:, :-1], 20)
    chosen, wanted = explain(places, labels)
    hit, readable = check(places, labels, chosen, wanted)
    assert hit.tolist() == [1.0] * 3 and not readable.any()
    assert base_rate(labels["kind"], wanted).tolist() == [1.0] * 3


def test_labels_are_those_of_the_neighbors() -> None:
    text = torch.tensor([[1, 2, 3, 4]])
    labels = labels_of(text, torch.arange(27) * 10)
    assert {name: label.tolist() for name, label in labels.items()} == {
        "this": [[2, 3]], "before": [[1, 2]], "next": [[3, 4]], "kind": [[20, 30]],
    }  # fmt: skip
