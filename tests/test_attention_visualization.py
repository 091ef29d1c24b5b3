"""The pictures of a GPT: numbers checked by hand or against the model, and titles that are true."""

import json
import math
import re

import pytest
import torch
from matplotlib.text import Text

from gpt import attention_visualization as pictures
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.interpretation import (
    describe_heads,
    head_patterns,
    look_inside,
    settled_after,
)
from gpt.prediction_visualization import ROW_TOKENS
from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.checkpoints import save_checkpoint
from tutorial_kit.config import config_to_dict
from tutorial_kit.plotting import save_figure
from tutorial_kit.tokenizers import CharTokenizer, token_names
from tutorial_kit.training import MetricsLog

TEXT = "the cat sat on the mat, and the rat sat on the cat. $5 or $6\n中文"


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.from_text(TEXT)


def tiny(tokenizer, recipe="gpt2", **changes):
    torch.manual_seed(0)
    sizes = {"max_len": 96, "d_model": 16, "n_heads": 2, "n_kv_heads": 2, "n_layers": 3, "d_ff": 32}
    config = GPTConfig(tokenizer.vocab_size, **(sizes | RECIPES[recipe] | changes))
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


@pytest.fixture(params=["gpt2", "modern"])
def model(request, tokenizer):
    return tiny(tokenizer, request.param)


@pytest.fixture
def tokens(tokenizer):
    return tokenizer.encode(TEXT[:30])


