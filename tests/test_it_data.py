"""The world of words: requests, splits, demonstrations, the judge, preferences, the base text."""

import random
import re
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instruction_tuning import instruction_data
from instruction_tuning.base_text import base_lines, base_text
from instruction_tuning.chat import encode_chat
from instruction_tuning.demonstrations import Demonstration, demonstrate, slip
from instruction_tuning.instruction_data import (
    build_tokenizer,
    demonstrations_of,
    pair_rows,
    sft_rows,
    split_entries,
)
from instruction_tuning.judge import edit_distance, exact_match, is_chatty, judge
from instruction_tuning.preference_data import accepted_pairs
from instruction_tuning.preferences import VISIBLE, Preference, label_pairs
from instruction_tuning.tuning_config import DPOConfig
from instruction_tuning.word_world import (
    SHAPES,
    SPLITS,
    STEPS,
    TASKS,
    VOWELS,
    Request,
    draw_requests,
    draw_word,
    numbers,
    opposite_key,
    opposites,
    split_of,
)
from instruction_tuning.wordings import (
    BASE_FACTS,
    BASE_OPPOSITES,
    BASE_STATEMENTS,
    CHATTER,
    LETTER_WORDINGS,
    OPPOSITE_WORDINGS,
    OPPOSITES,
    SUM_WORDINGS,
    TWO_STEP_WORDINGS,
)

KAPI = Request("spell kapi backwards", "ipak", "reverse", "kapi")
TOKENIZER = build_tokenizer()
WORD_WORDINGS = [text for texts in LETTER_WORDINGS.values() for text in texts] + [
    text for texts in TWO_STEP_WORDINGS.values() for text in texts
]


@pytest.fixture(scope="module")
def training() -> list[Request]:
    return draw_requests(2400, "train", 0)


@pytest.fixture(scope="module")
def held_out() -> list[Request]:
    return draw_requests(600, "test", 0)


def looks_invented(text: str) -> bool:
    """Tells whether a text could be one of the world's words."""
    kinds = "".join("v" if letter in VOWELS else "c" for letter in text)
    half = len(text) // 2
    return kinds in SHAPES.get(len(text), ()) and text[:half] != text[half:]


# Splits.


def test_the_split_is_the_same_on_every_machine():
    assert [split_of(key) for key in ("kapi", "oleje", "sela", "7,12", "old/new", "10,13")] == [
        "train", "test", "train", "train", "train", "test",
    ]  # fmt: skip


def test_words_of_the_same_letters_share_a_split():
    dice = random.Random(0)
    for _ in range(200):
        word = draw_word("test", dice)
        other = "".join(dice.sample(word, len(word)))
        assert split_of(word) == split_of(other) == split_of("".join(sorted(word))) == "test"


def test_a_seventh_is_for_testing_and_half_as_much_for_validation():
    dice = random.Random(1)
    keys = ["".join(dice.choices("abcdefghijklmnop", k=8)) for _ in range(7000)]
    counts = Counter(map(split_of, keys))
    assert counts["test"] / 7000 == pytest.approx(2 / 14, abs=0.015)
    assert counts["validation"] / 7000 == pytest.approx(1 / 14, abs=0.012)
    assert min(len(numbers(split)) for split in SPLITS) >= 60
    assert min(len(opposites(split)) for split in SPLITS) >= 12


def test_sums_of_the_same_numbers_share_a_split():
    pairs = {split: set(numbers(split)) for split in SPLITS}
    for own in pairs.values():
        assert own == {(b, a) for a, b in own}
    assert sum(map(len, pairs.values())) == len(set.union(*pairs.values())) == 900


# Requests.


def test_tasks_are_balanced_and_a_seed_decides(training):
    assert Counter(request.task for request in training) == dict.fromkeys(TASKS, 200)
    assert training == draw_requests(2400, "train", 0)
    assert training != draw_requests(2400, "train", 1)
    assert {request.task for request in draw_requests(10, "train", 0, ("add", "sort"))} == {
        "add", "sort",
    }  # fmt: skip


