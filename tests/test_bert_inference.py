"""Using BERT: masks, sentence vectors, neighbors, labels; batches of like lengths; bad input."""

import io
import sys

import pytest
import torch

from bert import bert_inference as command
from bert.bert_config import BertConfig
from bert.bert_heads import BertForPreTraining, BertForSequenceClassification
from bert.bert_inference import (
    SentenceIndex,
    classify,
    embed_sentences,
    fill_masks,
    fill_surest_first,
    fill_texts,
    nearest,
    open_pretrained,
)
from bert.bert_model import BertModel
from bert.length_batches import encode_texts, encoder_of, evaluating, length_batches
from bert.mask_filling import encode_blanks, put_in
from bert.pretrained import save_pretrained
from bert.smoke_model import SENTENCES, untrained_model
from tutorial_kit.console import run_entry

TEXT = "Returns the [MASK] of the array."


@pytest.fixture(scope="module")
def saved():
    return sharp_model()


def sharp_model(max_len=64, seed=0, **changes):
    """Weights so large that guesses differ clearly, in float64 so that rounding hides nothing."""
    model, wordpiece = untrained_model(seed, max_len)
    if changes:
        config = BertConfig(wordpiece.vocab_size, max_len, 32, 4, 2, 64, **changes)
        model = BertForPreTraining(BertModel(config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.2, generator=generator)
    return model.double().eval(), wordpiece


def by_hand(model, tokens):
    """Logits (T, V) of one text without padding."""
    with torch.no_grad():
        hidden = model.bert(torch.tensor([tokens]))[0][0]
        return model.masked_head(hidden)


# Batches of similar length


def test_every_sequence_comes_once_and_no_batch_exceeds_the_budget():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 40, (300,), generator=generator).tolist()
    sequences = [[row % 7 + 1] * length for row, length in enumerate(lengths)]
    batches = list(length_batches(sequences, 0, budget=200))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(300))
    for batch in batches:
        assert batch.tokens.numel() <= 200
        for row, tokens, real in zip(batch.rows, batch.tokens, batch.real_tokens(), strict=True):
            assert tokens[real].tolist() == sequences[row] and not tokens[~real].any()
    assert [batch.tokens.shape[1] for batch in batches] == sorted(
        (batch.tokens.shape[1] for batch in batches), reverse=True
    )
    padded = sum(batch.tokens.numel() for batch in batches)
    assert padded / sum(lengths) < 1.1 < 300 * max(lengths) / sum(lengths)


def test_a_sequence_longer_than_the_budget_goes_alone():
    batches = list(length_batches([[1] * 9, [1]], 0, budget=4))
    assert [batch.rows for batch in batches] == [[0], [1]]
    assert all(batch.mask is None for batch in batches)


# Masks


def test_alternatives_are_the_softmax_at_the_mask(saved):
    model, wordpiece = saved
    (found,) = fill_masks(model, wordpiece, TEXT, top_k=4)
    tokens = encode_blanks(wordpiece, TEXT)
    place = tokens.index(wordpiece.mask_id)
    best, ids = by_hand(model, tokens)[place].softmax(-1).topk(4)
    assert [one.token for one in found] == wordpiece.tokens(ids.tolist())
    assert [one.probability for one in found] == pytest.approx(best.tolist(), abs=1e-6)
    assert sum(p for _, p in fill_masks(model, wordpiece, TEXT, 10_000)[0]) == pytest.approx(1)


def test_several_masks_are_answered_in_their_order(saved):
    model, wordpiece = saved
    text = "The [MASK] of the [mask] must not be[MASK]."
    found = fill_masks(model, wordpiece, text, top_k=1)
    tokens = encode_blanks(wordpiece, text)
    places = [i for i, token in enumerate(tokens) if token == wordpiece.mask_id]
    best = by_hand(model, tokens)[places].argmax(-1).tolist()
    assert [place[0].token for place in found] == wordpiece.tokens(best)
    assert len(found) == 3


def test_neighbors_in_a_minibatch_change_nothing(saved):
    model, wordpiece = saved
    texts = [
        TEXT,
        "[MASK]",
        "Open a [MASK] and return a [MASK] of bytes, decoded as text.",
        "a [MASK]",
    ]
    alone = [fill_masks(model, wordpiece, text) for text in texts]
    for budget in (8, 64, 4096):
        together = fill_texts(model, wordpiece, texts, budget=budget)
        for one, other in zip(alone, together, strict=True):
            for a, b in zip(one, other, strict=True):
                assert [x.token for x in a] == [x.token for x in b]
                assert [x.probability for x in a] == pytest.approx([x.probability for x in b])


