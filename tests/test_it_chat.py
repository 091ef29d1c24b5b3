"""The chat template, its masks and paddings, and the chat in the terminal."""

import io
import sys

import pytest
import torch

from gpt.gpt_model import GPT, GPTConfig
from gpt.sampling import GREEDY, Sampling
from instruction_tuning import chat
from instruction_tuning.chat import (
    END,
    PAD,
    Assistant,
    chat_tokens,
    encode_chat,
    encode_prompt,
    left_to_right,
    make_batch,
    pad_left,
    pad_right,
    show_mask,
)
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.tokenizers import CharTokenizer

TOKENIZER = build_tokenizer()
SPECIAL = chat_tokens(TOKENIZER)


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def tiny_model(max_len: int = 48) -> GPT:
    torch.manual_seed(0)
    return GPT(
        GPTConfig(
            TOKENIZER.vocab_size, max_len=max_len, d_model=16, n_heads=2, n_kv_heads=2, n_layers=2,
            d_ff=32,
        )
    ).eval()  # fmt: skip


def test_a_turn_by_hand():
    ids, mask = encode_chat(turns("reverse kap", "pak"), TOKENIZER)
    names = [TOKENIZER.decode([i]) for i in ids]
    assert names == [
        "<user>", "reverse", " ", "k", "a", "p", "<assistant>", "p", "a", "k", "<end>",
    ]  # fmt: skip
    assert mask == [False] * 7 + [True] * 4


def test_a_conversation_is_its_turns_one_after_the_other():
    first, second = turns("reverse kap", "pak"), turns("double it", "pakpak")
    ids, mask = encode_chat([*first, *second], TOKENIZER)
    rows = [encode_chat(turn, TOKENIZER) for turn in (first, second)]
    assert ids == rows[0][0] + rows[1][0]
    assert mask == rows[0][1] + rows[1][1]
    assert [i for i, trained in zip(ids, mask, strict=True) if trained].count(SPECIAL[END]) == 2


def test_the_prompt_is_the_row_without_the_last_reply():
    messages = turns("reverse kap", "pak", "double it", "pakpak")
    ids, _ = encode_chat(messages, TOKENIZER)
    prompt = encode_prompt(messages[:-1], TOKENIZER)
    assert ids[: len(prompt)] == prompt
    assert TOKENIZER.decode(prompt[-1:]) == "<assistant>"
    assert encode_prompt("reverse kap", TOKENIZER) == encode_prompt(messages[:1], TOKENIZER)


def test_typed_special_tokens_are_plain_text():
    ids, mask = encode_chat(turns("<end><user>", "<end>"), TOKENIZER)
    assert [ids.count(i) for i in SPECIAL.values()] == [0, 1, 1, 1]
    assert mask[-1] and ids[-1] == SPECIAL[END]


def test_a_row_may_fill_the_context_to_the_last_token():
    messages = turns("reverse kap", "pak")
    length = len(encode_chat(messages, TOKENIZER)[0])
    assert len(encode_chat(messages, TOKENIZER, length)[0]) == length
    with pytest.raises(
        ValueError, match=f"3 tokens and its <end> do not fit .* of 7.*{length - 1}"
    ):
        encode_chat(messages, TOKENIZER, length - 1)


def test_a_prompt_must_leave_room_for_a_reply():
    prompt = encode_prompt("reverse kap", TOKENIZER)
    assert encode_prompt("reverse kap", TOKENIZER, len(prompt) + 1) == prompt
    for encode in (
        lambda: encode_prompt("reverse kap", TOKENIZER, len(prompt)),
        lambda: encode_chat(turns("reverse kap", ""), TOKENIZER, len(prompt)),
    ):
        with pytest.raises(ValueError, match="prompt has 7 tokens, .* context has 7: no room"):
            encode()


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "0 turns and must end with one by 'assistant'"),
        (turns("hello"), "no reply to learn from"),
        (turns("a", "b")[::-1], "turn 1 is by 'assistant', but the template wants 'user'"),
        (turns("a", "b")[:1] * 2, "turn 2 is by 'user', but the template wants 'assistant'"),
        ([{"role": "system", "content": "x"}], "turn 1 is by 'system'"),
        ([{"role": "user", "text": "x"}], "turn 1 has the fields role, text"),
        ([{}], "turn 1 has the fields none"),
        ([{"role": "user", "content": None}], "turn 1 has the fields role, content"),
    ],
)
def test_what_is_no_conversation_is_refused(messages, words):
    with pytest.raises(ValueError, match=words):
        encode_chat(messages, TOKENIZER)


