"""What a policy is worth: statistics by enumeration, scores of policies whose replies are known."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
import torch
from torch import Tensor

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.sampling import GREEDY, Sampling
from instruction_tuning import evaluate as script
from instruction_tuning import replies as replies_module
from instruction_tuning.chat_template import END, chat_tokens, encode_prompt
from instruction_tuning.evaluate import untrained_model
from instruction_tuning.replies import Reply, kl_to, write_replies
from instruction_tuning.reward_model import RewardModel, score_replies
from instruction_tuning.sample_statistics import best_of_n, best_of_n_kl, pass_at_k, win_rate
from instruction_tuning.score_tables import samples_table, scores_table, tasks_table
from instruction_tuning.scores import Samples, evaluate, sample_numbers, sample_often
from instruction_tuning.word_world import TASKS, Request, draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
REQUESTS = draw_requests(24, "test", 0)


def random_policy(seed: int, scale: float = 1.0) -> GPT:
    """A tiny GPT-2 whose distributions are far from uniform."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(TOKENIZER.vocab_size, max_len=96, d_model=16, n_heads=2, n_kv_heads=2,
                          n_layers=1, d_ff=32)).eval()  # fmt: skip
    with torch.no_grad():
        model.head.weight.mul_(30.0 * scale)
    return model


def test_pass_at_k_and_best_of_n_are_means_over_all_subsets() -> None:
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(5, 7, generator=generator) < 0.3  # (N, G)
    rewards = torch.randn(5, 7, generator=generator)
    values = torch.rand(5, 7, generator=generator)
    for n in (1, 2, 4, 7):
        passed, chosen = [], []
        for subset in combinations(range(7), n):
            columns = torch.tensor(subset)
            passed.append(right[:, columns].any(dim=1).double().mean().item())
            best = rewards[:, columns].argmax(dim=1, keepdim=True)
            chosen.append(values[:, columns].gather(1, best).double().mean().item())
        assert pass_at_k(right, n) == pytest.approx(fmean(passed), abs=1e-6)
        assert best_of_n(rewards, values, n) == pytest.approx(fmean(chosen), abs=1e-6)


def test_a_perfect_reward_reaches_pass_at_k() -> None:
    right = torch.rand(9, 8, generator=torch.Generator().manual_seed(1)) < 0.2
    for n in (1, 2, 8):
        assert best_of_n(right.float(), right, n) == pytest.approx(pass_at_k(right, n))
        assert best_of_n(-right.float(), right, n) <= pass_at_k(right, 1) + 1e-9


@pytest.mark.parametrize("count", [0, 5])
def test_more_replies_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of 4 replies cannot be chosen.*Use 1 to 4"):
        pass_at_k(torch.zeros(2, 4, dtype=torch.bool), count)
    with pytest.raises(ValueError, match="cannot be chosen"):
        best_of_n(torch.zeros(2, 4), torch.zeros(2, 4), count)


def test_best_of_n_kl_is_that_of_a_distribution_one_can_list() -> None:
    """Of m equally likely replies in the order of their reward the best of n is known exactly."""
    m, n = 20_000, 4
    places = torch.arange(m + 1, dtype=torch.float64) / m
    chances = places[1:] ** n - places[:-1] ** n
    kl = (chances * (chances * m).log()).sum().item()
    assert best_of_n_kl(n) == pytest.approx(kl, abs=1e-3)


def test_a_win_rate_counts_ties_half_and_both_sides_add_up_to_one() -> None:
    ours, theirs = [1.0, 0.6, 0.0, 0.6], [0.6, 0.6, 0.2, 1.0]
    assert win_rate(ours, theirs) == 0.375
    assert win_rate(ours, theirs) + win_rate(theirs, ours) == 1.0


def test_replies_do_not_depend_on_how_many_are_written_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = random_policy(1, scale=0.5)
    options = {"samples": 2, "seed": 5, "max_new": 6}
    whole = write_replies(policy, TOKENIZER, REQUESTS[:6], Sampling(), **options)
    monkeypatch.setattr(replies_module, "TOGETHER", 4)
    parts = write_replies(policy, TOKENIZER, REQUESTS[:6], Sampling(), **options)
    assert [reply.tokens for reply in whole] == [reply.tokens for reply in parts]
    assert len(whole) == 12 and whole[0].prompt == whole[1].prompt != whole[2].prompt
    assert len({tuple(reply.tokens) for reply in whole}) > 6  # no two share their draws
    for reply in whole:
        assert reply.finished == (reply.tokens[-1] == chat_tokens(TOKENIZER)[END])
        assert "<end>" not in reply.text and len(reply.tokens) <= 6


def test_kl_is_the_mean_log_ratio_and_zero_to_oneself() -> None:
    """The chain rule's sum has the mean of the usual estimator, log p - log q of the sample."""
    policy, reference = random_policy(1), random_policy(2, scale=0.3)
    requests = [REQUESTS[0]]
    replies = write_replies(policy, TOKENIZER, requests, Sampling(), samples=400, max_new=3)
    assert max(kl_to(policy, policy, replies[:8])) < 1e-6
    distances = kl_to(reference, policy, replies)
    assert min(distances) >= 0
    ratios = []
    with torch.no_grad():
        for reply in replies:
            row = torch.tensor([reply.prompt + reply.tokens])
            start = len(reply.prompt) - 1
            p, q = (model(row)[0, start:-1].log_softmax(-1) for model in (policy, reference))
            chosen = torch.tensor(reply.tokens)[:, None]
            ratios.append((p.gather(1, chosen) - q.gather(1, chosen)).sum().item())
    error = torch.tensor(ratios).std().item() / len(ratios) ** 0.5
    assert fmean(distances) == pytest.approx(fmean(ratios), abs=4 * error)
    assert torch.tensor(distances).std() < torch.tensor(ratios).std()  # and it is less noisy


