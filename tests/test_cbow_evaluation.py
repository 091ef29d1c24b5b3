"""Word vectors judged: equal to gensim's evaluation, counts by hand, homes and their neighbors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cbow.cbow_data import CBOWData
from cbow.corpus import Corpus
from cbow.embeddings import Embeddings, random_embeddings, toy_embeddings
from cbow.evaluation import (
    AnalogyScores,
    PairScores,
    Score,
    answer,
    evaluate,
    score_analogies,
    score_pairs,
)
from cbow.ppmi import cooccurrences, counting_embeddings, ppmi, reduce
from cbow.purity import Homes, chance, find_homes, homes_of, purity
from cbow.vocabulary import Vocabulary
from cbow.word_tests import Pair, Section, WordTests, read_analogies, read_pairs

QUESTIONS = """: capitals
Athens Greece Rome Italy
Rome Italy Athens Greece
Athens Greece Oslo Norway
: gram1-plural
cat cats dog dogs
dog dogs cat cats
cat cats cow cows
"""
RELATED = [
    "athens", "greece", "rome", "italy", "cat", "cats", "dog", "dogs", "cow", "cows", "the", "of",
    "and",
]  # fmt: skip


def related_embeddings(seed: int = 0) -> Embeddings:
    """Vectors in which pairs differ by nearly the same direction, so most answers are right."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(RELATED), 16, generator=generator)
    for first, direction in ((0, 0), (2, 0), (4, 1), (6, 1), (8, 1)):
        vectors[first + 1] = vectors[first] + 2 * torch.eye(16)[direction]
    return Embeddings(RELATED, vectors + 0.2 * torch.randn(vectors.shape, generator=generator))


def keyed_vectors(embeddings: Embeddings):
    keyed = pytest.importorskip("gensim.models").KeyedVectors(embeddings.vectors.shape[1])
    keyed.add_vectors(list(embeddings.words), embeddings.vectors.numpy())
    return keyed


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.txt"
    path.write_text(QUESTIONS, encoding="utf-8")
    return path


# Neighbors and analogies


def test_neighbors_are_gensims() -> None:
    embeddings = related_embeddings()
    keyed = keyed_vectors(embeddings)
    for word in RELATED:
        ours, theirs = embeddings.most_similar(word, 5), keyed.most_similar(word, topn=5)
        assert [near.word for near in ours] == [word for word, _ in theirs]
        assert [near.similarity for near in ours] == pytest.approx([s for _, s in theirs], abs=1e-6)


def test_sums_and_products_of_cosines_are_gensims() -> None:
    embeddings = related_embeddings()
    keyed = keyed_vectors(embeddings)
    for a, b, c in (("athens", "greece", "rome"), ("cat", "cats", "cow"), ("the", "dog", "of")):
        theirs = keyed.most_similar(positive=[b, c], negative=[a], topn=4)
        assert [w for w, _ in embeddings.analogy(a, b, c, 4)] == [word for word, _ in theirs]
        products = keyed.most_similar_cosmul(positive=[b, c], negative=[a], topn=4)
        ours = embeddings.analogy(a, b, c, 4, "mul")
        assert [near.word for near in ours] == [word for word, _ in products]
        scores = [near.similarity for near in ours]  # gensim's epsilon is smaller
        assert scores == pytest.approx([score for _, score in products], rel=1e-2)


def test_the_odd_one_is_gensims() -> None:
    embeddings = related_embeddings()
    keyed = keyed_vectors(embeddings)
    for words in (["cat", "cats", "rome"], ["the", "of", "dog", "dogs"], ["athens", "cow", "and"]):
        assert embeddings.odd_one_out(words) == keyed.doesnt_match(words)
    assert toy_embeddings().odd_one_out(["pear", "king", "apple"]) == "king"


def test_a_word_is_no_neighbor_of_itself_but_its_vector_is() -> None:
    toy = toy_embeddings()
    assert "king" not in [near.word for near in toy.most_similar("king", 99)]
    assert toy.most_similar(3 * toy.vector("king"), 1)[0].word == "king"
    assert toy.most_similar(toy.vector("king"), 1, exclude=["king"])[0].word != "king"
    assert len(toy.most_similar("king", 99)) == len(toy) - 1
    assert toy.vectors.norm(dim=1).tolist() == pytest.approx([1.0] * len(toy))


