"""BERT's pictures: numbers by hand, titles that hold, files that are written."""

import json
import re

import pytest
import torch
from matplotlib.text import Text

from bert import attention_visualization as pictures
from bert import embedding_visualization as maps
from bert.attention_insides import look_inside, mask_each
from bert.bert_heads import BertForSequenceClassification
from bert.bert_inference import main as use
from bert.finetuning_config import PRESETS
from bert.head_figures import head_statistics_figure
from bert.head_statistics import (
    PATTERNS,
    HeadStatistics,
    head_statistics,
    patterns_of,
    statistics_of_text,
    words_of,
)
from bert.pretrained import save_pretrained
from bert.saved_classifier import save_finetuned
from bert.sentence_map import embedding_map_figure, map_points, neighbor_agreement
from bert.smoke_model import SENTENCES, untrained_model
from bert.training_figures import (
    CurvePoint,
    few_label_figure,
    few_label_finding,
    training_curve_figure,
)
from bert.wordpiece import WordPiece
from tutorial_kit.console import run_entry

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "the", "game", "."]


@pytest.fixture(scope="module")
def saved():
    return untrained_model()


@pytest.fixture(scope="module")
def tiny():
    return WordPiece(WORDS)


def titles(figure):
    """Every text of a figure, line breaks folded."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    return [" ".join(text.split()) for text in texts if text.strip()]


def pairs_of(wordpiece, texts=SENTENCES):
    return [
        wordpiece.pair(wordpiece.encode(a), wordpiece.encode(b))[0]
        for a, b in zip(texts, texts[1:], strict=False)
    ]


# What heads look at


def test_every_pattern_by_hand(tiny):
    text = "playing the . playing . the game"
    tokens = torch.tensor([tiny.pair(tiny.encode(text))[0] + [tiny.pad_id] * 2])
    # [CLS] play ##ing the . play ##ing . the game [SEP]
    real = tokens != tiny.pad_id
    seen = patterns_of(tokens, real, tiny)[:, 0]
    previous, following, itself, cls, sep, same = (one.nonzero().tolist() for one in seen)
    assert previous == [[i, i - 1] for i in range(2, 10)]  # [CLS] before the first counts as [CLS]
    assert following == [[i, i + 1] for i in range(1, 9)]
    assert itself == [[i, i] for i in range(1, 10)]
    assert cls == [[i, 0] for i in range(1, 10)] and sep == [[i, 10] for i in range(1, 10)]
    assert same == sorted(
        [[1, 5], [1, 6], [2, 5], [2, 6], [5, 1], [5, 2], [6, 1], [6, 2], [3, 8], [8, 3]]
    )  # a mark is no word
    assert seen.sum(dim=0).max() == 1


def test_words_are_numbered_by_place_and_spelling(tiny):
    tokens = torch.tensor([[2, 5, 6, 5, 3, 5, 6, 9, 3]])
    ordinary = ~torch.isin(tokens, torch.tensor([2, 3]))
    word, kind = words_of(tokens, ordinary, tiny)
    assert word.tolist() == [[-1, 0, 0, 1, -1, 2, 2, 3, -1]]
    assert kind.tolist() == [[-1, 0, 0, 1, -1, 0, 0, -1, -1]]


def test_a_head_that_always_looks_back_has_that_share(tiny):
    tokens = torch.tensor(tiny.pair(tiny.encode("play the game ."))[0])  # 6 tokens, 4 ordinary
    back = torch.eye(6).roll(-1, 1)
    even = torch.full((6, 6), 1 / 6)
    found = statistics_of_text(torch.stack([back, even])[None], tokens, tiny)
    assert found.shares[0, 0].tolist() == pytest.approx([0.75, 0, 0, 0.25, 0, 0])
    assert found.shares[0, 1].tolist() == pytest.approx(found.even.tolist())
    expected = [3 / 24, 3 / 24, 4 / 24, 4 / 24, 4 / 24, 0]
    assert found.even.tolist() == pytest.approx(expected) and found.n_tokens == 4
    assert found.clearest() == (0, 0, 0)
    assert found.describe().startswith(
        "Head 1 of layer 1 gives 0.75 of its attention to the previous token (even: 0.12)"
    )
    nothing = statistics_of_text(even[None, None], tokens, tiny)
    assert nothing.describe().startswith("No head has a clear habit among ordinary tokens")


def test_padding_and_minibatches_change_no_statistics(saved):
    model, wordpiece = saved
    sequences = pairs_of(wordpiece) + [wordpiece.pair(wordpiece.encode("array"))[0]]
    one_by_one = head_statistics(model, wordpiece, sequences, budget=1)
    together = head_statistics(model, wordpiece, sequences, budget=10_000)
    assert together.shares.allclose(one_by_one.shares, atol=1e-6)
    assert together.even.allclose(one_by_one.even) and together.n_texts == len(sequences)
    assert together.n_tokens == one_by_one.n_tokens
    with pytest.raises(ValueError, match="no token beside"):
        head_statistics(model, wordpiece, [wordpiece.pair([])[0]])


@pytest.mark.parametrize(("n_layers", "n_heads"), [(2, 4), (12, 12)])
def test_the_head_panels_show_their_numbers(n_layers, n_heads):
    shares = torch.rand(n_layers, n_heads, len(PATTERNS)) / 10
    shares[1, 2, 1] = 0.8
    statistics = HeadStatistics(shares, torch.full((6,), 0.02), 7, 1234)
    figure = head_statistics_figure(statistics)
    for pattern, axis in enumerate(figure.axes[:6]):
        assert (axis.images[0].get_array() == shares[:, :, pattern].numpy()).all()
    texts = titles(figure)
    assert statistics.describe() in texts and "[SEP] (even: 0.02)" in texts
    assert (
        "Head 3 of layer 2 gives 0.80 of its attention to the next token" in statistics.describe()
    )
    assert ("0.80" in texts) == (n_layers == 2)  # no room for numbers among 144 heads


# One text


def test_the_insides_of_a_text_agree_with_the_model(saved):
    model, wordpiece = saved
    inside = look_inside(model, wordpiece, "The [MASK] of the array.", "It is square.", top_k=3)
    row, segments = inside.tokens[None], inside.segments[None]
    with torch.no_grad():
        named = model.bert.intermediates(row, None, segments)
        place = 1  # "the", masked alone
        hidden = row.clone()
        hidden[0, place] = wordpiece.mask_id
        logits = model.masked_head(model.bert(hidden, None, segments)[0][0, place])
    assert inside.weights[1].equal(named["attention.1"][0])
    assert inside.names[0] == "[CLS]" and "[MASK]" in inside.names
    assert inside.names.count("[SEP]") == 2 and set(inside.segments.tolist()) == {0, 1}
    best = logits.softmax(-1).topk(3)
    assert [one.token for one in inside.expected[1]] == wordpiece.tokens(best.indices)
    assert [one.probability for one in inside.expected[1]] == pytest.approx(best.values.tolist())
    for name, guesses in zip(inside.names, inside.expected, strict=True):
        assert len(guesses) == (0 if name in ("[CLS]", "[SEP]") else 3)


def test_each_copy_hides_one_token():
    copies, places = mask_each(torch.tensor([2, 7, 8, 3, 9, 3]), 4, torch.tensor([2, 3]))
    assert places.tolist() == [1, 2, 4]
    assert copies.tolist() == [[2, 4, 8, 3, 9, 3], [2, 7, 4, 3, 9, 3], [2, 7, 8, 3, 4, 3]]


def test_texts_that_cannot_be_looked_at(saved):
    with pytest.raises(ValueError, match="the text is empty: there is nothing to look at"):
        look_inside(*saved, " ")
    with pytest.raises(ValueError, match="has 102 tokens and a picture holds 64"):
        look_inside(*saved, "array " * 100)


def test_all_heads_of_a_text_are_drawn(saved):
    inside = look_inside(*saved, SENTENCES[0])
    figure = pictures.attention_figure(inside, saved[1])
    for place, axis in enumerate(figure.axes[:8]):
        layer, head = divmod(place, 4)
        assert (axis.images[0].get_array() == inside.weights[layer, head].numpy()).all()
    assert pictures.describe_text(inside, saved[1]) in titles(figure)


def test_the_page_holds_the_guesses_for_hidden_tokens(saved, tmp_path):
    inside = look_inside(*saved, "Returns the <b>array</b>.")
    path = pictures.write_page(inside, saved[1], tmp_path / "attention.html")
    text = path.read_text(encoding="utf-8")
    data = json.loads(re.search(r"<script[^>]*json[^>]*>(.*?)</script>", text, re.DOTALL)[1])
    (entry,) = data["maps"]
    assert [name.strip() for name in entry["rows"]] == inside.names and not entry["causal"]
    assert entry["predictions"][0] == [] and len(entry["predictions"][1]) == 5
    assert entry["truth"][0] == "" and entry["truth"][1] == entry["rows"][1]
    assert all((name[0] == " ") != name.startswith("##") for name in entry["rows"])
    assert "if its token is masked" in entry["predictions_title"]


def test_the_command_draws_every_picture_of_a_run(saved, tmp_path, monkeypatch, capsys):
    names = {"attention.png", "heads.png", "structure.png", "attention.html"}
    folder = save_pretrained(tmp_path / "hub", *saved)
    rows = [curve_row(step) for step in (1, 2)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.setattr(pictures, "held_out_pairs", lambda wordpiece, n: pairs_of(wordpiece))
    files = pictures.main(["--checkpoint", str(folder), "--text", "An array."])
    assert {path.name for path in files} == names | {"training_curve.png"}
    assert all(path.parent == folder / "figures" and path.stat().st_size for path in files)
    with pytest.raises(SystemExit) as left:
        run_entry(lambda: pictures.main([]))
    assert left.value.code == 2 and "there is no model to look into" in capsys.readouterr().err


@pytest.mark.slow
def test_held_out_pairs_are_neighbors_of_the_test_split(saved):
    pairs = pictures.held_out_pairs(saved[1], 64, count=20)
    assert len(pairs) == 20 and all(len(pair) <= 64 for pair in pairs)
    assert all(pair.count(saved[1].sep_id) == 2 for pair in pairs)


# Curves


def curve_row(step, **changes):
    return {
        "step": step, "seconds": 10.0 * step, "train_mlm_loss": 7.0 - step,
        "validation_mlm_loss": 7.5 - step, "validation_mlm_accuracy": 0.1 * step,
        "validation_nsp_accuracy": 0.5 + 0.1 * step, "unigram_entropy": 6.0,
    } | changes  # fmt: skip


def test_the_training_curve_measures_against_the_unigram_entropy(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(curve_row(s)) + "\n" for s in (1, 2)), encoding="utf-8")
    left, right = (figure := training_curve_figure(path)).axes
    assert left.lines[1].get_ydata().tolist() == [6.5, 5.5]
    assert right.lines[1].get_ydata().tolist() == pytest.approx([60, 70])
    text = titles(figure)
    assert (
        "Held-out MLM loss reaches 5.50 nats in 2 steps, 20 s: 0.50 below the unigram entropy; "
        "20 % of masked tokens and 70 % of next sentences are right"
    ) in text
    assert "unigram entropy 6.00" in text
    bare = {"step": 1, "train_mlm_loss": 8.0, "validation_mlm_loss": 7.0, "unigram_entropy": 6.0}
    path.write_text(json.dumps(bare), encoding="utf-8")
    assert (
        "Held-out MLM loss reaches 7.00 nats in 1 steps: 1.00 above the unigram entropy, so the "
        "model does not yet use the text around a mask"
    ) in titles(training_curve_figure(path))
    path.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="no evaluation yet"):
        training_curve_figure(path)


POINTS = [
    CurvePoint("from scratch", 50, (0.30, 0.32, 0.34)),
    CurvePoint("pre-trained", 1000, (0.66, 0.65, 0.64)),
    CurvePoint("pre-trained", 50, (0.50, 0.52, 0.54)),
    CurvePoint("TF-IDF", 50, (0.40, 0.42, 0.44)),
    CurvePoint("TF-IDF", 1000, (0.67, 0.67, 0.67)),
]


def test_the_few_label_curve_says_where_it_leads_and_where_not():
    figure = few_label_figure(POINTS, "paragraphs of 7 libraries", chance=1 / 7)
    finding = (
        "With 50 labels pre-trained BERT reaches 52.0 %, 20.0 above from scratch and 10.0 above "
        "TF-IDF; with 1,000 labels TF-IDF leads by 2.0"
    )
    assert few_label_finding(POINTS) == finding
    assert finding in [text.replace("- ", "-") for text in titles(figure)]  # where a line breaks
    (axis,) = figure.axes
    line = next(line for line in axis.lines if line.get_label() == "pre-trained")
    assert line.get_xdata().tolist() == [50, 1000]
    assert line.get_ydata().tolist() == pytest.approx([52, 65])
    band = axis.collections[1].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(66) and band.min() == pytest.approx(50)
    assert {"50", "1,000", "guessing"} <= set(titles(figure))
    with pytest.raises(ValueError, match="0 points"):
        few_label_figure([], "x")


def test_a_pre_trained_model_that_loses_is_not_praised():
    worse = [CurvePoint("pre-trained", 50, (0.2,)), CurvePoint("from scratch", 50, (0.3,))]
    assert few_label_finding(worse).endswith("reaches 20.0 %, 10.0 below from scratch")
    other = [CurvePoint("cls", 50, (0.2,)), CurvePoint("mean", 50, (0.3,))]
    assert few_label_finding(other) == "With 50 labels mean BERT reaches 30.0 %, 10.0 above cls"


# The map of sentences


def clusters(spread, n_labels=3, each=12):
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(n_labels, 6, generator=generator)
    points = centers.repeat(each, 1) + spread * torch.randn(n_labels * each, 6, generator=generator)
    return torch.nn.functional.normalize(points, dim=1), [
        f"l{i % n_labels}" for i in range(len(points))
    ]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_keeps_clusters_apart(method):
    vectors, labels = clusters(0.05)
    points = map_points(vectors, method).points
    assert points.shape == (36, 2)
    centers = torch.stack([points[i::3].mean(0) for i in range(3)])
    nearest = torch.cdist(points.double(), centers.double()).argmin(1).tolist()
    assert nearest == [i % 3 for i in range(36)]
    assert map_points(vectors, method).points.allclose(points)


def test_pca_is_the_projection_on_the_directions_of_greatest_variance():
    vectors, _ = clusters(0.5)
    centered = (vectors - vectors.mean(0)).double()
    u, s, _ = torch.linalg.svd(centered, full_matrices=False)
    mapped = map_points(vectors)
    assert mapped.points.abs().allclose((u[:, :2] * s[:2]).abs(), atol=1e-6)
    assert mapped.x == f"first component ({float(s[0] ** 2 / (s**2).sum()):.0%} of variance)"


def test_the_map_counts_neighbors_of_the_same_label():
    (mixed, labels), (apart, _) = clusters(3.0), clusters(0.05)
    assert neighbor_agreement(apart, labels) == 1.0
    before = neighbor_agreement(mixed, labels)
    figure = embedding_map_figure(mixed, apart, labels, "library")
    assert (
        "Fine-tuning sorts sentences by library: the nearest of 36 is of the same library for "
        f"{before:.0%} before and 100% after (by chance: 33%)"
    ) in titles(figure)
    assert len(figure.axes[0].collections) == 3
    assert any(
        text.startswith("Fine-tuning does not sort sentences by label")
        for text in titles(embedding_map_figure(apart, mixed, labels))
    )
    with pytest.raises(ValueError, match="a map of 3 sentences shows nothing"):
        map_points(mixed[:3])
    with pytest.raises(ValueError, match="method='umap' is unknown"):
        map_points(mixed, "umap")


def fine_tuned(folder, saved, head=None):
    model, wordpiece = saved
    head = head or BertForSequenceClassification(model.bert, 2, "mean")
    save_finetuned(folder, head, wordpiece, PRESETS["smoke"], "notes", ("matrix", "other"))
    return folder


def test_the_command_draws_the_map_of_a_fine_tuned_model(saved, tmp_path, capsys):
    assert maps.main(["--preset", "smoke"]).is_file()
    before = save_pretrained(tmp_path / "hub", *saved)
    after = fine_tuned(tmp_path / "tuned", saved)
    lines = [f"{text} {i}\t{'matrix' if i % 2 else 'other'}\n"
             for i in range(40) for text in SENTENCES]  # fmt: skip
    (tmp_path / "notes.tsv").write_text("".join(lines), encoding="utf-8")
    argv = ["--checkpoint", str(after), "--task", str(tmp_path / "notes.tsv")]
    path = maps.main([*argv, "--before", str(before), "--sentences", "12"])
    assert path == after / "figures" / "sentence_map_pca.png" and path.stat().st_size
    for wrong, message in (
        ([], "--checkpoint is missing: there is no model to look into"),
        (argv, "--before is missing"),
        (["--sentences", "2"], "--sentences 2 shows nothing"),
        (["--checkpoint", str(tmp_path / "x"), "--before", "y"], "does not exist"),
    ):
        with pytest.raises(SystemExit) as left:
            run_entry(lambda wrong=wrong: maps.main(wrong))
        error = capsys.readouterr().err
        assert left.value.code == 2 and message in error and error.count("\n") == 1


def test_a_fine_tuned_folder_classifies_and_has_no_masks_to_fill(saved, tmp_path, capsys):
    folder = str(fine_tuned(tmp_path / "tuned", saved))
    assert use(["--checkpoint", folder, "--classify", *SENTENCES]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SENTENCES) and all("matrix" in line for line in lines)
    notes = tmp_path / "notes.txt"
    notes.write_text("\n".join(SENTENCES), encoding="utf-8")
    assert use(["--checkpoint", folder, "--nearest", "bytes", "--among", str(notes)]) == 0
    capsys.readouterr()
    hub = str(save_pretrained(tmp_path / "hub", *saved))
    for argv, message in (
        (["--checkpoint", folder, "--fill", "a [MASK]"], "is a checkpoint of another kind"),
        (["--checkpoint", hub, "--classify", "a"], "does not exist"),
    ):
        with pytest.raises(SystemExit) as left:
            run_entry(lambda argv=argv: use(argv))
        error = capsys.readouterr().err
        assert left.value.code == 2 and message in error and error.count("\n") == 1
