"""Writing: strategies by hand, cached = uncached for each, ragged batches, the window's edge."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from gpt.beam_search import beam_search
from gpt.generation import generate, generate_text, load_model, main, stream
from gpt.gpt_config import RECIPES
from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from gpt.sampling import (
    GREEDY,
    Sampling,
    distribution,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)
from gpt.verify_structure import small_model
from tutorial_kit.checkpoints import save_checkpoint
from tutorial_kit.config import config_to_dict
from tutorial_kit.tokenizers import CharTokenizer

STRATEGIES = {
    "greedy": GREEDY,
    "temperature": Sampling(temperature=0.7),
    "top_k": Sampling(top_k=5),
    "top_p": Sampling(top_p=0.8),
    "min_p": Sampling(min_p=0.2),
    "penalty": Sampling(temperature=0.0, repetition_penalty=1.5),
    "all": Sampling(0.9, 20, 0.95, 0.01, 1.1),
}
LOG_P = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5, 3, 5], [8]]


def kept(logits: torch.Tensor) -> list[int]:
    return logits[0].isfinite().nonzero().flatten().tolist()


def test_filters_by_hand() -> None:
    assert kept(keep_top_k(LOG_P, 2)) == [0, 1]
    assert kept(keep_top_k(LOG_P, 9)) == [0, 1, 2, 3]
    assert kept(keep_top_p(LOG_P, 0.5)) == [0]
    assert kept(keep_top_p(LOG_P, 0.51)) == [0, 1]
    assert kept(keep_top_p(LOG_P, 1e-9)) == [0]
    assert kept(keep_min_p(LOG_P, 0.3 - 1e-6)) == [0, 1, 2]  # 0.15 is 0.3 of the largest
    assert kept(keep_min_p(LOG_P, 0.3 + 1e-6)) == [0, 1]


def test_penalty_and_temperature_by_hand() -> None:
    logits, seen = torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[True, True, False]])
    assert penalize_repetition(logits, seen, 2.0).tolist() == [[1.0, -4.0, 1.0]]
    flat = distribution(torch.tensor([[0.0, math.log(4.0)]]), Sampling(temperature=2.0))
    assert flat.tolist() == [pytest.approx([1 / 3, 2 / 3])]
    assert distribution(LOG_P, GREEDY).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_draws_follow_the_distribution() -> None:
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens = draw(LOG_P.exp().expand(1000, 4), uniforms)
    assert tokens.bincount().tolist() == [500, 250, 150, 100]
    certain = draw(torch.tensor([[0.0, 1.0, 0.0]]), torch.zeros(1, dtype=torch.float64))
    assert certain.tolist() == [1]  # never a token of probability 0


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("sampling", STRATEGIES.values(), ids=STRATEGIES)
def test_cached_equals_uncached_past_the_window(recipe: str, sampling: Sampling) -> None:
    """40 new tokens behind ragged prompts pass the window of 16 several times."""
    model = small_model(recipe)
    cached = generate(model, PROMPTS, 40, sampling, seed=3)
    assert cached == generate(model, PROMPTS, 40, sampling, seed=3, use_cache=False)
    alone = [generate(model, [p], 40, sampling, seed=3 + i)[0] for i, p in enumerate(PROMPTS)]
    assert cached == alone
    assert cached[0] == list(stream(model, PROMPTS[0], 40, sampling, seed=3))


def test_seeds_decide_the_text() -> None:
    model = small_model("modern")
    texts = [generate(model, PROMPTS[:1], 20, Sampling(), seed=seed)[0] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    state = torch.get_rng_state()
    generate(model, PROMPTS, 5, Sampling())
    assert torch.equal(state, torch.get_rng_state())  # the global generator is left alone


def test_a_stop_token_ends_its_row_only() -> None:
    model = small_model("gpt2")
    free = generate(model, PROMPTS, 30, Sampling(), seed=1)
    stop = free[0][4]
    stopped = generate(model, PROMPTS, 30, Sampling(), seed=1, stop=[stop])
    for whole, cut in zip(free, stopped, strict=True):
        assert cut == list(itertools.takewhile(lambda token: token != stop, whole))


def exhaustive(model: GPT, prompt: list[int], length: int) -> list[int]:
    """The most probable continuation of a model with a tiny vocabulary, by trying all."""
    best, best_score = [], -math.inf
    for tokens in itertools.product(range(model.config.vocab_size), repeat=length):
        log_p = model(torch.tensor([[*prompt, *tokens]])).log_softmax(-1)[0]
        score = sum(log_p[len(prompt) - 1 + i, t].item() for i, t in enumerate(tokens))
        if score > best_score:
            best, best_score = list(tokens), score
    return best


@torch.no_grad()
def test_wide_beam_finds_the_best_text_and_beam_one_is_greedy() -> None:
    model = small_model("modern")
    assert beam_search(model, PROMPTS[0], 30, 1)[0].tokens == generate(model, PROMPTS[:1], 30)[0]
    small = small_model("gpt2")
    small.config = type(small.config)(**{**config_to_dict(small.config), "vocab_size": 5})
    small.head.weight.data = small.head.weight.data[:5]
    beams = beam_search(small, [1, 2], 4, 125)
    assert beams[0].tokens == exhaustive(small, [1, 2], 4)
    assert beams[0].score >= beams[1].score
    cached, uncached = (beam_search(model, [1], 20, 4, use_cache=use) for use in (True, False))
    assert [beam.tokens for beam in cached] == [beam.tokens for beam in uncached]


def test_bad_prompts_and_settings() -> None:
    model = small_model("gpt2")
    for prompts, text in (
        ([[]], "an empty prompt"),
        ([[1] * 17], "the prompt has 17 tokens, but the model sees only 16"),
        ([[50]], "the prompt has the token 50"),
        ([], "there is no prompt"),
    ):
        with pytest.raises(ValueError, match=text):
            generate(model, prompts, 3)
    for wrong in ({"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"min_p": 2.0},
                  {"temperature": math.nan}, {"repetition_penalty": 0.0}):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            Sampling(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beams=0 keeps no text"):
        beam_search(model, [1], 3, 0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = small_model("modern", torch.float32)
    tokenizer = CharTokenizer([chr(97 + i) for i in range(26)] + [chr(65 + i) for i in range(24)])
    state = {"model": model.state_dict(), "tokenizer": tokenizer.to_dict()}
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    save_checkpoint(path, family="gpt", config={"model": config_to_dict(model.config)}, state=state)
    return tmp_path / "run"


def test_command_line_writes_what_generate_writes(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = load_model(checkpoint)
    expected = generate_text(model, tokenizer, "abc", 12, Sampling(), seed=5)
    command = ["--checkpoint", str(checkpoint), "--prompt", "abc", "--preset", "plain"]
    main([*command, "--max-new", "12", "--seed", "5"])
    assert capsys.readouterr().out.startswith("abc" + expected)
    main([*command, "--draft", str(checkpoint), "--temperature", "0"])
    assert "100% of the draft's tokens accepted" in capsys.readouterr().out


def test_command_line_mistakes(checkpoint: Path) -> None:
    for argv, text in (
        (["--prompt", "a"], "--checkpoint is missing"),
        (["--prompt", "a b"], "' '"),
        (["--prompt", "a" * 17], "the prompt has 17 tokens"),
        (["--prompt", "a", "--stop", "ab"], "--stop 'ab' is 2 tokens"),
        (["--prompt", "a", "--top-p", "0"], "top_p=0.0 is no share"),
    ):
        given = [] if "missing" in text else ["--checkpoint", str(checkpoint)]
        with pytest.raises(ValueError, match=text):
            main([*given, *argv])
    with pytest.raises(FileNotFoundError, match="does not exist. Train first"):
        main(["--checkpoint", "no_such_run"])


def test_packed_weights_write_the_same_text() -> None:
    model = small_model("gpt2", torch.float32)
    packed = pack_weights(model)
    assert generate(packed, PROMPTS, 30) == generate(model, PROMPTS, 30)
    tokens = torch.randint(50, (2, 9))
    with torch.inference_mode():
        assert torch.allclose(packed(tokens), model(tokens), atol=1e-4)
    with pytest.raises(ValueError, match="weights='int4' is unknown"):
        pack_weights(model, "int4")
