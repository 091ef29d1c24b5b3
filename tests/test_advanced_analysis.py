"""Scaling law, induction heads and logit lens: their arithmetic, on cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from advanced_topics import analyses
from advanced_topics.analyses import ANALYSES, EXPERIMENTS
from advanced_topics.induction import (
    PRESETS,
    InductionSettings,
    attention_only,
    context_loss,
    repeated_blocks,
    step_of_turn,
    train_and_watch,
)
from advanced_topics.induction_heads import (
    head_scores,
    heads_by_role,
    prefix_matching,
    without_heads,
)
from advanced_topics.logit_lens import (
    apply_map,
    fit_map,
    fit_maps,
    frequency_loss,
    lens_logits,
    losses_by_depth,
    mapped_logits,
)
from advanced_topics.scaling_law import PRESETS as SCALING_PRESETS
from advanced_topics.scaling_law import (
    PowerLaw,
    fit_power_law,
    held_out_error,
    non_embedding_parameters,
    r_squared,
    scaling_configs,
)
from advanced_topics.text_model import shortened, stream_after, streams, windows
from advanced_topics.topic import FAMILY
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.text_data import load_text_data
from tutorial_kit.experiments import Study, experiment_figures

SIZES = [1e4, 2.5e4, 6e4, 1.5e5, 4e5]


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=40, max_len=12, d_model=16, n_heads=2, n_kv_heads=2, n_layers=3,
                       d_ff=32, **RECIPES["gpt2"])  # fmt: skip
    return GPT(config).eval()


# Scaling law


@pytest.mark.parametrize("law", [PowerLaw(1.2, 300.0, 0.5), PowerLaw(0.5, 9.0, 0.12)])
def test_the_fit_finds_the_law_that_made_the_losses(law: PowerLaw) -> None:
    losses = law.predict(SIZES).tolist()
    fitted = fit_power_law(SIZES, losses)
    assert fitted.exponent == pytest.approx(law.exponent, rel=1e-4)
    assert fitted.floor == pytest.approx(law.floor, rel=1e-3)
    assert fitted.scale == pytest.approx(law.scale, rel=1e-3)
    assert r_squared(fitted, SIZES, losses) == pytest.approx(1.0)
    assert held_out_error(SIZES, losses)["error"] < 1e-3


def test_the_fit_is_the_least_squares_one() -> None:
    """No neighbor of the fit has a smaller squared error, although the losses are noisy."""
    noise = np.random.default_rng(0).normal(0, 0.02, len(SIZES))
    losses = PowerLaw(1.2, 300.0, 0.5).predict(SIZES) + noise
    law = fit_power_law(SIZES, losses.tolist())

    def error(candidate: PowerLaw) -> float:
        return float(((candidate.predict(SIZES) - losses) ** 2).sum())

    changes = ({"floor": law.floor + 0.01}, {"scale": 1.01 * law.scale},
               {"exponent": law.exponent + 0.002}, {"exponent": law.exponent - 0.002})  # fmt: skip
    for change in changes:
        assert error(replace(law, **change)) > error(law)


def test_a_floor_is_never_below_zero() -> None:
    falling = fit_power_law([1.0, 2.0, 4.0, 8.0], [3.0, 2.0, 1.0, 0.0])  # a line in log N
    assert falling.floor == 0.0


def test_three_sizes_test_nothing() -> None:
    with pytest.raises(ValueError, match="3 sizes cannot test a law of three numbers.*Train at"):
        fit_power_law([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])


def test_the_error_is_a_share_of_the_last_step() -> None:
    """A model that stops improving: the law promised one more step, so it is 100 % off or more."""
    losses = PowerLaw(1.0, 300.0, 0.5).predict(SIZES).tolist()
    losses[-1] = losses[-2] - 0.01
    found = held_out_error(SIZES, losses)
    assert found["step_error"] > 1000 and found["error"] < 60
    assert found["measured"] == losses[-1] and found["predicted"] < losses[-1]


def test_sizes_differ_in_the_width_alone_and_count_no_table() -> None:
    configs = scaling_configs(SCALING_PRESETS["standard"], seed=3)
    widths = [config.model.d_model for config in configs]
    base = configs[0]
    for width, config in zip(widths, configs, strict=True):
        like = replace(base, model=replace(base.model, d_model=width, d_ff=4 * width))
        assert config == like
        model = GPT(replace(config.model, vocab_size=7))
        inside = sum(
            p.numel() for p in (*model.blocks.parameters(), *model.final_norm.parameters())
        )
        assert non_embedding_parameters(config) == inside
    assert non_embedding_parameters(configs[-1]) > 20 * non_embedding_parameters(base)


# Induction heads

TINY = PRESETS["smoke"]


def test_a_constructed_induction_head_scores_one() -> None:
    """A B C A B C: from the second A on, all attention on what followed the token before."""
    tokens = torch.tensor([[5, 6, 7, 5, 6, 7]])
    weights = torch.zeros(1, 3, 6, 6)
    for t in range(6):
        weights[0, 0, t, t - 2 if t >= 3 else 0] = 1.0  # induction
        weights[0, 1, t, max(t - 1, 0)] = 1.0  # the previous token
        weights[0, 2, t, : t + 1] = 1.0 / (t + 1)  # everywhere
    scores = prefix_matching(weights, tokens)
    assert scores.tolist() == pytest.approx([1.0, 0.0, (1 / 4 + 1 / 5 + 1 / 6) / 3])


def test_prefix_matching_needs_a_repetition() -> None:
    with pytest.raises(ValueError, match="no token of these 1 sequences occurs twice"):
        prefix_matching(torch.ones(1, 1, 3, 3), torch.tensor([[1, 2, 3]]))


def test_blocks_repeat_and_say_where_they_do() -> None:
    settings = InductionSettings()
    tokens, known = repeated_blocks(settings, 50, torch.Generator().manual_seed(0))
    periods = (~known).sum(dim=1) + 1  # the next token is known from place period - 1 on
    assert tokens.shape == (50, 65) and known.shape == (50, 64)
    assert periods.min() >= settings.shortest and periods.max() <= settings.longest
    assert len(periods.unique()) > 5
    for row, period in zip(tokens, periods.tolist(), strict=True):
        assert torch.equal(row[period:], row[:-period])
        assert len(row[:period].unique()) == period


def test_the_loss_counts_known_places_only(model: GPT) -> None:
    tokens = torch.randint(40, (4, 13))
    known = torch.zeros(4, 12, dtype=torch.bool)
    known[:, 5] = True
    logits = model(tokens[:, :-1])[:, 5]
    expected = torch.nn.functional.cross_entropy(logits, tokens[:, 6])
    assert context_loss(model, tokens, known) == pytest.approx(expected.item(), rel=1e-5)


def test_a_head_is_taken_away_and_given_back() -> None:
    torch.manual_seed(1)
    model = attention_only(TINY, 2)
    for block in model.blocks:  # its zero start would hide what a head adds
        block.attention.output.weight.data.normal_()
    model.head.weight.data.normal_()
    tokens = torch.randint(16, (2, 10))
    before = model(tokens)
    value = model.blocks[1].attention.qkv.weight.data  # rows: queries, keys, values
    with without_heads(model, [(1, 1)]):
        without = model(tokens)
    kept = value.clone()
    value[-TINY.d_model // 2 :] = 0.0  # head 1 has no values: the same as having no output
    assert torch.allclose(model(tokens), without, atol=1e-5)
    value.copy_(kept)
    assert torch.equal(model(tokens), before) and not torch.allclose(before, without)


def test_heads_are_sorted_by_what_they_look_at() -> None:
    scores = torch.tensor([[0.9, 0.0, 0.0], [0.2, 0.8, 0.5]])
    previous = torch.tensor([[0.1, 0.3, 0.6], [0.9, 0.0, 0.0]])
    assert heads_by_role(scores, previous) == {
        "induction_heads": [(1, 1), (1, 2)],
        "previous_heads": [(0, 2)],
        "other_heads": [(0, 0), (0, 1), (1, 0)],
    }


def test_the_feed_forward_is_gone() -> None:
    model = attention_only(TINY, 1)
    assert not any("expand" in name or "contract" in name for name, _ in model.named_parameters())
    x = torch.randn(2, 4, TINY.d_model)
    assert torch.equal(model.blocks[0].feed_forward(x), torch.zeros_like(x))


def test_half_the_way() -> None:
    assert step_of_turn([0, 1, 2], [0.0, 0.4, 1.0]) == 2
    assert step_of_turn([0, 1, 2], [4.0, 1.0, 0.0]) == 1


@pytest.mark.slow
def test_two_layers_learn_what_one_cannot() -> None:
    settings = PRESETS["tour"]
    held_out = repeated_blocks(settings, 64, torch.Generator().manual_seed(99))
    ends = []
    for n_layers in (1, 2):
        torch.manual_seed(n_layers)
        model = attention_only(settings, n_layers)
        curves = train_and_watch(model, settings, 0, held_out)
        ends.append((curves["loss"][-1], curves["score"][-1]))
    assert ends[1][0] < 0.5 < 1.5 < ends[0][0]
    assert ends[1][1] > 0.7 > 0.3 > ends[0][1]
    scores, _ = head_scores(model, held_out[0][:, :-1])
    assert scores[1].max() > scores[0].max()


# Logit lens


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_last_lens_is_the_model(recipe: str) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=40, max_len=12, d_model=16, n_heads=2, n_kv_heads=2,
                          n_layers=3, d_ff=32, **RECIPES[recipe])).eval()  # fmt: skip
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    tokens = torch.randint(40, (2, 12))
    logits = lens_logits(model, tokens)
    assert logits.shape == (4, 2, 12, 40)
    assert torch.allclose(logits[-1], model(tokens), atol=1e-5)
    assert not torch.allclose(logits[0], logits[-1], atol=1e-2)


def test_a_map_is_found_again() -> None:
    torch.manual_seed(0)
    source, matrix, shift = torch.randn(400, 6) + 3.0, torch.randn(6, 5), torch.randn(5)
    fitted = fit_map(source, source @ matrix + shift, ridge=0.0)
    assert torch.allclose(fitted[:-1], matrix, atol=1e-4)
    assert torch.allclose(fitted[-1], shift, atol=1e-3)
    assert torch.allclose(apply_map(source, fitted), source @ matrix + shift, atol=1e-3)


def test_the_map_of_the_last_depth_changes_nothing() -> None:
    """It maps the final stream to itself, so behind it stands the model's own prediction."""
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=40, max_len=12, d_model=16, n_heads=2, n_kv_heads=2, n_layers=2,
                       d_ff=32, **RECIPES["modern"])  # fmt: skip
    model = GPT(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    maps = fit_maps(model, torch.randint(40, (40, 12)), ridge=1e-6)
    tokens = torch.randint(40, (2, 12))
    logits = mapped_logits(model, tokens, maps)
    assert torch.allclose(logits[-1], model(tokens), atol=1e-2)
    assert not torch.allclose(logits[0], model(tokens), atol=1e-1)


def test_losses_and_frequencies_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 0.0]]], [[[0.0, 2.0]]]])  # two depths, one token, V = 2
    expected = [np.log(2), np.log(1 + np.exp(-2))]
    assert losses_by_depth(logits, torch.tensor([[1]])) == pytest.approx(expected, rel=1e-5)
    train = torch.tensor([0, 0, 0, 1, 1])  # 4 and 3 and 1 of 8, with one more of each
    expected_loss = -(np.log(4 / 8) + np.log(1 / 8)) / 2
    assert frequency_loss(train, torch.tensor([[0, 2]]), 3) == pytest.approx(expected_loss)