def written(texts: list[str], finished: bool = True) -> list[Reply]:
    end = [chat_tokens(TOKENIZER)[END]] if finished else []
    return [
        Reply(encode_prompt(request.text, TOKENIZER), TOKENIZER.encode(text) + end, text, finished)
        for request, text in zip(REQUESTS, texts, strict=False)
    ]


def test_scores_of_known_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedily all is right; at temperature 1 the first half chats and the rest is right."""
    answers = [request.answer for request in REQUESTS]
    half = len(answers) // 2
    chatty = [f"sure, {answer}" for answer in answers[:half]] + answers[half:]

    def pretend(_model: object, _tokenizer: object, _requests: object, sampling: Sampling,
                **_options: object) -> list[Reply]:  # fmt: skip
        return written(answers if sampling == GREEDY else chatty)

    monkeypatch.setattr("instruction_tuning.scores.write_replies", pretend)
    scores = evaluate(random_policy(0), TOKENIZER, REQUESTS)
    assert (scores.exact, scores.exact_sampled, scores.chatter) == (1.0, 0.5, 0.5)
    assert (scores.judge, scores.judge_sampled) == (1.0, pytest.approx(0.8))
    assert scores.kl is None and "kl" not in scores.numbers()
    assert list(scores.tasks) == list(TASKS) and set(scores.tasks.values()) == {1.0}
    lengths = [len(reply.tokens) for reply in written(chatty)]
    assert scores.length == pytest.approx(fmean(lengths))
    assert scores.numbers()["task_sampled.reverse"] == scores.tasks_sampled["reverse"]


def test_a_right_reply_without_an_end_is_not_right(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [request.answer for request in REQUESTS]
    monkeypatch.setattr(
        "instruction_tuning.scores.write_replies", lambda *_a, **_o: written(answers, False)
    )
    assert evaluate(random_policy(0), TOKENIZER, REQUESTS).exact == 0.0


def test_no_request_is_refused() -> None:
    with pytest.raises(ValueError, match="no request to evaluate on"):
        evaluate(random_policy(0), TOKENIZER, [])


def test_evaluation_repeats_with_its_seed_and_measures_distance() -> None:
    policy, reference = random_policy(3), random_policy(4)
    first, again, other = (
        evaluate(policy, TOKENIZER, REQUESTS[:8], seed, reference=reference, max_new=4)
        for seed in (0, 0, 1)
    )
    assert first == again and first.kl != other.kl
    assert first.kl is not None and first.kl > 0


def test_samples_stand_with_their_requests() -> None:
    policy = random_policy(5)
    scorer = RewardModel(random_policy(6))
    torch.nn.init.normal_(scorer.head.weight)
    drawn = sample_often(policy, TOKENIZER, REQUESTS[:3], 4, 7, reward_model=scorer, max_new=4)
    assert drawn.rewards is not None and drawn.rewards.shape == drawn.right.shape == (3, 4)
    again = write_replies(policy, TOKENIZER, REQUESTS[:3], Sampling(), samples=4, seed=7, max_new=4)
    assert [text for group in drawn.texts for text in group] == [reply.text for reply in again]
    prompts, replies = [reply.prompt for reply in again], [[reply.tokens] for reply in again]
    alone = score_replies(scorer, prompts, replies)
    assert torch.allclose(drawn.rewards.flatten(), alone, atol=1e-5)


def test_numbers_and_table_of_samples() -> None:
    right = torch.tensor([[True, False, False, False], [False] * 4])
    rewards: Tensor = torch.tensor([[0.0, 3.0, 2.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    numbers = sample_numbers(Samples([["a"] * 4] * 2, right, right.float(), rewards))
    assert set(numbers) == {f"{what}.{n}" for what in ("pass", "best_of", "judge_of", "reward_of")
                            for n in (1, 2, 4)}  # fmt: skip
    assert numbers["pass.4"] == 0.5 and numbers["best_of.4"] == 0.0  # the right one looks worst
    assert numbers["best_of.1"] == numbers["pass.1"] == 0.125
    lines = samples_table(numbers).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "4"]
    assert "best-of-n" not in samples_table({"pass.1": 0.5})


def test_tables_name_what_was_not_measured() -> None:
    request = Request("say a", "a", "reverse", "a")
    assert request.task in TASKS
    numbers = {"exact": 0.5, "exact_sampled": 0.25, "judge_sampled": 0.4, "chatter": 0.1,
               "length": 5.0, "task.reverse": 0.5, "task_sampled.reverse": 0.25}  # fmt: skip
    table = scores_table({"base": numbers, "tuned": {**numbers, "kl": 1.5}})
    assert "KL" in table and "1.50" in table and " - " in table and "seconds" not in table
    assert tasks_table({"base": numbers}).splitlines()[2].split() == ["reverse", "50.0", "25.0"]


def test_the_script_needs_a_model_and_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="--checkpoint is missing"):
        script.main([])
    scores = script.main(["--preset", "smoke", "--requests", "12", "--device", "cpu"])
    shown = capsys.readouterr().out
    assert 0 <= scores.exact <= 1
    assert "12 requests of the test split" in shown and "pass@n" in shown and "two_step" in shown
    with pytest.raises(ValueError, match="samples=0"):
        script.main(["--preset", "smoke", "--samples", "0"])


def test_an_untrained_model_answers_nothing() -> None:
    assert evaluate(untrained_model(TOKENIZER), TOKENIZER, REQUESTS, max_new=4).exact == 0.0