def test_capitals_do_not_matter_and_close_spellings_are_named() -> None:
    embeddings = Embeddings(["Paris", "paris", "London"], torch.eye(3))
    assert embeddings.find("paris") == 1 and embeddings.find("PARIS") == 0
    assert "london" in embeddings and "Rome" not in embeddings
    with pytest.raises(ValueError, match=r"'londn' is not among the 3 known.*spellings: London"):
        embeddings.find("londn")
    with pytest.raises(ValueError, match="Try a more frequent word"):
        embeddings.vector("zzzzzzzz")


def test_vectors_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\) do not belong to 3 words"):
        Embeddings(["a", "b", "c"], torch.ones(2, 3))
    with pytest.raises(ValueError, match="'a' has two vectors"):
        Embeddings(["a", "b", "a"], torch.ones(3, 2))
    with pytest.raises(ValueError, match="vector of 'b' holds a number that is not finite"):
        Embeddings(["a", "b"], torch.tensor([[1.0, 2.0], [1.0, math.nan]]))
    toy = toy_embeddings()
    with pytest.raises(ValueError, match="n=0 asks for no word"):
        toy.most_similar("king", 0)
    with pytest.raises(ValueError, match="no common space"):
        toy.most_similar(torch.ones(7))
    with pytest.raises(ValueError, match="method='sum' is unknown. Use one of: add, mul"):
        toy.analogy("man", "king", "woman", method="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none is the odd one"):
        toy.odd_one_out(["king", "queen"])
    with pytest.raises(ValueError, match="no word is added"):
        toy.nearest_to_sum([], ["man"])


# Analogies and pairs


@pytest.mark.parametrize("seed", range(3))
def test_analogies_are_scored_as_by_gensim(questions: Path, seed: int) -> None:
    embeddings = related_embeddings(seed)
    _, theirs = keyed_vectors(embeddings).evaluate_word_analogies(str(questions))
    ours = score_analogies(embeddings, read_analogies(questions))
    for our, their in zip(ours.sections, theirs[:-1], strict=True):
        asked = len(their["correct"]) + len(their["incorrect"])
        assert (our.name, our.right, our.asked) == (their["section"], len(their["correct"]), asked)
    assert ours.total.asked == 5 and ours.total.total == 6  # Oslo is unknown
    assert ours.total.right >= 1


def test_many_questions_get_the_answers_of_each_alone() -> None:
    embeddings = related_embeddings()
    generator = torch.Generator().manual_seed(1)
    rows = torch.stack([torch.randperm(len(RELATED), generator=generator)[:3] for _ in range(40)])
    for method in ("add", "mul"):
        found = answer(embeddings.vectors, rows, method)  # type: ignore[arg-type]
        for (a, b, c), row in zip(rows.tolist(), found.tolist(), strict=True):
            words = [RELATED[number] for number in (a, b, c)]
            alone = embeddings.analogy(*words, n=1, method=method)  # type: ignore[arg-type]
            assert alone[0].word == RELATED[row] and row not in (a, b, c)


def test_sections_are_added_up_by_kind() -> None:
    scores = AnalogyScores(
        (Score("city", 1, 4, 9), Score("gram1", 3, 3, 5), Score("gram2", 0, 0, 2))
    )
    assert scores.semantic == ("semantic", 1, 4, 9) and scores.syntactic == ("syntactic", 3, 3, 7)
    assert scores.total == ("total", 4, 7, 16) and scores.total.accuracy == 4 / 7
    assert scores.sections[2].accuracy == 0.0 and "gram2" in scores.table()


