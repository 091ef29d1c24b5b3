"""Sentence pairs to token ids to minibatches: readers, vocabulary, padding, masks, sampler."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

import transformer.translation_data as translation_data
from transformer.batching import BatchSampler, batches_of, cut_by_budget, pad_pairs
from transformer.joint_vocabulary import HAN, SPECIAL_TOKENS, train_tokenizer
from transformer.sentence_pairs import SPLITS, align, read_pairs, split_by_source
from transformer.translation_data import TranslationData, load_translation_data

MARKS = {"<pad>": 7, "<bos>": 8, "<eos>": 9, "<unk>": 10}


@pytest.fixture(autouse=True)
def _cache_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> TranslationData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_translation_data("grammar", 2500, 64)


def made_of_lengths(lengths: list[tuple[int, int]]) -> TranslationData:
    """Pairs of which only the lengths matter."""
    tokenizer = train_tokenizer(["low low lower"], 265)
    eos = tokenizer.special_tokens["<eos>"]
    ids = [([65] * (source - 1) + [eos], [66] * target) for source, target in lengths]
    return TranslationData("made", tokenizer, {}, {"train": ids}, "en", "de")


def captions(n: int) -> TranslationData:
    """Lengths like those of Multi30k in BPE tokens: about 15, two sides that look alike."""
    draw = random.Random(0)
    lengths = []
    for _ in range(n):
        source = min(45, max(5, round(draw.lognormvariate(2.7, 0.33))))
        lengths.append((source, max(3, round(source * draw.gauss(1.1, 0.17)))))
    return made_of_lengths(lengths)


# Vocabulary


def test_every_pair_round_trips(grammar: TranslationData) -> None:
    tokenizer, eos = grammar.tokenizer, grammar.tokenizer.special_tokens["<eos>"]
    for split in SPLITS:
        assert len(grammar.pairs[split]) == len(grammar.ids[split])
        for texts, ids in zip(grammar.pairs[split], grammar.ids[split], strict=True):
            assert ids[0][-1] == eos
            assert (tokenizer.decode(ids[0][:-1]), tokenizer.decode(ids[1])) == texts


def test_special_tokens_are_never_written(grammar: TranslationData) -> None:
    special = set(grammar.tokenizer.special_tokens.values())
    assert set(grammar.tokenizer.special_tokens) == set(SPECIAL_TOKENS) and len(special) == 4
    assert not special & set(grammar.tokenizer.encode("<pad> <bos> <eos> <unk>"))


def test_characters_never_seen_round_trip(grammar: TranslationData) -> None:
    text = "Ωμέγα 🐈 龘"
    assert grammar.tokenizer.decode(grammar.tokenizer.encode(text)) == text


def test_each_token_of_the_grammar_is_whole_characters(grammar: TranslationData) -> None:
    for split in SPLITS:
        for _, target in grammar.ids[split]:
            assert all("\ufffd" not in grammar.tokenizer.decode([token]) for token in target)


def test_words_of_the_grammar_are_tokens(grammar: TranslationData) -> None:
    pieces = grammar.tokenizer.pieces
    assert pieces("She reads books.") == ["She", " reads", " books", "."]
    assert pieces("图书馆") == ["图书馆"] and pieces("汤姆") == ["汤姆"]


def test_no_token_holds_parts_of_two_characters() -> None:
    text = ["我们在图书馆看书", "他们在学校学习", "我喜欢猫", "老人在医院休息"] * 4 + [
        "鹦鹉在飞",
        "鹦鹉",
    ]
    tokenizer = train_tokenizer(text, 500)
    for token in range(tokenizer.vocab_size - len(SPECIAL_TOKENS)):
        data = tokenizer.decode_bytes([token])
        assert HAN.search(tokenizer.decode([token])) is None or "\ufffd" not in tokenizer.decode(
            [token]
        )
        starts = sum(byte >= 0xC0 for byte in data)  # bytes that begin a character
        assert starts <= 1 or data.decode("utf-8")


def test_tokens_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_translation_data("grammar-small", 600, 64)
    monkeypatch.setattr(translation_data, "train_tokenizer", None)  # not to be called again
    second = load_translation_data("grammar-small", 600, 64)
    assert first == second
    with pytest.raises(TypeError):
        load_translation_data("grammar-small", 700, 64)


def test_a_damaged_cache_is_made_anew() -> None:
    first = load_translation_data("grammar-small", 600, 64)
    (file,) = (translation_data.cache_folder() / "tokens").glob("transformer-*.npz")
    file.write_bytes(file.read_bytes()[:1000])
    assert load_translation_data("grammar-small", 600, 64) == first


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        load_translation_data("grammar-small", 100, 64)


# Reading and splitting


def write_pair(folder: Path, source: list[str], target: list[str]) -> str:
    paths = folder / "source.en", folder / "target.de"
    for path, lines in zip(paths, (source, target), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"{paths[0]},{paths[1]}"


def test_user_files(tmp_path: Path) -> None:
    lines = [f"line {i}" for i in range(40)]
    data = load_translation_data(
        write_pair(tmp_path, lines, [line.replace("line", "Zeile") for line in lines]), 300, 64
    )
    assert (data.source_language, data.target_language) == ("en", "de")
    assert [len(data.pairs[split]) for split in SPLITS] == [36, 2, 2]
    everything = [pair for split in SPLITS for pair in data.pairs[split]]
    assert sorted(everything) == sorted((line, f"Zeile {line[5:]}") for line in lines)


def test_the_language_of_a_file_without_an_ending(tmp_path: Path) -> None:
    english, chinese = tmp_path / "a.txt", tmp_path / "b.txt"
    english.write_text("one\ntwo\nthree\n", encoding="utf-8")
    chinese.write_bytes(b"\xef\xbb\xbf" + "一\r\n二\r\n三\r\n".encode())
    data = load_translation_data(f"{english},{chinese}", 300, 64)
    assert (data.source_language, data.target_language) == ("und", "zh")
    assert {t for split in SPLITS for _, t in data.pairs[split]} == {"一", "二", "三"}


def test_sides_of_different_length_are_refused(tmp_path: Path) -> None:
    files = write_pair(tmp_path, ["a", "b", "c"], ["a", "b"])
    with pytest.raises(ValueError, match="source.en has 3 lines and .*target.de 2: line n of"):
        load_translation_data(files, 300, 64)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        ("你好\n".encode("gb18030"), "is not UTF-8: byte 0xc4 at position 0"),
        ("hello\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    files = write_pair(tmp_path, ["a"], ["b"])
    (tmp_path / "target.de").write_bytes(content)
    with pytest.raises(ValueError, match=text) as caught:
        load_translation_data(files, 300, 64)
    assert "\n" not in str(caught.value) and "target.de" in str(caught.value)


def test_missing_files_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file nowhere.en"):
        load_translation_data("nowhere.en,nowhere.de", 300, 64)
    with pytest.raises(ValueError, match="'mulit30k' is neither.*multi30k-de-en, tatoeba"):
        load_translation_data("mulit30k", 300, 64)


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 different source sentences cannot be split"):
        load_translation_data(write_pair(tmp_path, ["a", "b"], ["a", "b"]), 300, 64)


def test_empty_sides_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert align(["a  b ", "", "c"], ["x", "y", "z"], "s", "t") == [("a b", "x"), ("c", "z")]
    assert "1 pairs with an empty side" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no line with text on both sides"):
        align(["", "a"], ["b", " "], "s", "t")


def test_long_sentences_are_dropped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [str(i) * 3 for i in range(1, 30)]
    files = write_pair(tmp_path, lines, [*lines[:-1], "abcdefghijklmnopqrstuvwxyz"])
    data = load_translation_data(files, 260 + 4, 16)
    assert sum(len(data.pairs[split]) for split in SPLITS) == 28
    assert "1 of " in capsys.readouterr().out
    assert all(max(len(s), len(t) + 1) <= 16 for split in SPLITS for s, t in data.ids[split])
    with pytest.raises(ValueError, match=r"none of the \d+ train pairs fits --max-len 2: .* needs"):
        load_translation_data(files, 264, 2)


def test_no_source_sentence_on_both_sides() -> None:
    pairs = [(f"Hello {i % 50}{'!' * (i % 3)}", f"t{i}") for i in range(200)]
    splits = split_by_source(pairs, 5)
    sources = [{s.rstrip("!") for s, _ in splits[split]} for split in SPLITS]
    assert not sources[0] & sources[1] and not sources[0] & sources[2]
    assert not sources[1] & sources[2]
    assert [len(splits["validation"]), len(splits["test"])] == [5, 5]  # each source once
    assert sorted(splits["test"]) == sorted(
        split_by_source(pairs[50:] + pairs[:50], 5)["test"]
    ) or ({s.rstrip("!") for s, _ in split_by_source(pairs[::-1], 5)["test"]} == sources[2])


# Minibatches


def test_masks_and_labels_of_two_sentences() -> None:
    batch = pad_pairs([([1, 2, 9], [3]), ([4, 9], [5, 6, 5])], MARKS, [11, 12])
    assert batch.source.tolist() == [[1, 2, 9], [4, 9, 7]]
    assert batch.source_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.target_in.tolist() == [[8, 3, 7, 7], [8, 5, 6, 5]]
    assert batch.labels.tolist() == [[3, 9, -100, -100], [5, 6, 5, 9]]
    assert batch.n_target_tokens == 6 and batch.rows == (11, 12)
    assert batch.to("cpu").labels.equal(batch.labels)


def test_the_budget_holds() -> None:
    data = captions(3000)
    lengths = [(len(s), len(t) + 1) for s, t in data.ids["train"]]
    for tokens in (64, 128, 2048):
        batches = batches_of(data, "train", tokens) if tokens > 100 else []
        assert all(b.source.numel() + b.target_in.numel() <= tokens for b in batches)
        sampler = BatchSampler(data, max(tokens, 128), 0)
        for rows in sampler.batches:
            longest = [max(lengths[row][side] for row in rows) for side in (0, 1)]
            assert len(rows) * sum(longest) <= max(tokens, 128)
    assert cut_by_budget([], [], 10) == []


def test_an_epoch_holds_every_pair_once() -> None:
    data = captions(1000)
    sampler = BatchSampler(data, 1024, seed=3)
    first = [sampler.next_batch().rows for _ in range(len(sampler))]
    assert sorted(row for rows in first for row in rows) == list(range(1000))
    second = [sampler.next_batch().rows for _ in range(len(sampler))]
    assert sampler.epoch == 1
    assert sorted(row for rows in second for row in rows) == list(range(1000))
    assert set(first) != set(second)  # other neighbors, not only another order
    assert [BatchSampler(data, 1024, 3).next_batch().rows] == first[:1]
    assert BatchSampler(data, 1024, 4).next_batch().rows != first[0]
    in_order = batches_of(data, "train", 1024)
    assert sorted(row for batch in in_order for row in batch.rows) == list(range(1000))


@pytest.mark.parametrize("tokens", [2048, 4096])
def test_padding_is_below_a_tenth(tokens: int) -> None:
    data = captions(29_000)
    real = sum(len(source) + len(target) + 1 for source, target in data.ids["train"])
    sampler = BatchSampler(data, tokens, seed=0)
    lengths = [(len(s), len(t) + 1) for s, t in data.ids["train"]]
    padded = sum(
        len(rows) * (max(lengths[r][0] for r in rows) + max(lengths[r][1] for r in rows))
        for rows in sampler.batches
    )
    assert 1 - real / padded < 0.1


def test_the_sampler_resumes_exactly() -> None:
    data = captions(500)
    sampler = BatchSampler(data, 1024, seed=1)
    for _ in range(len(sampler) + 3):  # into the second epoch
        sampler.next_batch()
    state = sampler.state()
    assert all(type(value) is int for value in state.values())
    expected = [sampler.next_batch() for _ in range(60)]  # across the border of an epoch
    resumed = BatchSampler(data, 1024, seed=1)
    resumed.restore(state)
    for batch in expected:
        again = resumed.next_batch()
        assert again.rows == batch.rows and torch.equal(again.labels, batch.labels)


def test_a_pair_larger_than_the_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="tokens_per_batch=20 is too small.*has 27 tokens"):
        BatchSampler(made_of_lengths([(3, 3), (15, 11)]), 20, 0)
    with pytest.raises(ValueError, match="0 training pairs"):
        BatchSampler(made_of_lengths([]), 20, 0)
    with pytest.raises(ValueError, match="at least one sentence pair"):
        pad_pairs([], MARKS)


# The downloaded data sets, where they are there


def registered(name: str) -> dict[str, list[tuple[str, str]]]:
    try:
        return read_pairs(name).pairs
    except OSError as error:
        pytest.skip(f"{name} cannot be fetched here: {error}")


@pytest.mark.slow
def test_multi30k() -> None:
    pairs = registered("multi30k")
    assert [len(pairs[split]) for split in SPLITS] == [29_000, 1_014, 1_000]
    assert pairs["train"][0][0].startswith("Two young, White males")
    assert registered("multi30k-de-en")["test"][0] == pairs["test"][0][::-1]


@pytest.mark.slow
def test_tatoeba() -> None:
    pairs = registered("tatoeba")
    english = {split: {source for source, _ in pairs[split]} for split in SPLITS}
    assert not english["train"] & (english["validation"] | english["test"])
    assert [len(pairs["validation"]), len(pairs["test"])] == [1000, 1000]
    assert not any(source.startswith("\ufeff") for source, _ in pairs["train"])
    assert len(pairs["train"]) > 26_000
