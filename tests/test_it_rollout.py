"""Rollouts: packed rows say what rows of their own say; replies come from the policy; rewards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpt.generation import generate
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.sampling import GREEDY, Sampling
from instruction_tuning import reply_batch, rewards
from instruction_tuning.chat_template import END, chat_tokens, encode_prompt
from instruction_tuning.losses import token_log_probs
from instruction_tuning.reply_batch import make_reply_batch, reply_log_probs
from instruction_tuning.request_data import load_request_data
from instruction_tuning.reward_model import RewardModel, ValueModel, score_replies
from instruction_tuning.rewards import ModelReward, check_rewards, find_reward
from instruction_tuning.rollout import Rollout, roll_out, rollout_seed, sample_replies
from instruction_tuning.rollout_config import GRPOConfig
from instruction_tuning.word_world import Request, draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.word_tokenizer import WordTokenizer

TOKENIZER = build_tokenizer()
END_ID = chat_tokens(TOKENIZER)[END]
PROMPTS = [[5, 9, 4], [7, 8, 6, 5, 30, 31, 12, 2], [11, 3, 4]]  # the last one has an end token
REPLIES = [[[20, 21, 3], [22, 3], [20, 3, 23, 24]], [[9, 3]], [[3], [14, 15, 16, 17, 3]]]


def make_policy(recipe: str = "modern", dropout: float = 0.0, vocab_size: int | None = None) -> GPT:
    torch.manual_seed(0)
    sizes = GPTConfig(vocab_size or TOKENIZER.vocab_size, 48, 16, 2, 2, 2, 32, dropout)
    model = GPT(GPTConfig(**{**vars(sizes), **RECIPES[recipe]})).eval()
    for weight in model.parameters():  # the modern recipe begins with zeros
        if weight.ndim == 2 and not weight.any():
            torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture(scope="module")
def policy() -> GPT:
    return make_policy()


def in_rows_of_their_own(model: GPT) -> list[torch.Tensor]:
    """Returns log p of each reply's tokens, one plain forward pass a reply."""
    found = []
    for prompt, group in zip(PROMPTS, REPLIES, strict=True):
        for reply in group:
            tokens = torch.tensor([prompt + reply])
            found.append(token_log_probs(model(tokens), tokens)[0, len(prompt) - 1 :])
    return found