def test_the_surest_mask_is_filled_first_and_read_by_the_rest(saved):
    model, wordpiece = saved
    text = "The [MASK] of a [MASK] matrix."
    tokens = encode_blanks(wordpiece, text)
    special = sorted(wordpiece.special_tokens.values())
    while wordpiece.mask_id in tokens:
        shares = by_hand(model, tokens).softmax(-1)
        shares[:, special] = -1
        places = [i for i, token in enumerate(tokens) if token == wordpiece.mask_id]
        surest = max(places, key=lambda place: float(shares[place].max()))
        tokens[surest] = int(shares[surest].argmax())
    filled = [token for token, old in zip(tokens, encode_blanks(wordpiece, text), strict=True)
              if old == wordpiece.mask_id]  # fmt: skip
    assert fill_surest_first(model, wordpiece, text) == put_in(text, wordpiece.tokens(filled))


def test_the_text_around_a_mask_stays_as_it_was_typed():
    assert put_in("Café [MASK]: $5 [mask]!", ["bar", "##x"]) == "Café bar: $5x!"
    assert put_in("a [MASK] b [MASK]", ["x"]) == "a x b [MASK]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty: there is nothing to fill"),
        ("  \n", "the text is empty: there is nothing to fill"),
        ("no blank", r"'no blank' has no \[MASK\]: there is no place to fill. Write \[MASK\]"),
        ("a " * 70 + "[MASK]", r"first \[MASK\] at token 72 and the model reads 64"),
    ],
)
def test_a_text_that_cannot_be_filled_says_why(saved, text, message):
    for function in (fill_masks, fill_surest_first):
        with pytest.raises(ValueError, match=message):
            function(*saved, text)


def test_a_bad_text_among_several_is_numbered(saved):
    with pytest.raises(ValueError, match=r"text 2 of 3 'none' has no \[MASK\]"):
        fill_texts(*saved, [TEXT, "none", TEXT])
    with pytest.raises(ValueError, match="top_k=0 asks for no alternative"):
        fill_masks(*saved, TEXT, top_k=0)


def test_a_long_text_loses_its_end_and_this_is_said(saved, capsys):
    model, wordpiece = saved
    long = "[MASK] " + "array " * 100 + "[MASK]"
    short = "[MASK] " + "array " * 61
    assert fill_masks(model, wordpiece, long) == fill_masks(model, wordpiece, short)
    error = capsys.readouterr().err
    assert "the text has 104 tokens and the model reads 64: its end is left out" in error
    assert error.count("\n") == 1


# Sentence vectors


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_the_mean_over_real_tokens_of_length_one(pooling, norm):
    model, wordpiece = sharp_model(norm=norm)
    vectors = embed_sentences(model, wordpiece, SENTENCES, pooling, budget=40)
    for text, vector in zip(SENTENCES, vectors, strict=True):
        tokens = wordpiece.pair(wordpiece.encode(text))[0]
        with torch.no_grad():
            hidden = model.bert(torch.tensor([tokens]))[0][0]
        wanted = hidden[0] if pooling == "cls" else hidden.mean(0)
        assert vector.allclose((wanted / wanted.norm()).float(), atol=1e-6)
    assert vectors.norm(dim=1).allclose(torch.ones(len(SENTENCES)))


def test_padding_and_order_change_no_vector(saved):
    model, wordpiece = saved
    texts = [*SENTENCES, "array", "the", SENTENCES[2] * 3]
    whole = embed_sentences(model, wordpiece, texts)
    assert embed_sentences(model, wordpiece, texts, budget=1).allclose(whole, atol=1e-6)
    assert embed_sentences(model, wordpiece, texts, budget=10**6).allclose(whole, atol=1e-6)
    assert embed_sentences(model, wordpiece, texts[::-1]).flip(0).allclose(whole, atol=1e-6)
    assert embed_sentences(model.bert, wordpiece, texts).allclose(whole)


def test_long_texts_are_cut_and_counted(saved, capsys):
    model, wordpiece = saved
    vectors = embed_sentences(model, wordpiece, ["array " * 62, "array " * 90, "array " * 80])
    assert vectors[0].allclose(vectors[1]) and vectors[0].allclose(vectors[2])
    said = capsys.readouterr().err
    assert "2 of 3 texts have more tokens (up to 92) than the 64 that the model reads" in said