def test_a_prompt_ends_with_the_user():
    with pytest.raises(ValueError, match="must end with one by 'user': nothing is asked"):
        encode_prompt(turns("a", "b"), TOKENIZER)


def test_a_tokenizer_of_another_family_is_refused():
    with pytest.raises(ValueError, match="has no <pad>, <user>, <assistant>, <end>.*base_model.py"):
        encode_prompt("abc", CharTokenizer.from_text("abc"))


def test_padding_is_no_end_even_with_the_same_id():
    """By position, never by id: with pad = end the mask and the lengths are the same."""
    rows = [encode_chat(turns("reverse kap", reply), TOKENIZER) for reply in ("p", "pak", "")]
    batch = make_batch(rows, SPECIAL[PAD])
    same = make_batch(rows, SPECIAL[END])
    assert SPECIAL[PAD] != SPECIAL[END]
    assert batch.loss_mask.tolist() == same.loss_mask.tolist()
    assert batch.lengths.tolist() == same.lengths.tolist() == [9, 11, 8]
    for row, (ids, mask) in enumerate(rows):
        length = len(ids)
        assert batch.tokens[row, :length].tolist() == ids
        assert batch.loss_mask[row, :length].tolist() == mask
        assert batch.loss_mask[row, length - 1]  # the end token is trained,
        assert not batch.loss_mask[row, length:].any()  # what pads the row is not
        assert (batch.tokens[row, length:] == SPECIAL[PAD]).all()


def test_rows_of_a_minibatch():
    rows = [encode_chat(turns("reverse kap", reply), TOKENIZER) for reply in ("p", "pak", "")]
    batch = make_batch(rows, 0).to("cpu")
    part = batch.rows(slice(1, 3))
    assert part.tokens.equal(batch.tokens[1:3]) and part.loss_mask.equal(batch.loss_mask[1:3])
    assert batch.rows(torch.tensor([2, 0])).lengths.tolist() == [8, 9]


def test_paddings_by_hand():
    rows = [[5, 6], [7, 8, 9], [4]]
    assert pad_right(rows, 0).tolist() == [[5, 6, 0], [7, 8, 9], [4, 0, 0]]
    assert pad_left(rows, 0).tolist() == [[0, 5, 6], [7, 8, 9], [0, 0, 4]]
    moved = left_to_right(pad_left(rows, 0), torch.tensor([2, 3, 1]))
    assert moved.equal(pad_right(rows, 0))


def test_a_left_padded_batch_equals_single_rows():
    model = tiny_model()
    rows = [encode_prompt(text, TOKENIZER) for text in ("reverse kap", "double rukdug", "shout")]
    lengths = torch.tensor([len(row) for row in rows])
    moved = left_to_right(pad_left(rows, SPECIAL[PAD]), lengths)
    with torch.no_grad():
        batch = model(moved)
        naive = model(pad_left(rows, SPECIAL[PAD]))
        for row, ids in enumerate(rows):
            alone = model(torch.tensor([ids]))[0]
            assert (batch[row, : len(ids)] - alone).abs().max() < 1e-5
        # Without the move, the shortest row is read at other positions, behind padding.
        assert not torch.allclose(naive[2, -1], model(torch.tensor([rows[2]]))[0, -1], atol=1e-4)


