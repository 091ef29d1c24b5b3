"""Writing translations: every fast way against a slow one, and searches counted out by hand."""

import itertools
import math

import pytest
import torch

from transformer.beam_search import Beam, beam_search, length_divisor, search
from transformer.decoding import (
    encode_source,
    greedy,
    sample,
    text_of,
    translate,
    translate_n_best,
)
from transformer.sampling import Sampling, draw, filter_logits
from transformer.saved_model import untrained_model
from transformer.transformer_config import TransformerConfig
from transformer.transformer_model import Transformer

PAD, BOS, EOS = 0, 1, 2
MARKS = (BOS, EOS)


def tiny(vocab_size=12, seed=1):
    """A random model whose texts differ in length; float64, so that rounding decides nothing."""
    torch.manual_seed(seed)
    config = TransformerConfig(
        vocab_size, max_len=32, d_model=16, n_heads=2, n_layers=1, n_decoder_layers=2, d_ff=32,
        dropout=0.3, positions="learned", tie_weights=False,
    )  # fmt: skip
    model = Transformer(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.positions.weight.mul_(2)
        for layer in model.decoder:
            layer.cross_attention.output.weight.mul_(3)  # the source matters
        model.head.weight[EOS].mul_(2)  # ends are seldom without this
    return model


@pytest.fixture(scope="module")
def model():
    return tiny()


def sentences(count, vocab_size=12, seed=0, longest=8):
    """Ragged sources: ids (count, S), mask (count, S)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest, (count,), generator=generator)
    lengths[0] = longest
    mask = torch.arange(longest) < lengths[:, None]
    ids = torch.randint(3 if vocab_size > 4 else 0, vocab_size, mask.shape, generator=generator)
    return ids.masked_fill(~mask, PAD), mask


def alone(source, mask, row):
    """One sentence without its padding."""
    kept = mask[row]
    return source[row, kept][None], kept[kept][None]


@torch.no_grad()
def log_probability(model, source, mask, tokens, finished=True):
    """Teacher forcing: log P of a translation of one sentence, no cache."""
    labels = [*tokens, *([EOS] if finished else [])]
    target = torch.tensor([[BOS, *labels[:-1]]])
    log_p = model(source, target, mask)[0].log_softmax(dim=-1)
    return float(log_p[torch.arange(len(labels)), labels].sum())


@torch.no_grad()
def slow_greedy(model, source, mask, max_new):
    """One sentence, the whole decoder again for every token."""
    text = []
    while len(text) < max_new:
        token = int(model(source, torch.tensor([[BOS, *text]]), mask)[0, -1].argmax())
        if token == EOS:
            break
        text.append(token)
    return text


def tokens_of(found):
    return [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]


def test_greedy_is_the_best_token_at_every_step_without_cache_and_without_neighbors(model):
    source, mask = sentences(24)
    written = greedy(model, source, mask, 12, *MARKS)
    assert written == [slow_greedy(model, *alone(source, mask, row), 12) for row in range(24)]
    lengths = {len(text) for text in written}
    assert len(lengths) >= 4 and 12 in lengths, "too uniform to prove much"


def test_one_beam_is_greedy(model):
    source, mask = sentences(40, seed=1)
    found = beam_search(model, source, mask, 12, *MARKS, beams=1)
    assert tokens_of(found) == [[text] for text in greedy(model, source, mask, 12, *MARKS)]


@pytest.mark.parametrize("beams", [2, 4, 12])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_batch_is_searched_as_its_sentences_one_by_one(model, beams, length_penalty):
    source, mask = sentences(20, seed=2)
    settings = (beams, length_penalty, beams)
    together = beam_search(model, source, mask, 10, *MARKS, *settings)
    for row, hypotheses in enumerate(together):
        (single,) = beam_search(model, *alone(source, mask, row), 10, *MARKS, *settings)
        assert [h.tokens for h in hypotheses] == [h.tokens for h in single]
        assert [h.normalized for h in hypotheses] == pytest.approx([h.normalized for h in single])


def test_every_score_is_the_log_probability_and_its_share_per_length(model):
    source, mask = sentences(12, seed=3)
    found = beam_search(model, source, mask, 9, *MARKS, beams=4, length_penalty=0.6, n_best=4)
    kinds = set()
    for row, hypotheses in enumerate(found):
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)
        ranks = [(h.finished, h.normalized) for h in hypotheses]
        assert ranks == sorted(ranks, reverse=True)
        for h in hypotheses:
            kinds.add(h.finished)
            expected = log_probability(model, *alone(source, mask, row), h.tokens, h.finished)
            assert h.score == pytest.approx(expected, rel=1e-6)
            length = len(h.tokens) + h.finished
            assert h.normalized == pytest.approx(expected / ((5 + length) / 6) ** 0.6, rel=1e-6)
            assert EOS not in h.tokens and (h.finished or length == 9)
    assert kinds == {True, False}, "too uniform to prove much"


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_a_wide_beam_finds_what_trying_every_text_finds(length_penalty):
    vocab_size, max_new, n_best = 5, 4, 6
    small = tiny(vocab_size, seed=4)
    source, mask = sentences(3, vocab_size, seed=4, longest=4)
    others = [token for token in range(vocab_size) if token != EOS]
    beam = Beam(3, 400, max_new, EOS, length_penalty, n_best, source.device)  # more than all texts
    found = search(small, source, mask, BOS, beam)
    for row, hypotheses in enumerate(found):
        ranked = sorted(
            (
                (
                    log_probability(small, *alone(source, mask, row), text)
                    / length_divisor(length + 1, length_penalty),
                    list(text),
                )
                for length in range(max_new)
                for text in itertools.product(others, repeat=length)
            ),
            reverse=True,
        )
        assert [h.tokens for h in hypotheses] == [text for _, text in ranked[:n_best]]
        best = [score for score, _ in ranked[:n_best]]
        assert [h.normalized for h in hypotheses] == pytest.approx(best)


def test_more_beams_find_better_translations_on_average(model):
    source, mask = sentences(40, seed=5)
    found = {k: beam_search(model, source, mask, 12, *MARKS, beams=k) for k in (1, 4, 12)}
    ended = [row for row in range(40) if all(h[row][0].finished for h in found.values())]
    means = [sum(h[row][0].normalized for row in ended) for h in found.values()]
    assert len(ended) > 10 and means[0] < means[1] < means[2]


# a, b and the end; the chances after each number of tokens, whatever those were.
TABLE = [(0.55, 0.05, 0.40), (0.20, 0.10, 0.70), (0.05, 0.05, 0.90)]


def search_table(table, beams, length_penalty, n_best=1):
    """Runs a search over a fixed table; returns its result and the steps it took."""
    beam = Beam(1, beams, len(table), EOS, length_penalty, n_best, torch.device("cpu"))
    rows = 1
    for steps, shares in enumerate(table, start=1):
        chosen, tokens, staying = beam.advance(torch.tensor(shares).log().repeat(1, rows, 1))
        if not len(tokens):
            return beam.results[0], steps
        assert chosen.shape == tokens.shape and int(chosen.max()) < rows
        assert staying.tolist() == [0]
        rows = chosen.shape[1]
    raise AssertionError("the search did not end with the table")


def test_without_length_penalty_the_sum_decides_and_the_short_text_wins():
    (best,), steps = search_table(TABLE, 2, 0.0)
    assert best.tokens == [] and best.score == best.normalized == pytest.approx(math.log(0.40))
    assert steps == 2  # after one, "a" (0.55) could still have won; after two, "aa" (0.11) cannot


def test_with_length_penalty_1_the_longer_text_wins():
    (best,), steps = search_table(TABLE, 2, 1.0)
    assert best.tokens == [0] and best.score == pytest.approx(math.log(0.55 * 0.70))
    assert best.normalized == pytest.approx(math.log(0.55 * 0.70) / (7 / 6))
    first, second = search_table(TABLE, 2, 1.0, n_best=2)[0]
    assert first == best and second.tokens == []
    assert second.normalized == pytest.approx(math.log(0.40) / (6 / 6))


def test_a_finished_text_does_not_end_the_search_while_a_longer_one_can_win():
    table = [(0.45, 0.05, 0.50), (0.98, 0.01, 0.01), (0.98, 0.01, 0.01), (0.005, 0.005, 0.99)]
    (best,), steps = search_table(table, 2, 1.0)
    assert best.tokens == [0, 0, 0] and steps == 4
    (best,), steps = search_table(table, 2, 0.0)
    assert best.tokens == [] and steps == 1  # sums only fall


def test_a_frozen_text_is_not_lost_to_open_ones_that_look_better_and_never_end():
    table = [(0.69, 0.01, 0.30), *[(0.98, 0.01, 0.01)] * 4, (0.5, 0.499999, 0.000001)]
    (best,), steps = search_table(table, 2, 1.0)
    assert best.tokens == [] and best.finished and steps == 6
    assert best.normalized == pytest.approx(math.log(0.30))


def test_texts_without_an_end_stand_behind_finished_ones():
    table = [(0.90, 0.09, 0.01), (0.90, 0.09, 0.01)]
    found, _ = search_table(table, 3, 1.0, n_best=3)
    assert [h.finished for h in found] == [True, False, False]
    assert found[0].tokens == [] and found[1].tokens == [0, 0]
    assert sorted(found[2].tokens) == [0, 1]
    assert found[1].normalized == pytest.approx(math.log(0.81) / (7 / 6))


@pytest.mark.parametrize("way", ["greedy", "beam"])
def test_sentences_that_are_done_leave_the_batch(model, monkeypatch, way):
    source, mask = sentences(24)
    rows, step = [], model.step

    def counted(tokens, cache):
        rows.append(tokens.numel())
        return step(tokens, cache)

    monkeypatch.setattr(model, "step", counted)
    if way == "greedy":
        greedy(model, source, mask, 12, *MARKS)
        assert rows[0] == 24 and rows == sorted(rows, reverse=True) and rows[-1] <= 18
    else:
        beam_search(model, source, mask, 12, *MARKS, beams=3)
        assert rows[:2] == [24, 72] and rows[1:] == sorted(rows[1:], reverse=True) and rows[-1] < 72


def test_a_seed_repeats_and_a_row_does_not_depend_on_its_neighbors(model):
    source, mask = sentences(16, seed=6)
    options = Sampling(temperature=0.9, top_k=8, top_p=0.95)
    written = sample(model, source, mask, 12, *MARKS, options, seed=5)
    assert written == sample(model, source, mask, 12, *MARKS, options, seed=5)
    assert written != sample(model, source, mask, 12, *MARKS, options, seed=50)
    for row in range(16):
        (single,) = sample(model, *alone(source, mask, row), 12, *MARKS, options, seed=5 + row)
        assert single == written[row]


@pytest.mark.parametrize("options", [Sampling(temperature=0.0), Sampling(top_k=1), Sampling(
    top_p=1e-9), Sampling(temperature=1e-4)], ids=str)  # fmt: skip
def test_sampling_from_one_token_is_greedy(model, options):
    source, mask = sentences(8)
    assert sample(model, source, mask, 9, *MARKS, options) == greedy(model, source, mask, 9, *MARKS)


def test_the_filters_by_hand():
    shares = torch.tensor([[0.4, 0.1, 0.3, 0.2]], dtype=torch.float64)

    def left(**options):
        return filter_logits(shares.log(), Sampling(**options)).softmax(dim=-1)[0].tolist()

    assert left() == pytest.approx([0.4, 0.1, 0.3, 0.2])
    assert left(top_k=2) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert left(top_k=9) == pytest.approx([0.4, 0.1, 0.3, 0.2])
    assert left(top_p=0.5) == pytest.approx([4 / 7, 0, 3 / 7, 0])  # 0.4 is not yet enough
    assert left(top_p=0.39) == [1, 0, 0, 0]
    squares = [0.16 / 0.3, 0.01 / 0.3, 0.09 / 0.3, 0.04 / 0.3]
    assert left(temperature=0.5) == pytest.approx(squares)


def test_draws_follow_the_distribution():
    shares = torch.tensor([[0.0, 0.5, 0.0, 0.25, 0.25, 0.0]], dtype=torch.float64)
    uniforms = torch.tensor([0.0, 0.49, 0.5, 0.74, 0.75, 0.999999], dtype=torch.float64)
    assert draw(shares.repeat(6, 1), uniforms).tolist() == [1, 1, 3, 3, 4, 4]


def test_the_mode_of_the_model_is_kept_and_dropout_is_off(model):
    source, mask = sentences(8)
    calm = greedy(model, source, mask, 9, *MARKS), beam_search(model, source, mask, 9, *MARKS)
    model.train()
    try:
        again = greedy(model, source, mask, 9, *MARKS), beam_search(model, source, mask, 9, *MARKS)
        assert model.training
    finally:
        model.eval()
    assert again == calm
    torch.set_float32_matmul_precision("medium")
    try:
        greedy(model, *alone(source, mask, 1), 9, *MARKS)
        assert torch.get_float32_matmul_precision() == "medium" and not model.training
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"beams": 13}, "beams=13 is not possible: the vocabulary has 12 tokens"),
        ({"beams": 0}, "beams=0 is not possible: at least one"),
        ({"beams": 2, "n_best": 3}, "n_best=3 translations cannot come from beams=2"),
        ({"n_best": 0}, "n_best=0"),
        ({"length_penalty": -1.0}, "length_penalty=-1.0 is no exponent"),
        ({"length_penalty": math.nan}, "length_penalty=nan"),
        ({"max_new": 0}, "max_new=0 leaves no room"),
        ({"max_new": 33}, "33 tokens do not fit into max_len=32"),
    ],
)
def test_settings_that_cannot_work_are_refused(model, changes, text):
    source, mask = sentences(2)
    settings = {"max_new": 9, "bos": BOS, "eos": EOS} | changes
    with pytest.raises(ValueError, match=text) as error:
        beam_search(model, source, mask, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes", [{"temperature": -1.0}, {"temperature": math.inf}, {"top_k": -1}, {"top_p": 0.0}]
)
def test_sampling_that_cannot_work_is_refused(changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Sampling(**changes)


@pytest.fixture(scope="module")
def saved():
    return untrained_model()


TEXTS = ["I read two books.", "Go!", "中文 and 𝄞 and Ж", "The girl reads a book of little girls."]


@pytest.mark.parametrize("options", [{}, {"sampling": Sampling(top_p=0.9)}], ids=str)
def test_a_list_is_translated_in_its_order(saved, options):
    many = TEXTS * 20  # more than one batch
    together = translate(saved.model, saved.tokenizer, many, seed=7, **options)
    for row, text in [*enumerate(many)][::7]:
        (single,) = translate(saved.model, saved.tokenizer, [text], seed=7 + row, **options)
        assert together[row] == single
    assert not any(mark in " ".join(together) for mark in ("<bos>", "<pad>", "<eos>"))


def test_a_list_is_searched_in_its_order(saved):
    many = [*TEXTS, *TEXTS[::-1]]
    found = translate_n_best(saved.model, saved.tokenizer, many, beams=3, n_best=2)
    assert found[:4] == found[:3:-1] and {len(hypotheses) for hypotheses in found} == {2}
    texts = [text_of(saved.tokenizer, hypotheses[0].tokens) for hypotheses in found]
    limited = translate(saved.model, saved.tokenizer, many, beams=3)
    assert len({hypotheses[0].score for hypotheses in found[:4]}) == 4  # else any order would do
    assert all(text.startswith(short) for text, short in zip(texts, limited, strict=True))


def test_an_empty_list_has_no_translations(saved):
    assert translate(saved.model, saved.tokenizer, [], beams=3) == []
    assert translate_n_best(saved.model, saved.tokenizer, []) == []


def test_characters_the_vocabulary_never_saw_survive(saved):
    text = "Ж 𝄞 漢"
    assert text_of(saved.tokenizer, encode_source(saved.model, saved.tokenizer, text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "the sentence is empty"), (" \t\n", "is empty"), ("word " * 99, "reads at most 64")],
)
def test_sentences_that_cannot_be_read_are_refused(saved, text, message):
    with pytest.raises(ValueError, match=message):
        translate(saved.model, saved.tokenizer, ["Go.", text])


def test_more_beams_than_tokens_are_refused_before_any_work(saved):
    with pytest.raises(ValueError, match="beams=9999 is not possible"):
        translate(saved.model, saved.tokenizer, ["Go."], beams=9999)