def test_a_model_keeps_its_mode_and_uses_no_dropout(saved):
    model, wordpiece = sharp_model()
    quiet = embed_sentences(model, wordpiece, SENTENCES)
    model.train()
    assert embed_sentences(model, wordpiece, SENTENCES).equal(quiet)
    fill_masks(model, wordpiece, TEXT)
    assert model.training and model.bert.training
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert model.training


def test_vectors_of_nothing_are_refused(saved):
    with pytest.raises(ValueError, match="0 texts"):
        embed_sentences(*saved, [])
    with pytest.raises(ValueError, match="text 2 of 2 is empty: there is nothing to make a vector"):
        embed_sentences(*saved, ["a", " "])
    with pytest.raises(ValueError, match="has no character that BERT reads"):
        encode_texts(saved[1], ["\u200b\u0007"], 64)
    with pytest.raises(ValueError, match="pooling='max' is unknown"):
        embed_sentences(*saved, ["a"], "max")
    with pytest.raises(ValueError, match="Linear has no BERT encoder"):
        encoder_of(torch.nn.Linear(1, 1))


def test_nearest_is_the_greatest_cosine():
    vectors = torch.nn.functional.normalize(torch.randn(20, 8), dim=1)
    places, cosines = nearest(vectors, vectors[[3, 5]], k=4)
    assert places[:, 0].tolist() == [3, 5] and cosines[:, 0].allclose(torch.ones(2))
    assert places[0].tolist() == (vectors @ vectors[3]).argsort(descending=True)[:4].tolist()
    assert nearest(vectors, vectors[:1], k=99)[0].shape == (1, 20)


@pytest.mark.parametrize("center", [False, True])
def test_an_index_leaves_the_query_itself_out(saved, center):
    texts = [*SENTENCES, SENTENCES[0]]
    index = SentenceIndex(*saved, texts, center=center)
    first, other = index.nearest([SENTENCES[0], "a new sentence"], k=3)
    assert len(first) == len(other) == 3
    assert all(near.text != SENTENCES[0] and texts[near.place] == near.text for near in first)
    similarities = [near.similarity for near in first]
    assert similarities == sorted(similarities, reverse=True)
    if center:
        raw = embed_sentences(*saved, texts)
        assert index.vectors.allclose(
            torch.nn.functional.normalize(raw - raw.mean(0), dim=1), atol=1e-6
        )
    with pytest.raises(ValueError, match="k=0 asks for no sentence"):
        index.nearest(["a"], 0)


# Labels


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_labels_come_with_their_softmax_the_best_first(saved, pooling):
    model = BertForSequenceClassification(saved[0].bert, 3, pooling).double()
    answers = classify(model, saved[1], ("a", "b", "c"), SENTENCES)
    for text, found in zip(SENTENCES, answers, strict=True):
        tokens = torch.tensor([saved[1].pair(saved[1].encode(text))[0]])
        with torch.no_grad():
            shares = model.eval()(tokens)[0].softmax(-1)
        assert dict(found) == pytest.approx(dict(zip("abc", shares.tolist(), strict=True)))
        assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)


def test_labels_that_do_not_fit_are_refused(saved, capsys):
    model = BertForSequenceClassification(saved[0].bert, 3).double()
    with pytest.raises(ValueError, match="2 labels were given for a classifier of 3 classes"):
        classify(model, saved[1], ("a", "b"), SENTENCES)
    with pytest.raises(ValueError, match="the text is empty: there is nothing to classify"):
        classify(model, saved[1], ("a", "b", "c"), [""])
    classify(model, saved[1], ("a", "b", "c"), ["array array array"], max_len=4)
    assert "has 5 tokens and the model reads 4" in capsys.readouterr().err


# The command