@pytest.mark.parametrize("recipe", ["gpt2", "modern"])
@pytest.mark.parametrize("room", [1, 14, 64])
def test_packed_rows_say_what_rows_of_their_own_say(
    recipe: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients; a group cut in two, a prompt a row, all prompts in one row."""
    monkeypatch.setattr(reply_batch, "ROW", room)
    model = make_policy(recipe)
    batch = make_reply_batch(PROMPTS, REPLIES, 48)
    assert len(batch.tokens) == {1: 4, 14: 3, 64: 1}[room]
    packed, single = reply_log_probs(model, batch), in_rows_of_their_own(model)
    assert batch.mask.sum(1).tolist() == [len(row) for row in single]
    for row, length, expected in zip(packed, batch.mask.sum(1).tolist(), single, strict=True):
        assert torch.allclose(row[:length], expected, atol=1e-5)
        assert not row[length:].any()
    gradients = [
        torch.autograd.grad(sum((p * p).sum() for p in values), list(model.parameters()))
        for values in (packed, single)
    ]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_values_stand_before_the_token_that_they_are_about(policy: GPT) -> None:
    critic = ValueModel(policy)
    torch.nn.init.normal_(critic.head.weight)
    packed = critic(make_reply_batch(PROMPTS, REPLIES, 48))  # (B, L)
    row = 0
    for prompt, group in zip(PROMPTS, REPLIES, strict=True):
        for reply in group:
            x = critic.body.final_norm(critic.body.hidden(torch.tensor([prompt + reply])))
            plain = critic.head(x)[0, :, 0]  # (T,)
            expected = plain[len(prompt) - 1 : len(prompt) + len(reply) - 1]
            assert torch.allclose(packed[row, : len(reply)], expected, atol=1e-5)
            row += 1


def test_no_reply_sees_another(policy: GPT) -> None:
    before = reply_log_probs(policy, make_reply_batch(PROMPTS, REPLIES, 48))
    changed = [[[40, 41, 3], *REPLIES[0][1:]], *REPLIES[1:]]
    after = reply_log_probs(policy, make_reply_batch(PROMPTS, changed, 48))
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1:], after[1:])


def test_a_reply_that_fits_into_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="has 9 tokens and does not fit into the context of 8"):
        make_reply_batch([[5] * 5], [[[6] * 4]], 8)


def roll(model: GPT, n: int = 1, max_new: int = 6, seed: int = 3) -> Rollout:
    return roll_out(model, TOKENIZER, PROMPTS, n=n, max_new=max_new, seed=seed)


def test_log_probs_and_entropy_are_those_of_the_policy(policy: GPT) -> None:
    rollout = roll(policy, n=2)
    assert rollout.mask.shape == (6, rollout.log_probs.shape[1])
    row = 0
    for prompt, group in zip(rollout.prompts, rollout.replies, strict=True):
        for reply in group:
            log_p = policy(torch.tensor([prompt + reply]))[0, len(prompt) - 1 : -1].log_softmax(-1)
            chosen = log_p[range(len(reply)), reply]
            assert torch.allclose(rollout.log_probs[row, : len(reply)], chosen, atol=1e-5)
            entropy = -(log_p.exp() * log_p).sum(-1)
            assert torch.allclose(rollout.entropy[row, : len(reply)], entropy, atol=1e-5)
            row += 1


def test_the_mask_goes_by_place(policy: GPT) -> None:
    """An end token in a prompt is not trained; a reply's own is, and nothing behind it."""
    rollout = roll(policy, n=4, max_new=40)
    lengths = [len(reply) for group in rollout.replies for reply in group]
    assert rollout.mask.sum(1).tolist() == lengths
    for reply, ended in zip([r for g in rollout.replies for r in g], rollout.finished, strict=True):
        assert END_ID not in reply[:-1]
        assert (reply[-1] == END_ID) == ended and (ended or len(reply) == 40)


def test_replies_end_at_their_end_token_or_at_the_limit() -> None:
    model = make_policy()
    with torch.no_grad():  # every token is as likely as any other
        for weight in model.parameters():
            weight.zero_()
    replies = sample_replies(model, PROMPTS, 50, 4, END_ID, seed=0)
    flat = [reply for group in replies for reply in group]
    assert [len(group) for group in replies] == [50] * 3
    assert all(len(reply) <= 4 for reply in flat)
    assert {len(reply) for reply in flat if reply[-1] != END_ID} == {4}
    ended = rollout_of([True, False, True])
    assert ended.texts(TOKENIZER) == [TOKENIZER.decode(ids) for ids in ([20], [20, 21], [20])]


def test_replies_are_drawn_from_the_whole_distribution() -> None:
    """Temperature 1, nothing cut off: how often a token comes first is its probability."""
    model, count = make_policy(vocab_size=8), 4000
    replies = sample_replies(model, [[1, 2]], count, 1, end=0, seed=1)[0]
    often = torch.bincount(torch.tensor([reply[0] for reply in replies]), minlength=8) / count
    p = model(torch.tensor([[1, 2]]))[0, -1].softmax(-1)
    assert p.max() > 0.2 and p.min() < 0.1  # something to tell apart
    assert ((often - p).abs() < 4 * (p * (1 - p) / count).sqrt()).all()


def test_a_reply_depends_on_its_own_seed_alone(policy: GPT) -> None:
    together = sample_replies(policy, PROMPTS, 2, 6, END_ID, seed=10)
    for place, prompt in enumerate(PROMPTS):
        alone = sample_replies(policy, [prompt], 2, 6, END_ID, seed=10 + 2 * place)
        assert alone[0] == together[place]
    assert sample_replies(policy, PROMPTS, 1, 6, END_ID, 0, GREEDY) == sample_replies(
        policy, PROMPTS, 1, 6, END_ID, 9, GREEDY
    )


@pytest.mark.parametrize("sampling", [GREEDY, Sampling()])
def test_a_prompt_read_once_is_continued_as_if_it_were_read_for_each_reply(
    policy: GPT, sampling: Sampling
) -> None:
    rows = [prompt for prompt in PROMPTS for _ in range(5)]
    expected = generate(policy, rows, 6, sampling, seed=4, stop=(END_ID,))
    found = sample_replies(policy, PROMPTS, 5, 6, END_ID, 4, sampling)
    flat = [reply for group in found for reply in group]
    assert [[token for token in reply if token != END_ID] for reply in flat] == expected
    assert sampling is GREEDY or len({tuple(reply) for reply in flat}) > 10


def test_no_two_rows_of_a_run_share_a_seed() -> None:
    seeds = [rollout_seed(1, step, 8) + row for step in range(20) for row in range(8)]
    assert len(set(seeds)) == len(seeds) and rollout_seed(0, 10_000, 1024) + 1024 < min(seeds)


def test_a_prompt_without_room_for_a_reply_is_refused(policy: GPT) -> None:
    with pytest.raises(ValueError, match=r"max_new=41 are 49 tokens.*sees only 48.*Use max_new=40"):
        roll(policy, max_new=41)


REQUESTS = [Request(text, "ab", "reverse", "ba") for text in ("one", "two", "three")]


def rollout_of(finished: list[bool]) -> Rollout:
    replies = [[[20, END_ID]] if end else [[20, 21]] for end in finished]
    batch = make_reply_batch(PROMPTS, replies, 48)
    zeros = torch.zeros(batch.mask.shape)
    return Rollout(PROMPTS, replies, batch, zeros, zeros, torch.tensor(finished))


def test_the_verifier_wants_the_answer_and_its_end() -> None:
    rollout = rollout_of([True, True, False])
    reward = find_reward("verifier", TOKENIZER)
    assert reward(REQUESTS, ["ab", "abc", "ab"], rollout).tolist() == [1.0, 0.0, 0.0]


def test_the_judge_gives_part_marks() -> None:
    replies = ["ab", "sure, ab", "zz"]
    found = find_reward("judge", TOKENIZER)(REQUESTS, replies, rollout_of([True] * 3))
    assert found.tolist() == pytest.approx([1.0, 0.6, 0.0])


def test_a_reward_model_gets_a_zero_and_a_unit(policy: GPT) -> None:
    model = RewardModel(policy)
    torch.nn.init.normal_(model.head.weight, std=5.0)
    reward, rollout = ModelReward(model, missing_end=1.5), rollout_of([True, True, True])
    first = reward(REQUESTS, ["", "", ""], rollout)
    assert first.mean().item() == pytest.approx(0, abs=1e-5)
    assert first.std().item() == pytest.approx(1, abs=1e-3)
    raw = score_replies(model, rollout.prompts, rollout.replies)
    assert (first.argsort() == raw.argsort()).all()
    cut = rollout_of([True, True, False])
    expected = (
        score_replies(model, cut.prompts, cut.replies) - raw.mean()
    ) / raw.std() - torch.tensor([0, 0, 1.5])
    assert torch.allclose(reward(REQUESTS, ["", "", ""], cut), expected, atol=1e-4)


def test_rewards_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    good = torch.tensor([1.0, 0.5])
    assert check_rewards(good, 3) is good
    for bad in ("nan", "inf"):
        with pytest.raises(ValueError, match=f"reward of 1 of 2 replies is {bad} at step 3"):
            check_rewards(torch.tensor([1.0, float(bad)]), 3)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_reward("no_such_run", TOKENIZER)
    foreign = WordTokenizer(["other"])
    monkeypatch.setattr(
        rewards, "load_reward_model", lambda name: (RewardModel(make_policy()), foreign)
    )
    with pytest.raises(ValueError, match="the policy and mine were trained with different token"):
        find_reward("mine", TOKENIZER)


def test_requests_of_the_world_and_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_request_data(GRPOConfig(requests=30), TOKENIZER, 96)
    assert len(data.train) == len(data.prompts) == 30 and len(data.validation) == 240
    assert data.prompts[0] == encode_prompt(data.train[0].text, TOKENIZER)
    assert not {r.word for r in data.train} & {r.word for r in data.validation}
    assert data.train != draw_requests(30, "train", 0), "SFT has seen those"

    path = tmp_path / "mine.json"
    texts = ["say " + "x" * (60 if i == 3 else 1) for i in range(24)]
    entries = ", ".join(
        f'{{"instruction": "{text}", "input": "", "output": "{i}"}}' for i, text in enumerate(texts)
    )
    path.write_text(f"[{entries}]", encoding="utf-8")
    config = GRPOConfig(requests=30, dataset=str(path), max_new=8)
    data = load_request_data(config, TOKENIZER, 48)
    assert len(data.train) == 19 and data.train[0].answer == "0"
    assert "note: 1 of 20 train requests are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="leaves room for a reply of max_new=46"):
        load_request_data(GRPOConfig(dataset=str(path), max_new=46), TOKENIZER, 48)
