"""The pictures of a Transformer and its translating command: numbers by hand, titles that hold."""

import io
import json
import re
import sys

import pytest
import torch
from matplotlib.text import Text

from transformer import alignment as inner
from transformer import attention_visualization as pictures
from transformer import text_generation_example as command
from transformer.alignment import Alignment, align, head_patterns, look_inside, words
from transformer.decoding import encode_source, text_of, translate_n_best
from transformer.position_pictures import distance_products, positions_figure
from transformer.saved_model import EXAMPLES, load_model, untrained_model
from transformer.transformer_config import TransformerConfig
from transformer.transformer_model import Transformer
from tutorial_kit import plotting
from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.checkpoints import save_checkpoint
from tutorial_kit.config import config_to_dict
from tutorial_kit.plotting import save_figure
from tutorial_kit.saved_runs import figures_of
from tutorial_kit.tokenizers import token_names

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


@pytest.fixture(scope="module")
def saved():
    return untrained_model()


@pytest.fixture(scope="module")
def inside(saved):
    return pictures.look_at(saved.model, saved.tokenizer, EXAMPLES["en"], "小女孩在看书。")


def titles(figure):
    """Every text of a figure, line breaks folded."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    return [" ".join(text.split()) for text in texts if text.strip()]


# What is read off the model


def test_what_is_inside_agrees_with_the_model(saved, inside):
    tokenizer = saved.tokenizer
    eos, bos = tokenizer.special_tokens["<eos>"], tokenizer.special_tokens["<bos>"]
    written = tokenizer.encode("小女孩在看书。")
    assert inside.source == [*tokenizer.encode(EXAMPLES["en"]), eos]
    assert inside.target == [bos, *written] and inside.labels == [*written, eos]
    with torch.no_grad():
        logits = saved.model(torch.tensor([inside.source]), torch.tensor([inside.target]))
    assert inside.best_share.allclose(logits[0].softmax(dim=-1).topk(5).values, atol=1e-6)
    (s, t), (layers, heads) = (len(inside.source), len(inside.target)), (2, 4)
    assert inside.encoder.shape == (layers, heads, s, s)
    assert inside.decoder.shape == (layers, heads, t, t)
    assert inside.cross.shape == (layers, heads, t, s)
    for weights in (inside.encoder, inside.decoder, inside.cross):
        assert weights.sum(dim=-1).allclose(torch.ones(weights.shape[:-1]), atol=1e-5)
    assert not inside.decoder.triu(1).any()


def test_the_patterns_of_heads_by_hand():
    eye = torch.eye(6)
    before, after = torch.eye(6).roll(1, 0), torch.eye(6).roll(-1, 0)
    last = torch.zeros(6, 6)
    last[:, -1] = 1
    heads = torch.stack([before, after, eye, last, 0.75 * eye + 0.25 * last])[None]
    expected = [*torch.eye(4).tolist(), [0, 0, 0.75, 0.25]]
    assert head_patterns(heads, causal=False)[0].tolist() == expected
    first = torch.zeros(6, 6)
    first[:, 0] = 1
    heads = torch.stack([before, eye, first])[None]
    assert head_patterns(heads, causal=True)[0].equal(torch.eye(3))


def test_the_clearest_head_is_named():
    even = torch.full((6, 6), 1 / 6)
    after = 0.8 * torch.eye(6).roll(-1, 0) + 0.2 * even
    weights = torch.stack([torch.stack([even, even]), torch.stack([even, after])])
    text = inner.describe_heads(weights, causal=False)
    assert text == "Encoder: head 2 of layer 2 looks at the token after (0.83 of its weight)"
    assert "no head gives 0.30" in inner.describe_heads(weights[:1], causal=False)
    assert "3 tokens are too few" in inner.describe_heads(weights[..., :3, :3], causal=False)
    assert "2 tokens are too few" in inner.describe_heads(weights[..., :2, :2], causal=True)
    assert "head 2 of layer 2 points most sharply" in inner.describe_cross(weights)
    assert "0.83 on average (an even spread: 0.17)" in inner.describe_cross(weights)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tom's dog runs.", ["Tom's", " dog", " runs", ".", "<eos>"]),
        ("我看书。", ["我", "看", "书", "。", "<eos>"]),  # loose bytes: three tokens each
        ("für Ärzte, ja", ["für", " Ärzte", ",", " ja", "<eos>"]),
        ("a 书 b", ["a", " 书", " b", "<eos>"]),
        ("a<b", ["a<b", "<eos>"]),
    ],
)
def test_tokens_become_words(text, expected):
    tokenizer = ByteBPE.train("aa aa aa", n_merges=1, special_tokens=SPECIAL)  # nearly only bytes
    tokens = [*tokenizer.encode(text), tokenizer.special_tokens["<eos>"]]
    found = words(tokenizer, tokens)
    assert [word for word, _ in found] == expected
    assert [place for _, places in found for place in places] == list(range(len(tokens)))


def test_tokens_that_are_words_of_characters_stay_words():
    tokenizer = ByteBPE.train(["昨天我", "昨天你", "昨天他"], n_merges=9, special_tokens=SPECIAL)
    found = words(tokenizer, tokenizer.encode("昨天我"))
    assert [word for word, _ in found] == ["昨天", "我"]


def test_words_get_the_sum_of_what_is_looked_at_and_the_mean_of_those_that_look(saved, inside):
    table = align(inside, saved.tokenizer)
    columns, rows = (words(saved.tokenizer, ids) for ids in (inside.source, inside.labels))
    tokens = inside.cross.mean(dim=(0, 1))
    for row, (_, lookers) in enumerate(rows):
        for column, (_, seen) in enumerate(columns):
            by_hand = sum(float(tokens[i, j]) for i in lookers for j in seen) / len(lookers)
            assert float(table.weights[row, column]) == pytest.approx(by_hand, abs=1e-6)
    assert table.weights.sum(dim=1).allclose(torch.ones(len(rows)), atol=1e-5)
    assert table.source[-1] == table.target[-1] == "<eos>"


def test_an_alignment_says_how_the_order_changes():
    weights = torch.tensor([[0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1], [0.1, 0.5, 0.2, 0.2],
                            [0.0, 0.0, 0.0, 1.0]])  # fmt: skip
    table = Alignment(["I", " read", " yesterday", "<eos>"], ["昨天", "我", "看", "<eos>"], weights)
    assert table.describe() == (
        "Attention jumps back in the source once in 2 steps; the clearest link is 我 to I (0.70)"
    )
    straight = Alignment(table.source, table.target, torch.eye(4))
    assert straight.describe().startswith("Attention never jumps back in the source; the clearest")
    nothing = Alignment(table.source, ["<eos>"], weights[-1:])
    assert nothing.describe() == "There are no words to align"


# Figures


def test_the_alignment_figure_shows_its_table(saved, inside):
    figure = pictures.alignment_figure(inside, saved.tokenizer)
    table = align(inside, saved.tokenizer)
    axis = figure.axes[0]
    assert torch.from_numpy(axis.images[0].get_array().data).equal(table.weights)
    assert len(axis.get_xticks()) == len(table.source)
    assert plotting.drawable(table.describe()) in titles(figure)


@pytest.mark.parametrize("font", [None, "whatever is installed"])
def test_chinese_characters_are_never_boxes(saved, inside, monkeypatch, tmp_path, font, recwarn):
    if font is None:
        monkeypatch.setattr(plotting, "chinese_font", lambda: None)
        monkeypatch.setattr(pictures, "chinese_font", lambda: None)
        plotting._can_draw.cache_clear()
    try:
        figure = pictures.alignment_figure(inside, saved.tokenizer)
        save_figure(figure, tmp_path / "figure.png")
        assert not [w for w in recwarn if "Glyph" in str(w.message)]
        hint = pictures.font_hint([EXAMPLES["zh"]])
        if font is None:
            assert "U+5973" in titles(figure) and "Noto Sans CJK" in hint
        assert pictures.font_hint(["plain English"]) is None
    finally:
        plotting._can_draw.cache_clear()


def test_all_heads_are_drawn_with_their_finding(saved, inside):
    figures = pictures.head_figures(inside, saved.tokenizer)
    assert list(figures) == ["encoder", "decoder", "cross"]
    for name, figure in figures.items():
        images = [axis.images[0] for axis in figure.axes[:8]]
        weights = getattr(inside, name)
        for place, image in enumerate(images):
            layer, head = divmod(place, 4)
            assert (image.get_array() == weights[layer, head].numpy()).all()
        assert "layer 2, head 4" in titles(figure)
    assert inner.describe_cross(inside.cross) in titles(figures["cross"])
    assert any(text.startswith("Encoder: ") for text in titles(figures["encoder"]))
    assert any(text.startswith("Decoder, causal: ") for text in titles(figures["decoder"]))


def model_with(positions):
    torch.manual_seed(0)
    return Transformer(TransformerConfig(9, max_len=40, d_model=16, positions=positions))


def test_sinusoids_depend_on_the_distance_alone():
    table = model_with("sinusoidal").positions(0, 40).double()
    mean, least, greatest = distance_products(table)
    frequencies = 10_000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    by_hand = torch.stack([(frequencies * k).cos().sum() for k in range(21)])
    assert mean.allclose(by_hand, atol=1e-5)
    assert float((greatest - least).max()) < 1e-5


@pytest.mark.parametrize(
    ("positions", "finding"),
    [
        ("sinusoidal", "The distance alone decides how alike two positions are; "),
        ("learned", "At equal distance the products differ by up to"),
        ("none", "Without positions there is nothing to compare"),
    ],
)
def test_the_picture_of_positions_states_its_finding(positions, finding, tmp_path):
    figure = positions_figure(model_with(positions))
    assert any(text.startswith(finding) for text in titles(figure))
    assert figure.axes[0].images[0].get_array().shape == (40, 16)
    save_figure(figure, tmp_path / "figure.png")


def test_the_page_holds_three_kinds_of_attention(saved, inside, tmp_path):
    page = pictures.write_inside_page(inside, saved.tokenizer, tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["title"] == f"{EXAMPLES['en']} → 小女孩在看书。"
    cross, encoder, decoder = data["maps"]
    assert (cross["causal"], encoder["causal"], decoder["causal"]) == (False, False, True)
    assert len(cross["rows"]) == len(inside.target) and len(cross["columns"]) == len(inside.source)
    assert encoder["rows"] == cross["columns"] and decoder["rows"] == cross["rows"]
    assert cross["rows"][0] == "<bos>" and cross["truth"][-1] == "<eos>"
    token, share = cross["predictions"][1][0]
    assert token == token_names(saved.tokenizer, [int(inside.best[1, 0])])[0]
    assert share == pytest.approx(inside.best_share[1, 0].item(), abs=1e-4)


@pytest.mark.parametrize(("n_layers", "n_heads", "text"), [(1, 1, "I"), (2, 8, "I " * 25)])
def test_any_shape_and_length_can_be_drawn(saved, tmp_path, n_layers, n_heads, text):
    config = TransformerConfig(saved.tokenizer.vocab_size, max_len=64, d_model=16, d_ff=16,
                               n_heads=n_heads, n_layers=n_layers, n_decoder_layers=1)  # fmt: skip
    model = Transformer(config).eval()
    for written in ("", "I I"):
        inside = pictures.look_at(model, saved.tokenizer, text, written)
        drawn = pictures.head_figures(inside, saved.tokenizer)
        drawn["alignment"] = pictures.alignment_figure(inside, saved.tokenizer)
        for name, figure in drawn.items():
            save_figure(figure, tmp_path / f"{name}.png")


# The two commands


@pytest.fixture
def run(tmp_path, saved):
    """A run's folder as the trainer leaves it."""
    state = {"model": saved.model.state_dict(), "tokenizer": saved.tokenizer.to_dict(),
             "languages": ["en", "zh"]}  # fmt: skip
    config = {"model": config_to_dict(saved.model.config)}
    path = tmp_path / "run/checkpoints/last.pt"
    save_checkpoint(path, family="transformer", config=config, state=state)
    return tmp_path / "run"


