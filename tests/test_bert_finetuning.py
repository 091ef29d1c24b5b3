"""Fine-tuning BERT: tasks, minibatches, the recipe, three heads, baselines, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bert import bert_finetuning
from bert.bert_config import BertConfig
from bert.bert_finetuning import FinetuneResult, fine_tune, from_scratch, hide_words, main
from bert.bert_heads import BertForSequenceClassification, BertForSpan
from bert.bert_model import BertModel
from bert.docstring_labels import MarkedText, marked_texts, parameters
from bert.finetuning_baselines import tfidf_baseline
from bert.finetuning_config import FinetuneConfig, config_from_argv
from bert.finetuning_data import Encoded, collate, encode_examples, labeled_batches
from bert.finetuning_recipe import freeze_layers, parameter_groups, set_learning_rates
from bert.finetuning_tasks import TextTask, file_task, fold_of, load_task
from bert.library_task import library_examples, mask_telltale_words, passages
from bert.saved_classifier import load_classifier, load_finetuned, save_finetuned
from bert.span_task import (
    Question,
    SpanTask,
    encode_questions,
    fine_tune_span,
    predict_spans,
    questions_about,
    span_scores,
)
from bert.tagging_task import TaggingTask, encode_tagged, fine_tune_tagging
from bert.wordpiece import WordPiece, train_wordpiece
from tutorial_kit.checkpoints import load_checkpoint, save_checkpoint
from tutorial_kit.corpus_building import Document
from tutorial_kit.optimizers import fused_adamw

ANIMALS, TOOLS = ("cat", "dog", "cow", "hen"), ("saw", "axe", "pin", "nut")
PLACES = ("barn", "shed", "yard", "house", "field", "road")


def toy_examples(count: int, seed: int) -> tuple[tuple[str, str], ...]:
    generator = torch.Generator().manual_seed(seed)

    def draw(words: tuple[str, ...]) -> str:
        return words[int(torch.randint(len(words), (1,), generator=generator))]

    rows = []
    for place in range(count):
        label, words = (("animal", ANIMALS), ("tool", TOOLS))[place % 2]
        rows.append((f"the {draw(words)} is in the {draw(PLACES)} {place}", label))
    return tuple(rows)


TASK = TextTask(
    "toy", ("animal", "tool"), toy_examples(80, 0), toy_examples(40, 1), toy_examples(60, 2)
)
CONFIG = FinetuneConfig(labels=40, epochs=12, batch_size=8, scratch_lr=3e-3, threads=1)


@pytest.fixture(scope="module")
def wordpiece() -> WordPiece:
    return train_wordpiece([text for text, _ in TASK.train], 150)


@pytest.fixture(scope="module")
def bert(wordpiece: WordPiece) -> BertModel:
    sizes = BertConfig(wordpiece.vocab_size, max_len=24, d_model=32, n_layers=2, d_ff=64)
    return from_scratch(sizes, seed=1)


# Tasks


def test_few_is_balanced_repeatable_and_leaves_the_test_alone() -> None:
    few = TASK.few(11, seed=3)
    assert few == TASK.few(11, seed=3) != TASK.few(11, seed=4)
    labels = [label for _, label in few.train]
    assert sorted(map(labels.count, TASK.labels)) == [5, 6]
    assert set(few.train) <= set(TASK.train) and len(set(few.train)) == 11
    assert len(few.validation) == 11 and set(few.validation) <= set(TASK.validation)
    assert few.test == TASK.test and TASK.few(0, seed=3) is TASK


@pytest.mark.parametrize("count", [1, 81])
def test_too_few_or_too_many_labels_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"--labels {count} is not possible.*80"):
        TASK.few(count, seed=0)


def test_a_label_outside_the_set_is_refused() -> None:
    with pytest.raises(ValueError, match="'fish', which is not one of animal, tool"):
        replace(TASK, test=(("the carp is in the pond", "fish"),))


def test_telltale_words_are_masked_and_english_stays() -> None:
    masked = mask_telltale_words('A "Matplotlib" figure, plt.show() and n_jobs=2 of sklearn.svm.')
    assert masked == 'A "[MASK]" figure, [MASK]() and [MASK] of [MASK].'
    kept = "The input is split; a spline, an explanation, and np-hard graphs."
    assert mask_telltale_words(kept) == kept.replace("np-hard", "[MASK]")


def test_passages_join_neighbors_until_there_are_20_words() -> None:
    document = Document("scipy", "scipy.x", "test", ("One two three.",) * 9)
    assert passages(document) == [" ".join(["One two three."] * 7)]


def test_the_library_task_is_balanced_and_keeps_the_split() -> None:
    def document(library: str, split: str, count: int) -> Document:
        words = f"{library[0]} {split} word " * 7
        texts = tuple(f"{words}number {n} of all." for n in range(count))
        return Document(library, f"{library}.{split}", split, texts)

    documents = [
        document(library, split, count)
        for library, count in (("scipy", 5), ("sympy", 3), ("numpy", 9))
        for split in ("train", "validation", "test")
    ]
    labels, splits = library_examples(documents)
    assert labels == ("scipy", "sympy")  # numpy is not one of the task's
    for split, examples in splits.items():
        assert sorted(label for _, label in examples) == ["scipy"] * 3 + ["sympy"] * 3
        assert all(split in text and label not in text for text, label in examples)
    with pytest.raises(ValueError, match="only 0 of .* have documentation in every split"):
        library_examples(documents[6:])


def test_a_file_is_a_task_and_copies_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    lines = [f"{text}\t{label}" for text, label in TASK.train]
    path.write_text("\n".join([*lines, "", *lines]) + "\n", encoding="utf-8")
    task = load_task(str(path))
    assert task.labels == ("animal", "tool") and task.name == "mine"
    assert len(task.train) + len(task.validation) + len(task.test) == 160
    assert not {text for text, _ in task.train} & {text for text, _ in task.test}
    assert all(fold_of(text) == 0 for text, _ in task.test)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no tab here", r"line 3 has 0 tab\(s\) and 1 part"),
        ("text\tlabel\tmore", r"line 3 has 2 tab\(s\)"),
        ("\tlabel", r"line 3 has 1 tab\(s\) and 1 part"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(f"a b\tx\nc d\ty\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        file_task(path)


def test_other_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a known task nor a file"):
        load_task("no-such-task")
    path = tmp_path / "one.tsv"
    path.write_text("a b\tx\n" * 30, encoding="utf-8")
    with pytest.raises(ValueError, match="30 examples of 1 label"):
        file_task(path)
    rows = [f"text {n}\t{'rare' if fold_of(f'text {n}') == 0 and n > 40 else 'ab'[n % 2]}"
            for n in range(90)]  # fmt: skip
    path.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(ValueError, match="'rare', which is not one of a, b"):
        file_task(path)


def test_the_sentiment_tasks_have_their_official_sizes() -> None:
    try:
        sst2, polarity = load_task("sst2"), load_task("polarity", 9)
    except OSError:
        pytest.skip("no network and no mirror")
    assert [len(getattr(sst2, s)) for s in ("train", "validation", "test")] == [6920, 872, 1821]
    assert len(polarity.train) + len(polarity.validation) + len(polarity.test) == 10_662
    assert 900 < len(polarity.test) < 1200
    with pytest.raises(ValueError, match="--fold 10 does not exist"):
        load_task("polarity", 10)


# Minibatches


def test_long_texts_lose_their_end_and_are_counted(wordpiece: WordPiece) -> None:
    examples = [("the cat " * 9, "animal"), ("the [MASK]", "tool")]
    encoded, n_cut = encode_examples(wordpiece, examples, TASK.labels, 8)
    assert n_cut == 1 and len(encoded[0].tokens) == 8
    ids = wordpiece.encode("the cat the cat the cat")
    assert encoded[0].tokens == [wordpiece.cls_id, *ids, wordpiece.sep_id]
    assert encoded[1].tokens[2] == wordpiece.mask_id and encoded[1].target == 1


def test_minibatches_hold_each_example_once_and_little_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 60, (320,), generator=generator).tolist()
    examples = [Encoded([1] * n, [0] * n, 0) for n in lengths]
    batches = list(labeled_batches(examples, 8, 0, generator))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(320))
    real = sum(int(batch.mask.sum()) for batch in batches)
    assert real == sum(lengths)
    assert real > 0.8 * sum(batch.mask.numel() for batch in batches)  # in random order: 0.55
    again = list(labeled_batches(examples, 8, 0, generator))
    assert [batch.rows for batch in batches] != [batch.rows for batch in again]
    in_order = [row for batch in labeled_batches(examples, 8, 0) for row in batch.rows]
    assert [lengths[row] for row in in_order] == sorted(lengths)


def test_tags_are_padded_with_ignore_and_places_are_not() -> None:
    tagged = collate([Encoded([5, 6], [0, 0], [1, 0]), Encoded([7], [0], [1])], [0, 1], 9)
    assert tagged.targets.tolist() == [[1, 0], [1, -100]]
    assert tagged.tokens.tolist() == [[5, 6], [7, 9]]
    spans = collate([Encoded([5, 6, 7], [0, 1, 1], [1, 2])], [0], 9)
    assert spans.targets.shape == (1, 2)


# The recipe


def test_each_layer_has_its_rate_and_frozen_ones_none(bert: BertModel) -> None:
    model = BertForSequenceClassification(bert, 2, "mean")
    config = FinetuneConfig(lr=1e-3, head_lr=1e-2, layer_decay=0.5, scratch_lr=4e-3)
    peaks = {id(p): g["peak"] for g in parameter_groups(model, config, False) for p in g["params"]}
    assert peaks[id(bert.embeddings.token.weight)] == pytest.approx(0.25e-3)
    assert peaks[id(next(bert.encoder[0].parameters()))] == pytest.approx(0.5e-3)
    assert peaks[id(next(bert.encoder[1].parameters()))] == pytest.approx(1e-3)
    assert peaks[id(model.classifier.weight)] == pytest.approx(1e-2)
    assert len(peaks) == len(list(model.parameters()))
    for group in parameter_groups(model, config, scratch=True):
        assert group["peak"] in (4e-3, 1e-2)


def test_the_rate_rises_and_falls_to_zero() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = fused_adamw([{"params": [weight], "peak": 2.0, "lr": 2.0}], 2.0, (0.9, 0.99))
    seen = []
    for progress in (0.05, 0.1, 0.55, 1.0):
        set_learning_rates(optimizer, progress, 0.1)
        seen.append(round(optimizer.param_groups[0]["lr"], 6))
    assert seen == [1.0, 2.0, 1.0, 0.0]


def test_freezing_keeps_the_lower_layers(bert: BertModel, wordpiece: WordPiece) -> None:
    before = {name: weight.clone() for name, weight in bert.state_dict().items()}
    result = fine_tune(bert, wordpiece, TASK, replace(CONFIG, epochs=1, freeze=1))
    after = result.model.bert.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith("encoder.1") for name in changed)
    assert all(torch.equal(bert.state_dict()[name], before[name]) for name in before)  # a copy
    probe = fine_tune(bert, wordpiece, TASK, replace(CONFIG, epochs=1, freeze=-1))
    frozen = probe.model.bert.state_dict()
    assert all(torch.equal(frozen[name], before[name]) for name in before)
    with pytest.raises(ValueError, match="--freeze 3 is not possible: the encoder has 2"):
        freeze_layers(bert, 3)


@pytest.mark.parametrize(
    "settings",
    [{"max_len": 2}, {"freeze": -2}, {"lr": 0.0}, {"dropout": 1.0}, {"labels": -1}],
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        FinetuneConfig(**settings)  # type: ignore[arg-type]


# Fine-tuning


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_it_learns_what_words_tell(bert: BertModel, wordpiece: WordPiece, pooling: str) -> None:
    config = replace(CONFIG, pooling=pooling)  # type: ignore[arg-type]
    result = fine_tune(bert, wordpiece, TASK, config, scratch=True, device="cpu")
    assert result.test_accuracy > 0.9
    assert len(result.outcome.history) == 12 == result.outcome.best_epoch
    assert result.outcome.history[-1]["train_loss"] < 0.3 < result.outcome.history[0]["train_loss"]
    assert result.n_texts == 40 + 40 + 60 and result.n_truncated == 0
    assert not result.model.training


def test_it_repeats_itself_and_seeds_differ(bert: BertModel, wordpiece: WordPiece) -> None:
    short = replace(CONFIG, epochs=1)
    first, second, other = (
        fine_tune(bert, wordpiece, TASK, replace(short, seed=seed), device="cpu")
        for seed in (0, 0, 1)
    )
    weight = first.model.classifier.weight
    assert torch.equal(weight, second.model.classifier.weight)
    assert not torch.equal(weight, other.model.classifier.weight)


def test_the_best_epoch_is_chosen_by_validation_alone(
    bert: BertModel, wordpiece: WordPiece
) -> None:
    config = replace(CONFIG, select="best", epochs=6)
    result = fine_tune(bert, wordpiece, TASK, config, scratch=True, device="cpu")
    scores = [row["validation"] for row in result.outcome.history]
    assert result.outcome.best_epoch == scores.index(max(scores)) + 1
    assert result.validation_accuracy == max(scores)  # the weights of that epoch are back
    other_test = replace(TASK, test=TASK.test[:1])
    again = fine_tune(bert, wordpiece, other_test, config, scratch=True, device="cpu")
    assert torch.equal(again.model.classifier.weight, result.model.classifier.weight)


def test_hidden_words_are_drawn_anew_and_marks_stay(wordpiece: WordPiece) -> None:
    encoded, _ = encode_examples(wordpiece, TASK.train, TASK.labels, 24)
    [batch] = labeled_batches(encoded, len(encoded), wordpiece.pad_id)
    hide = hide_words(wordpiece, replace(CONFIG, hide=0.3))
    first, second = hide(batch).tokens, hide(batch).tokens
    mask_id = wordpiece.special_tokens["[MASK]"]
    special = torch.isin(batch.tokens, torch.tensor(list(wordpiece.special_tokens.values())))
    assert not torch.equal(first, second)
    for tokens in (first, second):
        hidden = tokens != batch.tokens
        assert (tokens[hidden] == mask_id).all() and not (hidden & special).any()
        n_words = int((~special).sum())
        assert abs(int(hidden.sum()) - 0.3 * n_words) < 4 * (0.3 * 0.7 * n_words) ** 0.5


def test_a_foreign_vocabulary_is_refused(bert: BertModel) -> None:
    foreign = train_wordpiece(["a few other words"] * 2, 40)
    with pytest.raises(ValueError, match="vocabulary has .* tokens and the weights have vectors"):
        fine_tune(bert, foreign, TASK, CONFIG)


def test_tfidf_learns_the_same_toy() -> None:
    assert tfidf_baseline(TASK.few(40, seed=0)) > 0.9
    assert tfidf_baseline(TASK.few(2, seed=0)) >= 0.5  # too few for cross-validation


# Tags


TAGGED = TaggingTask(
    "code",
    ("O", "code"),
    *(
        tuple(
            MarkedText(("If", word, "is", value, "it", "is", "not", "used."),
                       ("O", "code", "O", "code", "O", "O", "O", "O"))
            for word in words for value in ("None", "zero")
        )
        for words in (("axis", "out", "size", "dtype"), ("order",), ("shape", "keepdims"))
    ),
)  # fmt: skip


def test_authors_marks_become_tags() -> None:
    [text] = marked_texts(
        "Use :func:`~a.b.norm` or ``x + y``, see `this page <https://x.org>`_ or it."
    )
    assert dict(zip(text.words, text.tags, strict=True)) == {
        "Use": "O", "norm": "code", "or": "O", "x": "code", "+": "code", "y,": "code", "see": "O",
        "this": "O", "page": "O", "it.": "O",
    }  # fmt: skip
    assert marked_texts("No mark stands in this sentence.") == []


def test_the_first_piece_of_a_word_has_its_tag() -> None:
    wordpiece = train_wordpiece(["ab cd"] * 2, 40)
    [example], [places] = encode_tagged(wordpiece, [MarkedText(("ab", "dcba"), ("O", "code"))], 12)
    assert example.target[places[0]] == 0 and example.target[places[1]] == 1  # type: ignore[index]
    assert len(example.target) == len(example.tokens)  # type: ignore[arg-type]
    assert sum(tag != -100 for tag in example.target) == 2  # type: ignore[union-attr]
    _, [cut] = encode_tagged(wordpiece, [MarkedText(("ab", "dcba", "a"), ("O",) * 3)], 5)
    assert cut == [1, -1, -1]


def test_a_tagger_learns_and_the_rule_knows_seen_words() -> None:
    wordpiece = train_wordpiece([*TAGGED.texts(), "shape keepdims order"] * 2, 200)
    encoder = from_scratch(BertConfig(wordpiece.vocab_size, 24, 32, 4, 2, 64), 0)
    config = replace(CONFIG, labels=8, epochs=25)
    result = fine_tune_tagging(encoder, wordpiece, TAGGED, config, scratch=True, device="cpu")
    assert result.scores["F1"] > 0.9  # the place in the sentence tells
    assert TAGGED.baseline(config)["recall"] == 0.5  # "None" and "zero", but not the new names


# Spans


def test_parameters_are_read_and_names_do_not_betray_them() -> None:
    docstring = """Sum.

    Parameters
    ----------
    axis : int
        Direction of the sum. More.
    keep
        Whether the axis stays.

    out : array
        The array out of which it is read.

    Returns
    -------
    total : float
        The sum of all numbers.
    """
    assert [tuple(row) for row in parameters(docstring)] == [
        ("axis", "Direction of the sum."),
        ("keep", "Whether the axis stays."),
    ]


def test_the_answer_lies_in_the_text_and_its_end_may_be_cut() -> None:
    wordpiece = train_wordpiece(["one two three four name"] * 3, 100)
    question = Question("name", ("one two", "three four", "four one two"), 1)
    [example], n_cut = encode_questions(wordpiece, [question], 24)
    first, last = example.target  # type: ignore[misc]
    assert wordpiece.decode(example.tokens[first : last + 1]) == "three four" and n_cut == 0
    assert set(example.segments[first : last + 1]) == {1}
    [cut], n_cut = encode_questions(wordpiece, [question._replace(answer=2)], 8)
    assert n_cut == 1 and cut.target == [7, 7] and cut.tokens[7] == wordpiece.sep_id


def test_spans_run_forward_inside_the_text() -> None:
    wordpiece = train_wordpiece(["one two three four name"] * 3, 100)
    encoder = from_scratch(BertConfig(wordpiece.vocab_size, 24, 32, 4, 1, 64), 0)
    questions = [Question("name", ("one two", "three", "four " * n), 0) for n in range(1, 6)]
    examples, _ = encode_questions(wordpiece, questions, 24)
    spans = predict_spans(BertForSpan(encoder), examples, wordpiece.pad_id, torch.device("cpu"))
    for (first, last), example in zip(spans, examples, strict=True):
        assert first <= last < len(example.tokens) and example.segments[first] == 1
    assert span_scores([(2, 3)], [[2, 3]]) == {"exact match": 1.0, "F1": 1.0}
    assert span_scores([(2, 3)], [[4, 9]]) == {"exact match": 0.0, "F1": 0.0}


def test_a_span_head_learns() -> None:
    rows = [("ab", "letters of one kind"), ("cd", "numbers of some size"), ("ef", "colors of it")]
    orders = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 0, 2))
    questions = [q for order in orders for q in questions_about([rows[i] for i in order])]
    task = SpanTask("parameters", *[tuple(questions)] * 3)  # it learns them by heart
    wordpiece = train_wordpiece(task.texts() * 3, 100)
    encoder = from_scratch(BertConfig(wordpiece.vocab_size, 32, 32, 4, 2, 64, norm="pre"), 0)
    config = replace(CONFIG, labels=0, epochs=75, max_len=32, dropout=0.0, scratch_lr=6e-3)
    result = fine_tune_span(encoder, wordpiece, task, config, scratch=True, device="cpu")
    assert result.scores["exact match"] > 0.9
    assert set(result.scores) == set(task.baseline(config)) == {"exact match", "F1"}


# Folders and the command line


def test_a_classifier_is_saved_and_opened(
    bert: BertModel, wordpiece: WordPiece, tmp_path: Path
) -> None:
    model = BertForSequenceClassification(bert, 2, "mean").eval()
    save_finetuned(tmp_path, model, wordpiece, CONFIG, "toy", TASK.labels)
    saved = load_classifier(tmp_path)
    assert (saved.labels, saved.task, saved.max_len) == (TASK.labels, "toy", 24)
    assert saved.wordpiece == wordpiece and not saved.model.training
    tokens = torch.tensor([wordpiece.pair(wordpiece.encode("the cat"))[0]])
    assert torch.equal(saved.model(tokens), model(tokens))


def test_another_head_a_pretraining_and_a_foreign_vocabulary_are_refused(
    bert: BertModel, wordpiece: WordPiece, tmp_path: Path
) -> None:
    path = save_finetuned(tmp_path / "span", BertForSpan(bert), wordpiece, CONFIG, "parameters", ())
    assert load_finetuned(path).kind == "span"
    with pytest.raises(ValueError, match="head for span .*not for classification"):
        load_classifier(path)
    content = load_checkpoint(path, family="bert")
    other = tmp_path / "other.pt"
    state = {**content["state"], "wordpiece": train_wordpiece(["a b"] * 2, 30).to_dict()}
    save_checkpoint(other, family="bert", config=content["config"], state=state)
    with pytest.raises(ValueError, match="vocabulary of .* tokens and weights for"):
        load_finetuned(other)
    save_checkpoint(other, family="bert", config={"objective": "mlm"}, state={})
    with pytest.raises(ValueError, match="is a pre-training: it has no head"):
        load_finetuned(other)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_finetuned(tmp_path / "nothing" / "here.pt")


@pytest.fixture
def tsv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a user's own."""
    path = tmp_path / "mine.tsv"
    rows = TASK.train + TASK.validation
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_the_command_prints_the_table_and_saves(
    tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = main(["--preset", "smoke", "--task", str(tsv), "--max-len", "8", "--name", "toy"])
    assert isinstance(result, FinetuneResult) and result.n_truncated > 0
    printed = capsys.readouterr().out
    assert f"{result.n_truncated} of {result.n_texts} texts have more than 8 tokens" in printed
    assert "from scratch" in printed and "TF-IDF + logistic regression" in printed
    assert load_classifier("toy").labels == ("animal", "tool")


def test_nothing_to_start_from_is_said(tsv: Path) -> None:
    with pytest.raises(ValueError, match="nothing to start from: name a pre-training with --run"):
        main(["--task", str(tsv), "--labels", "10"])


def test_a_finetuned_run_is_no_pretraining(tsv: Path) -> None:
    main(["--preset", "smoke", "--task", str(tsv), "--name", "toy"])
    with pytest.raises(ValueError, match="another kind"):
        main(["--preset", "smoke", "--task", str(tsv), "--run", "toy"])


def test_the_command_line_overrides_the_preset() -> None:
    config, args = config_from_argv(["--labels", "50", "--pooling", "cls", "--run", "x"])
    assert (config.labels, config.pooling, args.run, args.task) == (50, "cls", "x", "library")
    assert bert_finetuning.build_parser().prog


@pytest.mark.slow
@pytest.mark.parametrize("task", ["library", "code", "parameters"])
def test_the_offline_tasks_run(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--preset", "smoke", "--task", task])
    assert f"Task {task}" in capsys.readouterr().out