def test_the_order_of_pairs_is_judged_as_by_gensim(tmp_path: Path) -> None:
    lines = ["cat\tdog\t7.1", "Athens\trome\t5.5", "the\tcow\t0.3", "of\tand\t6.0", "cats\tof\t1.2",
             "cat\tzebra\t4"]  # fmt: skip
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    embeddings = related_embeddings()
    _, theirs, unknown = keyed_vectors(embeddings).evaluate_word_pairs(str(path))
    ours = score_pairs(embeddings, read_pairs(path))
    assert ours.spearman == pytest.approx(theirs[0])
    assert (ours.found, ours.total) == (5, 6) and unknown == pytest.approx(100 / 6)


def test_two_pairs_have_no_score() -> None:
    pairs = (Pair("cat", "dog", 1.0), Pair("cat", "cow", 2.0), Pair("cat", "emu", 3.0))
    scores = score_pairs(related_embeddings(), pairs)
    assert math.isnan(scores.spearman) and scores[1:] == (2, 3)


def test_all_scores_come_in_percent(questions: Path) -> None:
    pairs = (Pair("king", "queen", 9.0), Pair("king", "man", 9.5), Pair("king", "apple", 1.0))
    section = Section("family", (("man", "king", "woman", "queen"),))
    found = evaluate(toy_embeddings(), WordTests((section,), pairs, pairs))
    assert found.wordsim == PairScores(1.0, 3, 3)
    shares = found.percentages()
    assert shares["analogies"] == shares["analogies_mul"] == shares["semantic"] == 100
    assert shares["wordsim"] == shares["simlex"] == pytest.approx(100)
    assert shares["syntactic"] == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a b c d\n", "line 1 is 'a b c d'"), (": family\na b c\n", "line 2 is 'a b c'")],
)
def test_lines_that_are_no_question_are_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"{problem}.*nor four words"):
        read_analogies(path)


@pytest.mark.parametrize("line", ["cat dog", "cat dog much", "cat dog 3 4"])
def test_lines_that_are_no_pair_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"a b 1\n\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3 is .*not two words and a rating"):
        read_pairs(path)


# Counting


def made_corpus(
    sentences: list[list[int]], n_words: int, sources: list[int] | None = None
) -> Corpus:
    tokens = np.array([word for sentence in sentences for word in sentence], dtype=np.int32)
    starts = np.cumsum([0, *map(len, sentences)])
    counts = np.bincount(tokens, minlength=n_words)
    vocabulary = Vocabulary(tuple(f"w{number}" for number in range(n_words)), counts)
    names = ("alpha", "beta") if sources is not None else ()
    of = None if sources is None else np.array(sources, dtype=np.int16)
    return Corpus("made", vocabulary, tokens, starts, of, names)


@pytest.mark.parametrize("words_at_once", [3, 100])
def test_pairs_are_counted_within_sentences_near_ones_more(words_at_once: int) -> None:
    sentences = [[0, 1, 2, 1], [3], [2, 3, 0]]
    counts = cooccurrences(made_corpus(sentences, 4), window=2, words_at_once=words_at_once)
    expected = np.zeros((4, 4))
    for sentence in sentences:
        for i, word in enumerate(sentence):
            for j, other in enumerate(sentence):
                if i != j and abs(i - j) <= 2:
                    expected[word, other] += {1: 1.0, 2: 0.5}[abs(i - j)]
    assert np.allclose(counts.toarray(), expected)