def titles(figure):
    """Every text of a figure, line breaks folded."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    return [" ".join(text.split()) for text in texts if text.strip()]


def test_what_is_inside_agrees_with_the_model(model, tokens):
    inside = look_inside(model, tokens)
    with torch.no_grad():
        log_probabilities = model(torch.tensor([tokens])).log_softmax(dim=-1)[0]
    shares = log_probabilities.exp()
    assert inside.weights.shape == (3, 2, 30, 30)
    assert inside.weights.sum(dim=-1).allclose(torch.ones(3, 2, 30))
    assert inside.guesses[-1].equal(shares.argmax(dim=-1))
    assert inside.final_share[-1].allclose(shares.amax(dim=-1), atol=1e-6)
    assert inside.best_share.allclose(shares.topk(5).values, atol=1e-6)
    following = torch.tensor(tokens[1:])
    surprise = -log_probabilities[:-1].gather(1, following[:, None])[:, 0] / math.log(2)
    assert inside.surprise.allclose(surprise, atol=1e-4)
    entropy = -(shares * log_probabilities).sum(dim=-1)[:-1] / math.log(2)
    assert inside.expected_surprise.allclose(entropy, atol=1e-4)


def test_the_logit_lens_cuts_the_model_off(tokenizer, tokens):
    """After block 1, the lens must show what the same model with one block says."""
    whole, cut = tiny(tokenizer), tiny(tokenizer, n_layers=1)
    cut.load_state_dict({name: whole.state_dict()[name] for name in cut.state_dict()}, strict=True)
    inside = look_inside(whole, tokens)
    with torch.no_grad():
        shares = cut(torch.tensor([tokens])).softmax(dim=-1)[0]
    assert inside.guesses[1].equal(shares.argmax(dim=-1))
    expected = shares.gather(1, inside.guesses[-1][:, None])[:, 0]
    assert inside.final_share[1].allclose(expected, atol=1e-6)


def test_looking_inside_needs_evaluation_mode_and_restores_the_old_one(tokenizer, tokens):
    model = tiny(tokenizer, dropout=0.5).train()
    first, second = look_inside(model, tokens), look_inside(model, tokens)
    assert model.training
    assert first.weights.equal(second.weights)


@pytest.mark.parametrize(("length", "advice"), [(0, "longer"), (2, "longer"), (97, "shorter")])
def test_a_text_of_the_wrong_length_is_explained(model, length, advice):
    with pytest.raises(ValueError, match=f"has {length} tokens.*96 at once.*a {advice} text"):
        look_inside(model, [0] * length)


def test_head_patterns_by_hand():
    weights = torch.zeros(1, 4, 4, 4)
    weights[0, 0] = torch.eye(4)  # itself
    weights[0, 1] = torch.eye(4).roll(-1, dims=1)  # the previous token
    weights[0, 2, :, 0] = 1  # the first token
    weights[0, 3] = torch.tensor(
        [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]]
    )
    patterns = head_patterns(weights)[0]
    expected = [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0.3, 0.45, 0.15]]
    assert patterns.allclose(torch.tensor(expected))
    only = head_patterns(weights[:, 3:])
    assert describe_heads(only) == "Head 1 of layer 1 looks at itself (0.45 of its weight)"
    both = torch.stack([patterns[3:] * 0.1, patterns[1:2] * 0.83])
    assert (
        describe_heads(both) == "Head 1 of layer 2 looks at the previous token (0.83 of its weight)"
    )
    assert describe_heads(both * 0.1).startswith("No head gives 0.30 of its weight")


def test_settled_after_by_hand():
    """Columns: always right; right at the end only; right, wrong, right; from the middle on."""
    guesses = torch.tensor([[7, 1, 7, 1], [7, 2, 1, 7], [7, 7, 7, 7]])
    assert settled_after(guesses).tolist() == [0, 2, 2, 1]


def test_token_names_show_parts_of_characters_as_bytes():
    tokenizer = ByteBPE.train("the the", n_merges=2)
    names = token_names(tokenizer, tokenizer.encode("the 中"))
    assert names == ["the", " ", "<E4>", "<B8>", "<AD>"]


def test_the_attention_figure_shows_each_head(model, tokenizer, tokens):
    weights = look_inside(model, tokens).weights
    figure = pictures.attention_figure(model, tokenizer, tokens)
    images = [axis.images[0].get_array() for axis in figure.axes if axis.get_title()]
    assert len(images) == 6
    assert (images[4] == weights[2, 0].numpy()).all()
    assert describe_heads(head_patterns(weights)) in titles(figure)
    assert "layer 3, head 1" in titles(figure)


def test_the_head_figure_divides_all_attention(model, tokens):
    figure = pictures.head_figure(model, tokens)
    axis = figure.axes[0]
    widths = torch.tensor([[bar.get_width() for bar in bars] for bars in axis.containers])
    assert widths.sum(dim=0).allclose(torch.ones(6, dtype=widths.dtype))
    assert (
        widths[:3]
        .T.reshape(3, 2, 3)
        .float()
        .allclose(head_patterns(look_inside(model, tokens).weights), atol=1e-6)
    )


def test_the_logit_lens_figure_states_when_guesses_stand(model, tokenizer, tokens):
    inside = look_inside(model, tokens)
    figure = pictures.logit_lens_figure(model, tokenizer, tokens)
    shares = inside.final_share.mean(dim=1)
    settled = settled_after(inside.guesses).float().median()
    where = f"after block {settled:.0f} of 3" if settled >= 1 else "at the embedding"
    assert (
        f"Half of the final guesses stand {where}; their mean probability is "
        f"{shares[0]:.2f} at the embedding and {shares[-1]:.2f} at the end"
    ) in titles(figure)
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (4, 20)  # of 30 tokens, the last
    assert (shown == inside.final_share[:, -20:].numpy()).all()


@pytest.mark.parametrize("length", [3, ROW_TOKENS + 1, ROW_TOKENS + 2, 90])
def test_the_surprise_figure_shows_every_token_once(model, tokenizer, length):
    tokens = (tokenizer.encode(TEXT) * 2)[:length]
    inside = look_inside(model, tokens)
    figure = pictures.surprise_figure(model, tokenizer, tokens)
    heights = [bar.get_height() for axis in figure.axes for bar in axis.patches]
    assert heights == pytest.approx(inside.surprise.tolist())
    title = next(text for text in titles(figure) if "bits of surprise a token" in text)
    assert title.startswith(f"{inside.surprise.mean():.1f} bits of surprise a token")
    assert f"({inside.surprise.max():.1f} bits)" in title


def write_metrics(path, losses):
    log = MetricsLog(path)
    for i, loss in enumerate(losses, start=1):
        log.write(
            100 * i, train_loss=loss + 0.2, validation_loss=loss, bits_per_byte=loss / 2,
            tokens=1000 * i, seconds=10.0 * i,
        )  # fmt: skip
    return path


def test_the_training_curve_states_its_finding(tmp_path):
    falls = pictures.training_curve_figure(write_metrics(tmp_path / "a.jsonl", [4.0, 3.0, 2.5]))
    finding = "Validation loss falls from 4.00 to 2.50 nats per token (1.250 bits per byte)"
    assert f"{finding} in 300 steps, 30 s" in titles(falls)
    line = falls.axes[0].lines[1]
    assert list(line.get_xdata()) == [100, 200, 300] and list(line.get_ydata()) == [4.0, 3.0, 2.5]
    rises = pictures.training_curve_figure(write_metrics(tmp_path / "b.jsonl", [4.0, 2.5, 3.1]))
    assert any("then it rises to 3.10: the model learns by heart" in text for text in titles(rises))
    figure = pictures.training_curve_figure(write_metrics(tmp_path / "c.jsonl", [4.0]))
    figure.draw_without_rendering()
    right = figure.axes[0].child_axes[0].get_ylim()
    assert right == pytest.approx([y / 2 for y in figure.axes[0].get_ylim()])


def test_a_run_without_evaluation_has_no_curve(tmp_path):
    with pytest.raises(ValueError, match="holds no evaluation yet"):
        pictures.training_curve_figure(write_metrics(tmp_path / "empty.jsonl", []))
    with pytest.raises(FileNotFoundError):
        pictures.training_curve_figure(tmp_path / "missing.jsonl")


def test_the_page_holds_the_weights_and_the_predictions(model, tokenizer, tokens, tmp_path):
    inside = look_inside(model, tokens)
    page = pictures.write_page(model, tokenizer, tokens, tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    (entry,) = data["maps"]
    assert entry["rows"] == list(TEXT[:30]) and entry["truth"] == [*TEXT[1:30], ""]
    assert entry["causal"] and (entry["layers"], entry["heads"]) == (3, 2)
    token, share = entry["predictions"][4][0]
    assert token == tokenizer.decode([int(inside.best[4, 0])])
    assert share == pytest.approx(inside.best_share[4, 0].item(), abs=1e-4)


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run's folder as the trainer leaves it."""
    model = tiny(tokenizer)
    state = {"model": model.state_dict(), "tokenizer": tokenizer.to_dict()}
    config = {"model": config_to_dict(model.config)}
    save_checkpoint(tmp_path / "run/checkpoints/last.pt", family="gpt", config=config, state=state)
    write_metrics(tmp_path / "run/metrics.jsonl", [3.0, 2.0])
    return tmp_path / "run"