def test_few_requests_repeat(training, held_out):
    for requests, least in ((training, 2390), (held_out, 598)):
        assert len({request.text for request in requests}) >= least


def test_requests_are_of_their_split():
    for split in SPLITS:
        for request in draw_requests(240, split, 3):
            assert split_of(request.word) == split
            if request.task in ("add", "subtract"):
                a, b = map(int, re.findall(r"\d+", request.text))
                small = sorted((a, b) if request.task == "add" else (b, a - b))
                assert request.word == "{},{}".format(*small)
            elif request.task == "opposite":
                assert request.word == opposite_key(request.text.split()[-1].rstrip("?"),
                                                    request.answer)  # fmt: skip
            else:
                assert request.word in re.findall("[a-z]+", request.text)


def answer_by_hand(request: Request) -> str | None:
    """Works out an answer in another way than the world does; None for two steps."""
    word, letters = request.word, list(request.word)
    given = list(map(int, re.findall(r"\d+", request.text)))
    return {
        "reverse": lambda: "".join(reversed(letters)),
        "sort": lambda: "".join(c * letters.count(c) for c in "abcdefghijklmnopqrstuvwxyz"),
        "upper": lambda: "".join(chr(ord(c) - 32) for c in letters),
        "first2": lambda: letters[0] + letters[1],
        "last2": lambda: letters[-2] + letters[-1],
        "double": lambda: "".join(letters * 2),
        "length": lambda: str(sum(1 for _ in letters)),
        "vowels": lambda: re.sub("[^aeiou]", "", word),
        "add": lambda: str(sum(given)),
        "subtract": lambda: str(given[0] - given[1]),
        "opposite": lambda: next(
            (set(pair) - {w}).pop() for pair in OPPOSITES for w in pair
            if w in re.split(r"\W", request.text)[-2:]
        ),
        "two_step": lambda: None,
    }[request.task]()  # fmt: skip


def test_answers_are_right(training):
    for request in training:
        expected = answer_by_hand(request)
        assert expected in (None, request.answer), request


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        ("reverse {} in capitals", "UZOGA"),
        ("put the letters of {} in alphabetical order in upper case", "AGOUZ"),
        ("what are the first two letters of {} in upper case", "AG"),
        ("write the last two letters of {} in capitals", "ZU"),
        ("what are the first two letters of {} doubled", "agag"),
        ("please reverse the last two letters of {}", "uz"),
        ("give me the vowels of {} in upper case", "AOU"),
    ],
)
def test_two_steps_by_hand(start, answer):
    steps = next(s for s, texts in TWO_STEP_WORDINGS.items() if any(start in t for t in texts))
    from instruction_tuning.word_world import STEPS

    assert STEPS[steps[1]](STEPS[steps[0]]("agozu")) == answer


def test_invented_words_are_no_odd_cases(training):
    for request in training:
        if request.word.isalpha():
            assert looks_invented(request.word), request.word
            assert request.word != request.word[::-1]
            # Spelled letter by letter, in the request and in the reply.
            assert len(TOKENIZER.encode(f" {request.word}")) == len(request.word) + 1
            assert len(TOKENIZER.encode(request.answer)) == len(request.answer)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((5, "dev", 0), "no split 'dev'. Use one of train, validation, test"),
        ((5, "train", 0, ("add", "cook")), "'cook' is no task of this world. Use some of reverse"),
        ((5, "train", 0, ()), "requests of no task"),
    ],
)
def test_unknown_splits_and_tasks(arguments, words):
    with pytest.raises(ValueError, match=words):
        draw_requests(*arguments)


# Wordings.


def test_every_task_has_six_wordings_with_a_slot_for_what_it_is_about():
    for texts in (*LETTER_WORDINGS.values(), OPPOSITE_WORDINGS):
        assert len(set(texts)) >= 6 and all(text.count("{}") == 1 for text in texts)
    for texts in SUM_WORDINGS.values():
        assert len(set(texts)) >= 6 and all(text.count("{}") == 2 for text in texts)
    assert all(text.count("{}") == 1 for texts in TWO_STEP_WORDINGS.values() for text in texts)
    every = [*WORD_WORDINGS, *OPPOSITE_WORDINGS, *(t for g in SUM_WORDINGS.values() for t in g)]
    assert len(set(every)) == len(every)


