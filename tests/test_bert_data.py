"""Documents, pairs and full sequences: balanced, never from the same place, nothing lost."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch

from bert.bert_data import PairData, load_documents, next_sentence_batch, single_batch
from bert.document_sources import split_sentences, wikitext_documents
from bert.pretraining_batches import (
    BatchSampler,
    evaluation_batches,
    sentence_begins,
)
from bert.pretraining_data import load_bert_data, tokenize_documents
from bert.wordpiece import WordPiece

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def numbered(documents: int = 30, sentences: int = 12, seed: int = 0) -> tuple[PairData, WordPiece]:
    """Documents whose tokens are all different, so that each token tells where it is from."""
    generator = random.Random(seed)
    words, texts = [], []
    for _ in range(documents):
        document = []
        for _ in range(generator.randint(1, sentences)):
            sentence = [f"w{len(words) + i}" for i in range(generator.randint(1, 9))]
            words += sentence
            document.append(" ".join(sentence))
        texts.append(document)
    pieces = WordPiece([*SPECIAL_TOKENS, *words])
    return tokenize_documents(texts, pieces), pieces


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def document_of_token(data: PairData) -> dict[int, int]:
    return {
        int(token): int(data.document_of[i])
        for i in range(data.n_sentences)
        for token in data.tokens[data.starts[i] : data.ends[i]]
    }


def test_documents_become_slices() -> None:
    pieces = WordPiece([*SPECIAL_TOKENS, "a", "b", "c", "."])
    data = tokenize_documents([["a b .", "c"], ["", "  "], ["b [UNK] c"]], pieces)
    assert pieces.tokens(data.tokens.tolist()) == [
        "a",
        "b",
        ".",
        "c",
        "[SEP]",
        "b",
        "[UNK]",
        "c",
        "[SEP]",
    ]
    assert data.starts.tolist() == [0, 3, 5] and data.ends.tolist() == [3, 4, 8]
    assert data.document_of.tolist() == [0, 0, 1] and data.document_ends.tolist() == [2, 3]
    assert data.first_of(torch.tensor([1, 2])).tolist() == [0, 2]
    assert data.firsts_of_pairs().tolist() == [0]
    nothing = tokenize_documents([], pieces)  # a source without a test split
    assert nothing.n_sentences == len(nothing.tokens) == len(nothing.firsts_of_pairs()) == 0


@pytest.mark.parametrize("max_len", [12, 24, 64])
def test_pairs_are_balanced_and_from_where_their_label_says(max_len: int) -> None:
    data, pieces = numbered()
    home = document_of_token(data)
    stream = data.tokens.tolist()
    place = {token: i for i, token in enumerate(stream) if token != pieces.sep_id}
    firsts = data.firsts_of_pairs().repeat(12)
    batch = next_sentence_batch(data, firsts, max_len, pieces.special_tokens, rng())
    assert batch.next_labels is not None
    n = len(firsts)
    assert abs(int(batch.next_labels.sum()) - n / 2) < 4 * math.sqrt(n / 4)
    assert batch.tokens.shape[1] <= max_len
    mask = torch.ones_like(batch.tokens, dtype=torch.bool) if batch.mask is None else batch.mask
    for row in range(n):
        ids = batch.tokens[row][mask[row]].tolist()
        assert ids[0] == pieces.cls_id and ids[-1] == pieces.sep_id
        border = ids.index(pieces.sep_id)
        a, b = ids[1:border], ids[border + 1 : -1]
        assert a and b and pieces.sep_id not in b
        assert batch.segments[row].tolist() == [0] * (border + 1) + [1] * (len(b) + 1) + [0] * int(
            (~mask[row]).sum()
        )
        assert place[a[0]] == int(data.starts[firsts[row]])
        for part in (a, b):  # each is one stretch of one document
            assert [place[t] for t in part] == list(
                range(place[part[0]], place[part[0]] + len(part))
            )
            assert len({home[t] for t in part}) == 1
        if batch.next_labels[row] == 0:
            between = stream[place[a[-1]] + 1 : place[b[0]]]
            cut = len(ids) == max_len  # only a pair that is full may have lost the end of A
            assert home[a[0]] == home[b[0]] and (not between or cut)
        else:
            assert home[a[0]] != home[b[0]]
    assert (batch.tokens[~mask] == pieces.pad_id).all()


def test_wrong_sentences_come_from_everywhere_else() -> None:
    data, pieces = numbered(documents=4, sentences=5, seed=3)
    home = document_of_token(data)
    firsts = data.firsts_of_pairs()[:1].repeat(4000)
    batch = next_sentence_batch(data, firsts, 40, pieces.special_tokens, rng())
    begins: dict[int, int] = {}
    for row in range(len(firsts)):
        if batch.next_labels is not None and batch.next_labels[row] == 1:
            ids = batch.tokens[row].tolist()
            begin = ids[ids.index(pieces.sep_id) + 1]
            begins[begin] = begins.get(begin, 0) + 1
    own = int(data.document_of[firsts[0]])
    elsewhere = {int(data.tokens[s]) for s, d in zip(data.starts, data.document_of, strict=True)
                 if d != own}  # fmt: skip
    assert set(begins) == elsewhere and all(home[token] != own for token in begins)
    total, share = sum(begins.values()), 1 / len(elsewhere)
    for count in begins.values():
        assert abs(count - total * share) < 4.5 * math.sqrt(total * share * (1 - share))


def test_cutting_a_pair_agrees_with_the_tokenizer() -> None:
    for length_a in range(1, 15):
        for length_b in range(1, 15):
            words = [f"w{i}" for i in range(length_a + length_b + 1)]
            pieces = WordPiece([*SPECIAL_TOKENS, *words])
            a, b = words[:length_a], words[length_a:-1]
            data = tokenize_documents([[" ".join(a), " ".join(b)], [words[-1]]], pieces)
            for seed in range(6):
                batch = next_sentence_batch(
                    data, torch.tensor([0]), 11, pieces.special_tokens, rng(seed)
                )
                if batch.next_labels is not None and batch.next_labels.item() == 0:
                    expected = pieces.pair(
                        pieces.encode(" ".join(a)), pieces.encode(" ".join(b)), 11
                    )
                    assert (batch.tokens[0].tolist(), batch.segments[0].tolist()) == expected


def test_full_sequences_are_stretches_of_the_text() -> None:
    data, pieces = numbered()
    begins = sentence_begins(data, 20, offset=3)
    batch = single_batch(data, begins, 20, pieces.special_tokens)
    assert batch.mask is None and batch.next_labels is None and batch.tokens.shape[1] == 20
    for row, begin in enumerate(begins.tolist()):
        assert batch.tokens[row, 1:-1].tolist() == data.tokens[begin : begin + 18].tolist()
    starts = set(data.starts.tolist())
    assert all(begin in starts for begin in begins.tolist())  # no sentence here is longer than 9
    seen: set[int] = set()
    for offset in range(18):
        for begin in sentence_begins(data, 20, offset).tolist():
            seen |= set(range(begin, begin + 18))
    assert len(seen) > len(data.tokens) - 20  # but for the last few, everything is read


@pytest.mark.parametrize("objective", ["mlm+nsp", "mlm"])
def test_an_epoch_repeats_nothing_and_its_place_is_one_number(objective: str) -> None:
    data, pieces = numbered(60)

    def sampler() -> BatchSampler:
        return BatchSampler(
            data, pieces, objective=objective, batch_size=8, max_len=20, seed=1, mask_rate=0.3
        )  # type: ignore[arg-type]

    one = sampler()
    batches = [one.next_batch() for _ in range(2 * one.batches_per_epoch + 1)]
    two = sampler()
    two.number = one.batches_per_epoch + 1  # as after a resume
    again = two.next_batch()
    assert torch.equal(again.tokens, batches[one.batches_per_epoch + 1].tokens)
    assert torch.equal(again.labels, batches[one.batches_per_epoch + 1].labels)
    firsts = []
    for batch in batches[: one.batches_per_epoch]:
        whole = torch.where(batch.labels >= 0, batch.labels, batch.tokens)
        firsts += [tuple(row) for row in whole[:, 1:3].tolist()]
    assert len(set(firsts)) >= 0.9 * len(firsts)  # two cuts may fall into one sentence
    if objective == "mlm+nsp":
        assert len(set(firsts)) == len(firsts)
    assert not torch.equal(batches[0].tokens, batches[one.batches_per_epoch].tokens)


def test_evaluation_is_fixed_hides_all_and_does_not_touch_the_global_generator() -> None:
    data, pieces = numbered(60)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for objective in ("mlm", "mlm+nsp"):
        one, two = (evaluation_batches(data, pieces, 20, objective, 16) for _ in range(2))  # type: ignore[arg-type]
        assert sum(len(batch.tokens) for batch in one) == 16
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a.tokens, b.tokens) and torch.equal(a.labels, b.labels)
            assert (a.tokens[a.labels != -100] == pieces.mask_id).all()
            assert (a.next_labels is None) == (objective == "mlm")
    assert torch.equal(state, torch.get_rng_state())


def test_rows_and_device_keep_what_belongs_together() -> None:
    data, pieces = numbered()
    batch = evaluation_batches(data, pieces, 20, "mlm+nsp")[0]
    part = batch.rows(slice(1, None, 2)).to("cpu")
    assert torch.equal(part.labels, batch.labels[1::2]) and part.next_labels is not None
    assert part.n_masked == int((batch.labels[1::2] != -100).sum())


def test_sentences_and_articles() -> None:
    assert split_sentences("One. Two! three. (Four?) Five") == [
        "One.",
        "Two! three.",
        "(Four?) Five",
    ]
    lines = [" ", " = Crab = ", " ", " A 1 @.@ 5 kg crab . ", " = = Food = = ", " It eats <unk> . ",
             " = Gull = ", " Birds . "]  # fmt: skip
    assert wikitext_documents(lines) == [["A 1.5 kg crab .", "It eats [UNK] ."], ["Birds ."]]


def file_with(tmp_path: Path, documents: int) -> Path:
    path = tmp_path / "text.txt"
    blocks = [f"Sentence {i} begins.\nIt ends after {i} words." for i in range(documents)]
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return path


def test_a_file_is_split_by_document(tmp_path: Path) -> None:
    documents = load_documents(str(file_with(tmp_path, 40)))
    assert [len(documents[split]) for split in ("train", "validation", "test")] == [36, 2, 2]
    assert documents["train"][0] == ["Sentence 0 begins.", "It ends after 0 words."]
    flat = [sentence for split in documents.values() for d in split for sentence in d]
    assert len(flat) == len(set(flat)) == 80


def test_names_are_joined_by_plus(tmp_path: Path) -> None:
    path = file_with(tmp_path, 20)
    assert len(load_documents(f"{path}+{path}")["train"]) == 2 * len(
        load_documents(str(path))["train"]
    )


def test_tokens_are_cached_and_a_damaged_cache_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    path = str(file_with(tmp_path, 40))
    first = load_bert_data(path, 60)
    (stored,) = (tmp_path / "cache" / "tokens").glob("bert-*.npz")
    monkeypatch.setattr("bert.pretraining_data.train_wordpiece", None)  # must not be needed
    second = load_bert_data(path, 60)
    for split in first.splits:
        for name in ("tokens", "starts", "ends", "document_of", "document_ends"):
            assert torch.equal(
                getattr(first.splits[split], name), getattr(second.splits[split], name)
            )
    assert first.wordpiece.to_dict() == second.wordpiece.to_dict()
    monkeypatch.undo()
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    stored.write_bytes(stored.read_bytes()[:100])
    third = load_bert_data(path, 60)
    assert torch.equal(third.splits["train"].tokens, first.splits["train"].tokens)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a known name nor a file"):
        load_documents("wikitext3")
    with pytest.raises(ValueError, match="4 are the least"):
        load_documents(str(file_with(tmp_path, 3)))
    data, pieces = numbered(1)
    with pytest.raises(ValueError, match="needs a second document"):
        next_sentence_batch(data, torch.tensor([0]), 20, pieces.special_tokens, rng())
    options = {"batch_size": 2, "max_len": 20, "seed": 0}
    lone = tokenize_documents([["a b c"], ["d e"]], pieces)
    with pytest.raises(ValueError, match="documents of two sentences"):
        BatchSampler(lone, pieces, objective="mlm+nsp", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="too short for sequences of 20"):
        BatchSampler(lone, pieces, objective="mlm", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="too few for one sequence of 20"):
        evaluation_batches(lone, pieces, 20, "mlm")