PNG = ["attention", "heads", "logit_lens", "structure", "surprise", "training_curve"]


@pytest.mark.parametrize("place", ["", "checkpoints/last.pt"])
def test_the_command_draws_everything_into_the_run(run, capsys, place):
    files = pictures.main(["--checkpoint", str(run / place), "--text", TEXT])
    expected = sorted([*(f"{name}.png" for name in PNG), "attention.html"])
    assert sorted(path.name for path in (run / "figures").iterdir()) == expected
    assert sorted(path.name for path in files) == expected
    assert capsys.readouterr().out.split() == [str(path) for path in files]


@pytest.fixture
def drawn(monkeypatch):
    """What would be drawn, without the drawing: (tokens, folder)."""
    calls = []

    def draw_all(model, tokenizer, tokens, figures):
        calls.append((tokens, figures))
        return []

    monkeypatch.setattr(pictures, "draw_all", draw_all)
    return calls


def test_the_command_takes_the_name_of_a_run(run, monkeypatch, drawn):
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(run.parent))
    (run.parent / "gpt").mkdir()
    run.rename(run.parent / "gpt" / "mine")
    pictures.main(["--checkpoint", "mine", "--text", "the cat"])
    assert drawn[0][1] == run.parent / "gpt" / "mine" / "figures"


def test_a_long_text_is_cut_and_this_is_said(run, capsys, drawn, tokenizer):
    pictures.main(["--checkpoint", str(run), "--text", TEXT * 3])
    said = capsys.readouterr().out
    assert said.startswith(f"only the first 96 of {3 * len(TEXT)} tokens fit; they are shown\n")
    assert drawn[0][0] == tokenizer.encode(TEXT * 3)[:96]


@pytest.mark.parametrize(("n_layers", "n_heads"), [(1, 1), (2, 8)])
def test_any_number_of_heads_can_be_drawn(tokenizer, tokens, tmp_path, n_layers, n_heads):
    model = tiny(tokenizer, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_heads)
    for figure in (
        pictures.attention_figure(model, tokenizer, tokens),
        pictures.head_figure(model, tokens),
    ):
        save_figure(figure, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--checkpoint is missing: there is no model to look into"),
        (["--checkpoint", "/nowhere/run"], "does not exist"),
        (["--checkpoint", "RUN", "--text", "at"], "the text has 2 tokens"),
        (["--checkpoint", "RUN", "--text", "the Q"], "'Q'"),
    ],
)
def test_bad_input_is_said(run, arguments, text):
    arguments = [str(run) if argument == "RUN" else argument for argument in arguments]
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        pictures.main(arguments)
    assert not (run / "figures").exists()
