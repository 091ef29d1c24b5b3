"""Speed: fair turns, ways of writing, LoRA merged and not, torch.compile and what if it cannot."""

from __future__ import annotations

import sys
import time

import pytest
import torch

from gpt.verify_structure import small_model
from instruction_tuning.lora import lora_layers
from optimization import compiled, decoding_speeds
from optimization.compiled import compile_model, find_compiler
from optimization.decoding_speeds import (
    held_out_prompts,
    measure_speeds,
    speculative_writer,
    writer,
)
from optimization.lora_speed import largest_difference, packed_pair, tuned_pair
from optimization.speed_experiments import after_prompt, one_by_one


def test_ways_take_turns_and_ratios_are_taken_round_by_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine becomes slower from round to round: the ratio does not notice."""
    calls: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(decoding_speeds.time, "perf_counter", lambda: clock[0])

    def way(name: str, seconds: float) -> decoding_speeds.Way:
        def write() -> int:
            calls.append(name)
            clock[0] += seconds * (1 + len(calls) // 2)
            return 10

        return write

    speeds = measure_speeds({"slow": way("slow", 3.0), "fast": way("fast", 1.0)}, "slow", rounds=4)
    assert calls == ["fast", "slow"] + ["slow", "fast", "fast", "slow"] * 2
    assert speeds["slow"].ratio == 1 and speeds["slow"].spread == 0
    assert 2.0 < speeds["fast"].ratio < 4.5


def test_the_median_rate_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 1.0, 2.0, 5.0])  # the first is not timed
    clock = [0.0]
    monkeypatch.setattr(decoding_speeds.time, "perf_counter", lambda: clock[0])

    def write() -> int:
        clock[0] += next(seconds)
        return 10

    assert measure_speeds({"one": write}, "one", rounds=3)["one"].tokens_per_s == 5.0


def test_nothing_to_measure_is_explained() -> None:
    with pytest.raises(ValueError, match="rounds=0: a median needs at least one round"):
        measure_speeds({"a": lambda: 1}, "a", rounds=0)
    with pytest.raises(ValueError, match="baseline 'b' is no way of writing: a"):
        measure_speeds({"a": lambda: 1}, "b")


def test_ways_count_what_they_write() -> None:
    model, prompts = small_model("modern", torch.float32), [[1, 2], [3, 4]]
    shares: list[float] = []
    assert writer(model, prompts, 5)() == writer(model, prompts, 5, use_cache=False)() == 10
    assert speculative_writer(model, model, prompts, 7, shares=shares)() == 14
    assert shares == [1.0, 1.0]  # a model that is its own draft accepts everything
    assert one_by_one(model, prompts, 5)() == 10
    again = after_prompt(model, [1, 2, 3], 5)
    assert again() == again() == 5  # it takes back what it has written


def test_prompts_lie_apart() -> None:
    prompts = held_out_prompts(torch.arange(1000), 4)
    assert [prompt[0] for prompt in prompts] == [0, 246, 492, 738]
    assert all(len(prompt) == 16 for prompt in prompts)


@pytest.mark.parametrize("recipe", ["gpt2", "modern"])
def test_merged_and_unmerged_say_the_same_and_not_what_the_base_says(recipe: str) -> None:
    base, tokens = small_model(recipe, torch.float32), torch.randint(50, (2, 16))
    unmerged, merged = tuned_pair(base)
    assert len(list(lora_layers(unmerged))) == 4 * base.config.n_layers
    assert not list(lora_layers(merged)) and not list(lora_layers(base))
    assert 0 < largest_difference(unmerged, merged, tokens) < 1e-5
    assert largest_difference(base, merged, tokens) > 1e-3
    packed = packed_pair(base)
    assert largest_difference(*packed, tokens) < 1e-5


def test_without_a_compiler_the_plain_model_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "find_compiler", lambda: None)
    model, tokens = small_model("modern", torch.float32), torch.randint(50, (2, 16))
    started = time.perf_counter()
    result = compile_model(model, tokens)
    assert time.perf_counter() - started < 1.0
    assert not result.works and result.model is model
    assert "no C++ compiler is installed (g++ or clang++)" in result.reason


def test_a_compiler_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the C++ compiler says: no\nand many more lines")

    monkeypatch.setattr(compiled, "find_compiler", lambda: "g++")
    monkeypatch.setattr(compiled.torch, "compile", broken)
    result = compile_model(small_model("modern", torch.float32), torch.randint(50, (2, 16)))
    assert not result.works and "\n" not in result.reason
    assert "torch.compile failed (the C++ compiler says: no)" in result.reason


def test_the_compiler_is_found_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "")
    assert find_compiler() is None
    monkeypatch.setenv("CXX", sys.executable)  # any program will do
    assert find_compiler() == sys.executable


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler is installed")
def test_a_compiled_model_gives_the_same_logits() -> None:
    model, tokens = small_model("modern", torch.float32), torch.randint(50, (2, 16))
    result = compile_model(model, tokens)
    if not result.works:
        pytest.skip(result.reason)
    with torch.no_grad():
        assert torch.allclose(result.model(tokens), model(tokens), rtol=1e-3, atol=1e-4)
    assert result.seconds > 0