# What they share


def test_streams_are_the_models(model: GPT) -> None:
    tokens = torch.randint(40, (5, 12))
    found = streams(model, tokens)
    assert len(found) == 4
    assert torch.allclose(found[-1], model.hidden(tokens), atol=1e-6)
    for layer in range(3):
        part = stream_after(model, layer, tokens, rows=2)
        assert torch.allclose(part, found[layer + 1], atol=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


def test_windows_come_from_all_over_and_do_not_overlap() -> None:
    found = windows(torch.arange(103), 10, 4)
    assert found.shape == (4, 10) and found[:, 0].tolist() == [0, 25, 50, 75]
    assert len(windows(torch.arange(103), 10, 99)) == 10
    with pytest.raises(ValueError, match="has 5 tokens and a window 10"):
        windows(torch.arange(5), 10, 1)


def test_a_shortened_split_keeps_its_bytes() -> None:
    data = load_text_data("documentation-small", "bpe", 512)
    part = shortened(data, 100)
    assert len(part.tokens["validation"]) == 100 and len(data.tokens["validation"]) > 100
    text = part.tokenizer.decode(part.tokens["validation"].tolist())
    assert part.n_bytes["validation"] == len(text.encode())
    assert torch.equal(part.tokens["train"], data.tokens["train"])


@pytest.mark.parametrize("topic", EXPERIMENTS, ids=lambda topic: topic.name)
def test_a_topic_runs_resumes_and_tours(
    topic: analyses.Topic, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study([0], smoke=True)
    first = topic.run(study)
    shown = capsys.readouterr().out
    assert first and {result.name for result in first} <= set(topic.measures)
    assert topic.question in shown
    assert (experiment_figures(FAMILY) / f"{topic.name}.png").is_file()
    monkeypatch.setattr("advanced_topics.analyses.kept_outcome", _refuse_to_measure)
    assert topic.run(study) == first
    found = topic.tour(True)
    assert found.figure is not None and found.finding in shown


def _refuse_to_measure(folder: object, _measure: object) -> dict[str, float]:
    def refuse() -> dict[str, float]:
        raise AssertionError("a finished measurement is repeated")

    from tutorial_kit.experiments import kept_outcome

    return kept_outcome(folder, refuse)  # type: ignore[arg-type]


def test_other_settings_are_another_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = next(a for a in ANALYSES if a.name == "induction")
    seen: list[int] = []

    def counted(seed: int, settings: InductionSettings) -> dict[str, float]:
        seen.append(settings.max_steps)
        return {"seed": seed}

    changed = replace(analysis, measure=counted)  # type: ignore[arg-type]
    longer = {"smoke": replace(PRESETS["smoke"], max_steps=6)}
    for one in (changed, changed, replace(changed, presets=longer)):
        assert analyses.found(one, "smoke", 7)["seed"] == 7
    assert seen == [4, 6]