def test_ppmi_is_the_logarithm_of_the_ratio_to_chance() -> None:
    counts = np.array([[0.0, 4.0, 1.0], [4.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(counts)
    plain = ppmi(sparse, smoothing=1.0).toarray()
    total = counts.sum()
    for word in range(3):
        for context in range(3):
            joint = counts[word, context] / total
            apart = counts[word].sum() * counts[:, context].sum() / total**2
            expected = max(0.0, math.log(joint / apart)) if joint else 0.0
            assert plain[word, context] == pytest.approx(expected)
    smooth = counts.sum(axis=0) ** 0.75
    value = math.log(4 / (5 * smooth[1] / smooth.sum()))
    assert ppmi(sparse).toarray()[0, 1] == pytest.approx(value)
    assert ppmi(sparse, 1.0, shift=2.0).toarray()[0, 1] == pytest.approx(plain[0, 1] - math.log(2))


def test_the_reduced_rows_are_the_best_of_their_rank() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((30, 4)) @ rng.random((4, 30))  # of rank 4
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(matrix)
    full = reduce(sparse, 4, power=1.0)  # U S: the rows keep their lengths and angles
    assert np.allclose(full @ full.T, matrix @ matrix.T)
    half = reduce(sparse, 4, power=0.5)
    assert np.allclose((half**2).sum(axis=0), np.linalg.svd(matrix)[1][:4])


def topical_corpus(seed: int = 0, n_sentences: int = 600) -> Corpus:
    """Two libraries with 20 words of their own each, and 10 words of both."""
    rng = np.random.default_rng(seed)
    sentences, sources = [], []
    for number in range(n_sentences):
        library = number % 2
        own = rng.integers(10 + 20 * library, 30 + 20 * library, size=6)
        common = rng.integers(0, 10, size=4)
        sentences.append(rng.permutation(np.concatenate([own, common])).tolist())
        sources.append(library)
    return made_corpus(sentences, 50, sources)


def topical_homes(corpus: Corpus) -> Homes:
    return homes_of(CBOWData("made", corpus, corpus))


def test_counted_vectors_find_the_topic() -> None:
    corpus = topical_corpus()
    homes = topical_homes(corpus)
    counted = purity(counting_embeddings(corpus, dim=8), homes)
    lot = purity(random_embeddings(corpus.vocabulary.words, 8), homes)
    assert counted > 0.95 and abs(lot - chance(homes)) < 0.1
    with pytest.raises(ValueError, match=r"dim=51 asks for more numbers than there are words \(50"):
        counting_embeddings(corpus, dim=51)
    with pytest.raises(ValueError, match="window=0 leaves no context"):
        cooccurrences(corpus, 0)


# Homes


def test_a_text_without_libraries_has_no_homes() -> None:
    corpus = made_corpus([[0, 1]], 2)
    with pytest.raises(ValueError, match="'made' does not tell from which library"):
        homes_of(CBOWData("made", corpus, corpus))


def test_a_home_is_a_share_of_use_not_of_counts() -> None:
    """Beta has ten times the text: a word as frequent in it as in alpha has no home."""
    counts = np.array([[30, 70, 0, 0], [300, 0, 690, 10]])
    homes = find_homes(counts, ("alpha", "beta"), share=0.6, fewest=20)
    assert homes.rows.tolist() == [1, 2] and homes.home.tolist() == [0, 1]
    assert homes.words_of(["w0", "w1", "w2", "w3"]) == {"alpha": ["w1"], "beta": ["w2"]}


def test_topics_are_the_corpus_own_words() -> None:
    homes = topical_homes(topical_corpus())
    assert homes.rows.tolist() == list(range(10, 50))
    assert homes.home.tolist() == [0] * 20 + [1] * 20
    assert chance(homes) == pytest.approx(19 / 39)


def test_purity_by_hand() -> None:
    """Four words on a circle: the nearest of each is known."""
    angles = torch.tensor([0.0, 10.0, 30.0, 200.0]).deg2rad()
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    homes = Homes(np.arange(4), np.array([0, 0, 1, 1]), ("alpha", "beta"))
    embeddings = Embeddings(["a", "b", "c", "d"], vectors)
    # nearest: a-b same, b-a same, c-b other, d-a other (160 degrees; c is 170 away)
    assert purity(embeddings, homes, k=1) == 0.5
    assert purity(embeddings, homes, k=3) == pytest.approx(1 / 3)  # everybody else
    with pytest.raises(ValueError, match="4 words belong to one library: no word has 10"):
        purity(embeddings, homes)


def test_purity_of_many_words_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    n = 1100  # more than are compared at once
    homes = Homes(np.arange(n), rng.integers(0, 3, n), ("a", "b", "c"))
    embeddings = Embeddings([f"w{i}" for i in range(n)], torch.from_numpy(rng.normal(size=(n, 5))))
    cosines = (embeddings.vectors @ embeddings.vectors.T).numpy()
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1)[:, :10]
    same = (homes.home[nearest] == homes.home[:, None]).mean()
    assert purity(embeddings, homes) == pytest.approx(same, abs=1e-3)