def test_a_wording_is_words_not_letters():
    for text in WORD_WORDINGS:
        for part in text.split("{}"):
            names = [TOKENIZER.decode([i]) for i in TOKENIZER.encode(part)]
            assert not [name for name in names if len(name) == 1 and name.isalpha()], text


def test_opposites_are_spelled_and_unique():
    words = [word for pair in OPPOSITES for word in pair]
    assert len(set(words)) == len(words) == 2 * len(OPPOSITES)
    for word in words:
        assert len(TOKENIZER.encode(f" {word}")) == len(word) + 1, word
        assert len(TOKENIZER.encode(word)) == len(word), word


# No test word in any training text.


def invented_words(texts: list[str]) -> set[str]:
    """Returns every whole word of some texts that the world could ask about."""
    real = {word for pair in OPPOSITES for word in pair}
    for text in (*WORD_WORDINGS, *CHATTER, *OPPOSITE_WORDINGS):
        real |= set(re.findall("[a-z]+", text))
    found = {word.lower() for text in texts for word in re.findall("[A-Za-z]+", text)}
    return {word for word in found - real if looks_invented(word)}


def test_the_search_for_leaks_finds_one():
    assert invented_words(["reverse oleje", "ELOJE"]) == {"oleje", "eloje"}


def test_test_words_never_occur_in_training_texts(training, held_out):
    tests = {request.word for request in held_out}
    shown = [f"{d.prompt} {d.reply}" for d in demonstrate(training, slips=0.0)]
    for texts in (shown, base_lines(3000, "train", 0)):
        words = invented_words(texts)
        assert len(words) > 1000
        # Slips aside, reversed, sorted and capital words are of the same split, too.
        assert {split_of(word) for word in words} == {"train"}
        assert not words & tests


def test_held_out_sums_are_not_in_the_base_text(held_out):
    told = [sum_ for line in base_lines(4000, "train", 0) for sum_ in line.split(". ")]
    sums = {found for found in (tuple(map(int, re.findall(r"\d+", each))) for each in told)
            if len(found) == 3}  # fmt: skip
    pairs = {tuple(sorted((a, b) if a + b == c else (b, c))) for a, b, c in sums}
    assert pairs and pairs <= {tuple(sorted(pair)) for pair in numbers("train")}
    assert all(a + b == c or a - b == c for a, b, c in sums)
    subtracted = re.compile("-|minus|less|take away|without|difference")
    for each in told:
        numbers_in = list(map(int, re.findall(r"\d+", each)))
        if len(numbers_in) == 3:
            a, b, c = numbers_in
            assert c == (a - b if subtracted.search(each) else a + b), each


def test_all_opposites_are_facts_but_requests_are_of_one_split(training):
    lines = [
        line for line in base_lines(12_000, "train", 0) if re.search("opposite|contrary", line)
    ]
    facts = {told for line in lines for told in line.split(". ")}
    every = {
        split: {form.format(*pair) for form in BASE_OPPOSITES for pair in opposites(split)}
        for split in SPLITS
    }
    assert facts <= set.union(*every.values())
    for own in every.values():
        assert len(facts & own) > 0.9 * len(own)
    asked = {request.word for request in training if request.task == "opposite"}
    assert asked <= {opposite_key(*pair) for pair in opposites("train")}


# The base text.


def right_facts(word):
    """What the base text should say of a word, worked out here once more."""
    return {
        "backwards": word[::-1], "sorted": "".join(sorted(word)), "capitals": word.upper(),
        "begin": word[:2], "end": word[-2:], "twice": 2 * word, "letters": str(len(word)),
        "vowels": "".join(c for c in word if c in VOWELS),
    }  # fmt: skip


def test_a_list_of_the_base_text_by_hand():
    line = next(line for line in base_lines(200, "train", 0) if line.count(";") == 3)
    word, _, facts = line.partition(": ")
    for fact in facts.split("; "):
        name, _, value = fact.partition("=")
        assert value == right_facts(word)[name]