def run(argv, monkeypatch, capsys, given=None):
    if given is not None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    with pytest.raises(SystemExit) as left:
        run_entry(lambda: command.main(argv))
    return left.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--checkpoint is missing: there is no model to use"),
        (["--checkpoint", "nowhere", "--fill", TEXT], "does not exist"),
        (["--checkpoint", "x"], "none of --fill, --nearest and --classify was given"),
        (["--preset", "smoke", "--fill", "no blank"], "has no [MASK]: there is no place to fill"),
        (["--preset", "smoke", "--fill", ""], "the text is empty: there is nothing to fill"),
        (["--preset", "smoke", "--nearest", " "], "the text is empty"),
        (
            ["--preset", "smoke", "--classify", ""],
            "the text is empty: there is nothing to classify",
        ),
        (["--preset", "smoke", "--top-k", "0"], "--top-k 0 asks for no answer"),
        (["--preset", "smoke", "--nearest", "a", "--among", "no.txt"], "no.txt does not exist"),
        (["--preset", "smoke", "--fill", "a", "--nearest", "a"], "not allowed with"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(argv, message, monkeypatch, capsys):
    code, out, error = run(argv, monkeypatch, capsys)
    assert code == 2 and message in error and error.count("\n") == 1 and out == ""


def test_the_command_fills_and_lists_alternatives(monkeypatch, capsys):
    two = "The [MASK] of a [MASK]."
    code, out, error = run(["--preset", "smoke", "--fill", TEXT, two], monkeypatch, capsys)
    lines = out.splitlines()
    assert code == 0 and error == "" and len(lines) == 2 + 3
    model, wordpiece = untrained_model()
    (found,) = fill_masks(model, wordpiece, TEXT)
    assert lines[0] == put_in(TEXT, [found[0].token]) and "[MASK]" not in out
    assert lines[1] == "  1. " + ", ".join(f"{one.token} {one.probability:.2f}" for one in found)
    assert lines[2] == fill_surest_first(model, wordpiece, two)
    assert lines[3].startswith("  1. ") and lines[4].startswith("  2. ")


def test_a_pipe_keeps_its_lines_and_goes_on_after_a_bad_one(monkeypatch, capsys):
    given = "\ufeffa [MASK]\r\n\nno blank\nan [MASK]\n".encode() + b"caf\xe9 [MASK]\nthe [MASK]"
    argv = ["--preset", "smoke", "--fill", "--top-k", "1"]
    code, out, error = run(argv, monkeypatch, capsys, given)
    lines = out.split("\n")
    assert code == 2 and len(lines) == 7
    assert [bool(line) for line in lines] == [True, False, False, True, False, True, False]
    assert lines[3].startswith("an") and lines[5].startswith("the")
    said = error.splitlines()
    assert len(said) == 3 and said[0].startswith("line 2: the text is empty")
    assert said[1].startswith("line 3: the text 'no blank' has no [MASK]")
    assert said[2].startswith("line 5: the byte 0xE9 is not UTF-8")


def test_good_input_by_pipe_and_none_at_all(monkeypatch, capsys):
    lines = "".join(f"{text}\n" for text in SENTENCES).encode()
    code, out, error = run(["--preset", "smoke", "--classify"], monkeypatch, capsys, lines)
    assert code == 0 and error == "" and len(out.splitlines()) == len(SENTENCES)
    assert all(line.count(", ") == 1 for line in out.splitlines())
    code, out, error = run(["--preset", "smoke", "--classify"], monkeypatch, capsys, b"")
    assert code == 2 and "the input has no line" in error


def test_the_nearest_of_a_file(monkeypatch, capsys, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("\ufeffAn array.\n\nThe inverse of a matrix.\nText.\n", encoding="utf-8")
    argv = ["--preset", "smoke", "--nearest", "A matrix.", "--among", str(path), "--top-k", "2"]
    code, out, _ = run([*argv, "--center"], monkeypatch, capsys)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "A matrix." and len(lines) == 3
    for content, message in ((b"\n", "has no text"), (b"caf\xe9", "is not UTF-8 (byte 3)")):
        path.write_bytes(content)
        assert message in run(argv, monkeypatch, capsys)[2]
    argv[argv.index(str(path))] = str(tmp_path)
    assert "is a folder" in run(argv, monkeypatch, capsys)[2]


def test_published_weights_are_opened(monkeypatch, capsys, tmp_path, saved):
    model, wordpiece = untrained_model()
    save_pretrained(tmp_path / "hub", model, wordpiece)
    opened, pieces = open_pretrained(tmp_path / "hub")
    assert fill_masks(opened, pieces, TEXT) == fill_masks(model, wordpiece, TEXT)
    argv = ["--checkpoint", str(tmp_path / "hub"), "--top-k", "1"]
    code, out, _ = run([*argv, "--fill", TEXT], monkeypatch, capsys)
    assert code == 0 and out.strip() == put_in(TEXT, [fill_masks(model, wordpiece, TEXT)[0][0][0]])
    notes = tmp_path / "notes.txt"
    notes.write_text("\n".join(SENTENCES), encoding="utf-8")
    code, out, _ = run([*argv, "--nearest", "bytes", "--among", str(notes)], monkeypatch, capsys)
    assert code == 0 and out.splitlines()[1].strip().split("  ")[1] in SENTENCES