NAMES = ["attention.html", "cross_attention.png", "heads_cross.png", "heads_decoder.png",
         "heads_encoder.png", "positions.png", "structure.png"]  # fmt: skip


@pytest.mark.parametrize("place", ["", "checkpoints/last.pt"])
def test_the_command_draws_everything_into_the_run(run, capsys, place):
    files = pictures.main(["--checkpoint", str(run / place), "--text", "Two books."])
    assert sorted(path.name for path in (run / "figures").iterdir()) == NAMES
    assert sorted(path.name for path in files) == NAMES
    assert capsys.readouterr().out.splitlines()[: len(files)] == [str(path) for path in files]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--checkpoint is missing: there is no model to look into"),
        (["--checkpoint", "/nowhere/run"], "does not exist"),
        (["--checkpoint", "RUN", "--text", " "], "the sentence is empty"),
        (["--checkpoint", "RUN", "--text", "book " * 99], "the model reads at most 64"),
    ],
)
def test_bad_input_is_said(run, arguments, text):
    arguments = [str(run) if argument == "RUN" else argument for argument in arguments]
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        pictures.main(arguments)
    assert not (run / "figures").exists()


def pipe(monkeypatch, content):
    """Puts bytes on the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def test_a_file_is_translated_line_by_line(saved, monkeypatch, capsys):
    good = ["I read two books.", "Go!", "A little girl is reading."]
    lines = [good[0], "", good[1], "long " * 99, "Жук", b"caf\xe9", good[2]]
    raw = b"\xef\xbb\xbf" + b"\r\n".join(
        line if isinstance(line, bytes) else line.encode() for line in lines
    )
    pipe(monkeypatch, raw)
    command.main(["--preset", "smoke"])
    shown = capsys.readouterr()
    sources = [*good[:2], "Жук", good[2]]
    found = translate_n_best(saved.model, saved.tokenizer, sources, beams=2)
    first, second, third, fourth = (text_of(saved.tokenizer, h[0].tokens) for h in found)
    assert shown.out.split("\n") == [first, "", second, "", third, "", fourth, ""]
    said = shown.err.splitlines()
    assert [line.split(":")[0] for line in said] == ["line 2", "line 4", "line 5", "line 6"]
    for line, text in zip(said, ["is empty", "reads at most 64", "Ж у к", "0xE9"], strict=True):
        assert text in line


def test_the_best_translations_are_shown_with_their_scores(saved, capsys):
    command.main(["--preset", "smoke", "--beams", "3", "--n-best", "3", "--text", "Go!", "No!"])
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 6
    found = translate_n_best(saved.model, saved.tokenizer, ["Go!", "No!"], beams=3, n_best=3)
    for row, hypothesis in zip(rows, found[0] + found[1], strict=True):
        assert float(row.split()[0]) == pytest.approx(hypothesis.normalized, abs=6e-4)
        assert text_of(saved.tokenizer, hypothesis.tokens) in row
        assert ("[cut: it had no end]" in row) != hypothesis.finished


def test_a_picture_of_each_sentence_is_saved_beside_the_run(run, capsys):
    command.main(["--checkpoint", str(run), "--text", "Go!", "", "No!", "--picture"])
    names = sorted(path.name for path in (run / "figures").iterdir())
    assert names == ["alignment_1.png", "alignment_3.png"]
    assert str(run / "figures" / names[0]) in capsys.readouterr().err


def test_sentences_are_typed_one_by_one(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    typed = iter(["Go!", "", "No!"])

    def read(prompt):
        line = next(typed, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", read)
    command.main(["--preset", "smoke"])
    shown = capsys.readouterr()
    assert shown.out.startswith("Type English sentences") and len(shown.out.splitlines()) == 5
    assert shown.err == (
        "line 2: the sentence is empty: there is nothing to translate. Type some words.\n"
    )


def test_drawn_translations_repeat_and_differ_by_seed(capsys):
    texts = []
    for seed in ("1", "1", "2"):
        options = ["--preset", "smoke", "--beams", "1", "--temperature", "1", "--seed", seed]
        command.main([*options, "--text", "Go!"])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--checkpoint is missing: there is no model to translate with"),
        (["--checkpoint", "/nowhere/run"], "does not exist"),
        (["--preset", "smoke", "--beams", "9999"], "beams=9999 is not possible"),
        (["--preset", "smoke", "--n-best", "5"], "n_best=5 translations cannot come from beams=2"),
        (["--preset", "smoke", "--temperature", "0.5"], "it is one or the other"),
    ],
)
def test_settings_that_cannot_work_are_said(monkeypatch, arguments, text):
    pipe(monkeypatch, b"")
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        command.main([*arguments])


def test_a_checkpoint_of_another_vocabulary_is_refused(run, tmp_path, saved):
    path = run / "checkpoints/last.pt"
    content = torch.load(path, weights_only=True)
    other = ByteBPE.train("aa aa aa", n_merges=1, special_tokens=SPECIAL)
    content["state"]["tokenizer"] = other.to_dict()
    torch.save(content, path)
    with pytest.raises(ValueError, match="holds a vocabulary of 261 tokens and weights for"):
        load_model(run)
    content["state"]["tokenizer"] = saved.tokenizer.to_dict()
    content["config"]["model"]["d_ff"] = 32
    torch.save(content, path)
    with pytest.raises(ValueError, match="weights that do not fit its own settings"):
        load_model(run)


def test_a_run_can_be_named(run, monkeypatch, tmp_path, saved):
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    (tmp_path / "transformer").mkdir()
    run.rename(tmp_path / "transformer" / "mine")
    loaded = load_model("mine")
    assert (loaded.source_language, loaded.target_language) == ("en", "zh")
    assert loaded.tokenizer == saved.tokenizer
    source = encode_source(loaded.model, loaded.tokenizer, "Go!")
    pair = [look_inside(m.model, m.tokenizer, source, [5]) for m in (saved, loaded)]
    assert pair[0].cross.equal(pair[1].cross)
    assert figures_of("transformer", "mine") == tmp_path / "transformer" / "mine" / "figures"