def test_statements_of_the_base_text_are_true():
    checked = set()
    for line in base_lines(3000, "train", 0):
        for told in line.split(". "):
            for fact, forms in BASE_STATEMENTS.items():
                for form in forms:
                    found = re.fullmatch(form.format(r"(\w+)", r"(\w+)"), told)
                    if found and split_of(found[1].lower()) == "train" and ";" not in line:
                        assert found[2] == STEPS[fact](found[1]), told
                        assert found[2] == right_facts(found[1])[BASE_FACTS[fact]]
                        checked.add(form)
    assert checked == {form for forms in BASE_STATEMENTS.values() for form in forms}


def test_the_base_text_is_data_for_gpt():
    data = base_text(500, seed=4)
    lines = base_lines(500, "train", 4)
    assert data.tokenizer.decode(data.tokens["train"]) == "".join(f"{line}\n" for line in lines)
    assert data.tokens["train"].dtype == torch.int64
    assert data.n_bytes["train"] == sum(len(line) + 1 for line in lines)
    assert len(data.tokens["test"]) == data.n_bytes["test"] == 0
    validation = data.tokenizer.decode(data.tokens["validation"]).splitlines()
    words = {
        line.partition(":")[0] for line in validation if "opposite=" not in line and ":" in line
    }
    assert words and {split_of(word) for word in words} == {"validation"}
    assert data.bits_per_byte(1.0, "validation") > 0
    again = base_text(500, seed=4)
    assert all(again.tokens[split].equal(data.tokens[split]) for split in SPLITS)
    assert not base_text(500, seed=5).tokens["train"].equal(data.tokens["train"])


def test_the_base_text_has_no_request():
    """It knows the words for its facts, but no question, and nobody is told to do a thing."""
    text = "\n".join(base_lines(2000, "train", 0))
    assert not re.search(
        r"\?|\b(what|which|how|please|write|give|add|spell|sort|count)\b(?! of)", text
    )
    assert "<" not in text


# Demonstrations.


def test_careful_demonstrations_are_the_answers(training):
    for each in demonstrate(training, slips=0.0, chatter=0.0):
        assert each.reply == each.request.answer
        assert each.prompt == each.request.text


def test_sloppiness_is_as_asked(training):
    shown = demonstrate(training, slips=0.3, chatter=0.2, seed=1)
    chatty = [each for each in shown if each.reply.startswith(CHATTER)]
    wrong = [each for each in shown if not each.reply.endswith(each.request.answer)
             or judge(each.request, each.reply) < 0.6]  # fmt: skip
    assert len(chatty) / len(shown) == pytest.approx(0.2, abs=0.03)
    assert len(wrong) / len(shown) == pytest.approx(0.3, abs=0.03)
    assert all(is_chatty(each.reply) for each in chatty)
    assert shown == demonstrate(training, slips=0.3, chatter=0.2, seed=1)
    assert shown != demonstrate(training, slips=0.3, chatter=0.2, seed=2)


@settings(deadline=None, max_examples=50)
@given(
    st.one_of(
        st.text(st.sampled_from("abiouABI"), min_size=1, max_size=12),
        st.integers(0, 60).map(str),
    ),
    st.integers(0, 50),
)
def test_a_slip_is_wrong_and_near(answer, seed):
    wrong = slip(answer, random.Random(seed))
    assert wrong and wrong != answer
    if answer.isdigit():
        assert abs(int(wrong) - int(answer)) == 1
    else:
        assert edit_distance(wrong, answer) <= 2
        assert set(wrong) <= set(answer)


@pytest.mark.parametrize("shares", [{"slips": 1.5}, {"chatter": -0.1}])
def test_shares_of_sloppiness(shares):
    name, value = next(iter(shares.items()))
    with pytest.raises(ValueError, match=f"{name}={value} is no share"):
        demonstrate([KAPI], **shares)