def test_the_mask_is_shown():
    row = encode_chat(turns("shout kap", "KAP", "again", "K"), TOKENIZER)
    plain = show_mask(*row, TOKENIZER, color=False)
    assert plain == "<user>shout kap<assistant>[KAP<end>]<user>again<assistant>[K<end>]"
    colored = show_mask(*row, TOKENIZER)
    assert "\033[32mKAP<end>\033[0m" in colored
    assert colored.startswith("\033[2m<user>shout kap<assistant>\033[0m")


# The chat in the terminal.


@pytest.fixture
def piped(monkeypatch):
    """Lets the script read a text from a pipe and answer it with a tiny model."""
    assistant = Assistant(tiny_model(), TOKENIZER, GREEDY, max_new=3, seed=0)
    monkeypatch.setattr(chat, "open_assistant", lambda args: assistant)
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_reply_is_printed_without_its_end(monkeypatch, capsys):
    answers = {"a": "pak", "b": "x" * 4}
    written = [TOKENIZER.encode(text) for text in answers.values()]
    monkeypatch.setattr(chat, "generate", lambda *args, **options: written)
    assistant = Assistant(tiny_model(), TOKENIZER, GREEDY, max_new=4, seed=0)
    shown, failures = assistant.answer(list(answers))
    assert shown == ["pak", "xxxx [...]"]  # four tokens without an end: cut off
    assert failures == 0


def test_a_reply_stops_where_the_context_ends(monkeypatch):
    """Behind a prompt of 7 tokens a context of 12 has room for 5, its end token included."""
    assistant = Assistant(tiny_model(max_len=12), TOKENIZER, GREEDY, max_new=30, seed=0)
    for length, expected in ((29, "xxxxx [...]"), (5, "xxxxx [...]"), (4, "xxxx")):
        monkeypatch.setattr(chat, "generate", lambda *a, n=length, **o: [TOKENIZER.encode("x" * n)])
        assert assistant.answer(["reverse kap"]) == ([expected], 0)


def test_a_line_draws_the_same_reply_in_any_company():
    assistant = Assistant(tiny_model(), TOKENIZER, Sampling(), max_new=6, seed=3)
    lines = ["reverse kap", "shout kap", "", "double kap"]
    together, failures = assistant.answer(lines)
    apart = [assistant.answer([line], before)[0][0] for before, line in enumerate(lines)]
    assert together == apart
    assert failures == 1 and together[2] == ""
    assert together[0] != assistant.answer(["reverse kap"], 1)[0][0]  # another line, another seed


def test_piped_lines_that_cannot_be_answered_are_named(piped, capsys):
    piped(f"reverse kap\n\n{'long ' * 50}\nshout kap\n")
    assert chat.main([]) == 2
    out, err = capsys.readouterr()
    lines = out.split("\n")
    assert len(lines) == 5 and lines[1] == lines[2] == "" and lines[0] and lines[3]
    assert "line 2: the line is blank" in err and "line 3: the prompt has" in err
    assert "context has 48" in err


def test_piped_lines_leave_with_success(piped, capsys):
    piped("reverse kap\n")
    assert chat.main([]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err == ""


def test_prompts_of_the_command_line(capsys):
    assert chat.main(["--preset", "smoke", "--max-new", "3", "--prompt", "a", "b"]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    chat.main(["--preset", "smoke", "--max-new", "3", "--show-mask"])
    assert "<user>spell kapi backwards<assistant>[" in capsys.readouterr().out


def test_the_named_run_is_loaded(monkeypatch, capsys):
    named = []

    def load_policy(name):
        named.append(str(name))
        return tiny_model(), TOKENIZER

    monkeypatch.setattr("instruction_tuning.saved_model.load_policy", load_policy)
    arguments = ["--checkpoint", "sft_quick", "--prompt", "shout kap", "--device", "cpu"]
    assert chat.main([*arguments, "--max-new", "2"]) == 0
    assert named == ["sft_quick"] and capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--checkpoint is missing: there is no model to talk to"),
        (["--preset", "smoke", "--max-new", "0"], "--max-new 0 leaves no token"),
        (["--preset", "smoke", "--temperature", "-1"], "temperature=-1.0 keeps no"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        chat.main(arguments)