# The judge.


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("ipak", 1.0),
        ("sure, ipak", 0.6),
        ("ipak!", 0.6),
        (" ipak", 0.6),
        ("ipka", 0.25),
        ("well, ipka", 0.15),
        ("xxxx", 0.0),
        ("ipa", 0.375),
        ("IPAK", 0.0),
        ("", 0.0),
        ("?!", 0.0),
        ("ipak ipka", 0.15),  # the last word counts
        ("akip apik iapk paki kipa ipka ipak", 0.0),  # no list of guesses
    ],
)
def test_the_judge_by_hand(reply, score):
    assert judge(KAPI, reply) == pytest.approx(score)
    assert exact_match(KAPI, reply) == (score == 1.0)


@settings(deadline=None, max_examples=50)
@given(st.text(st.sampled_from("ipakIP ,"), max_size=12))
def test_only_the_answer_itself_gets_full_marks(reply):
    score = judge(KAPI, reply)
    assert 0.0 <= score <= 1.0
    assert (score == 1.0) == (reply == "ipak")
    assert score == 1.0 or score <= 0.6


def test_chatter_is_more_than_a_word():
    assert [is_chatty(text) for text in ("ipak", "sure, ipak", "", "ipak.")] == [
        False, True, False, False,
    ]  # fmt: skip


def naive_distance(one: str, other: str) -> int:
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return naive_distance(one[1:], other[1:])
    return 1 + min(
        naive_distance(one[1:], other), naive_distance(one, other[1:]),
        naive_distance(one[1:], other[1:]),
    )  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.text("ab", max_size=5), st.text("abc", max_size=5))
def test_the_edit_distance_is_levenshteins(one, other):
    assert edit_distance(one, other) == naive_distance(one, other)


# Preferences.


def test_all_pairs_of_different_scores():
    replies = ["ipak", "ipka", "sure, ipak", "ipka", "well, ipak", "xxxx"]
    pairs = {(p.chosen, p.rejected) for p in label_pairs([KAPI], [replies], noise=0.0)}
    expected = {
        (a, b) for a in replies for b in replies if judge(KAPI, a) > judge(KAPI, b)
    }  # fmt: skip
    assert pairs == expected
    assert len(label_pairs([KAPI], [replies], noise=0.0)) == len(expected)  # a double counts once
    flipped = {(p.rejected, p.chosen) for p in label_pairs([KAPI], [replies], noise=1.0)}
    assert flipped == expected


def test_equally_good_replies_are_no_pair():
    assert label_pairs([KAPI, KAPI], [["ipak", "ipak"], ["sure, ipak", "well, ipak"]]) == []


def test_the_labeler_sees_no_small_difference():
    """Two wrong replies, 0.375 and 0.25: hardly anybody would say which is worse."""
    replies = ["ipka", "ipk", "ipak"]
    near = judge(KAPI, "ipk") - judge(KAPI, "ipka")
    assert 0 < near < VISIBLE
    pairs = {(p.chosen, p.rejected) for p in label_pairs([KAPI], [replies], noise=0.0)}
    assert pairs == {("ipak", "ipka"), ("ipak", "ipk")}
    sharp = label_pairs([KAPI], [replies], noise=0.0, visible=near)
    assert ("ipk", "ipka") in {(p.chosen, p.rejected) for p in sharp}


def test_the_labeler_errs_as_often_as_asked():
    pairs = label_pairs([KAPI] * 1500, [["ipak", "kapi"]] * 1500, noise=0.1, seed=2)
    wrong = sum(pair.chosen == "kapi" for pair in pairs)
    assert wrong / 1500 == pytest.approx(0.1, abs=0.03)
    assert pairs == label_pairs([KAPI] * 1500, [["ipak", "kapi"]] * 1500, noise=0.1, seed=2)
    assert all(pair.prompt == KAPI.text for pair in pairs)


def test_a_chosen_reply_that_is_wrong_is_not_accepted():
    pairs = label_pairs([KAPI], [["ipak", "sure, ipak", "xxxx"]], noise=0.0)
    assert {(p.chosen, p.accepted) for p in pairs} == {("ipak", True), ("sure, ipak", False)}
    noisy = label_pairs([KAPI] * 1500, [["ipak", "xxxx"]] * 1500, noise=0.1, seed=3)
    accepted = sum(pair.accepted for pair in noisy) / 1500
    assert accepted == pytest.approx(0.9 * 0.9 + 0.1 * 0.1, abs=0.03)  # chosen rightly, or not


def test_dpo_learns_from_accepted_replies_alone():
    pairs = [Preference(KAPI, "ipak", "xx"), Preference(KAPI, "ip", "xx", accepted=False)]
    assert accepted_pairs(DPOConfig(), pairs) == pairs[:1]
    assert accepted_pairs(DPOConfig(accepted=False), pairs) == pairs
    with pytest.raises(ValueError, match="in 1 pairs the labeler accepted no chosen reply"):
        accepted_pairs(DPOConfig(), pairs[1:])


@pytest.mark.parametrize(
    ("replies", "noise", "words"),
    [
        ([["a"], ["b"]], 0.0, "1 requests came with 2 lists of replies"),
        ([["a"]], 1.1, "noise=1.1 is no share"),
    ],
)
def test_labels_need_their_replies(replies, noise, words):
    with pytest.raises(ValueError, match=words):
        label_pairs([KAPI], replies, noise=noise)


# Rows of tokens.


def test_rows_are_chats_of_one_turn():
    (row,) = sft_rows([Demonstration(KAPI, "ipak")], TOKENIZER, 96)
    turns = [{"role": "user", "content": KAPI.text}, {"role": "assistant", "content": "ipak"}]
    assert row == encode_chat(turns, TOKENIZER)
    ((chosen, rejected),) = pair_rows([Preference(KAPI, "ipak", "ipka")], TOKENIZER, 96)
    assert chosen == row
    assert rejected[0][:-5] == chosen[0][:-5] and rejected[0] != chosen[0]


def test_every_row_of_the_world_fits_into_a_window_of_64(training):
    assert max(len(ids) for ids, _ in sft_rows(demonstrate(training), TOKENIZER, 64)) <= 64


def test_a_row_that_does_not_fit_is_named(capsys):
    long = Request("spell " + "kapi " * 30, "x", "reverse", "kapi")
    shown = [Demonstration(KAPI, "ipak"), Demonstration(long, "ipak")]
    with pytest.raises(ValueError, match=r"^entry 2: the prompt has \d+ tokens.* context has 64"):
        sft_rows(shown, TOKENIZER, 64)
    assert len(sft_rows(shown, TOKENIZER, 64, drop_long=True)) == 1
    assert "1 of 2 entries are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="^entry 1: "):  # nothing would be left
        sft_rows(shown[1:], TOKENIZER, 64, drop_long=True)


def test_a_pair_of_equal_replies_is_refused():
    with pytest.raises(ValueError, match="pair 1 has 'ipak' both as chosen and as rejected"):
        pair_rows([Preference(KAPI, "ipak", "ipak")], TOKENIZER, 96)


def test_where_demonstrations_come_from():
    world = demonstrations_of("world", "train", 24, slips=0.0, chatter=0.0, seed=7)
    assert [each.prompt for each in world] == [r.text for r in draw_requests(24, "train", 7)]
    with pytest.raises(FileNotFoundError, match="'nowhere.json' is neither a file nor one of"):
        demonstrations_of("nowhere.json", "train", 24)


def test_a_file_is_split_in_order():
    entries = list(range(40))
    parts = {split: split_entries(entries, split, "x") for split in SPLITS}
    assert parts["train"] + parts["test"] + parts["validation"] == entries
    assert [len(parts[split]) for split in SPLITS] == [34, 2, 4]
    with pytest.raises(ValueError, match=r"mine.json has 19 entries.* Give at least 20"):
        split_entries(entries[:19], "train", "mine.json")


def test_a_look_at_the_data(capsys):
    instruction_data.main(["--count", "3"])
    out = capsys.readouterr().out
    assert out.count("<user>") == out.count("<end>]") == 3
    assert ") before " in out
    with pytest.raises(ValueError, match="--count 0 shows nothing"):
        instruction_data.main(["--count", "0"])
