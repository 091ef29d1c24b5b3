"""The experiments that measure speed: sizes, batches, drafts, torch.compile. All sides in turns."""

from __future__ import annotations

import copy
import statistics

import torch

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from optimization.compiled import compile_model
from optimization.decoding_speeds import (
    Speed,
    Way,
    held_out_prompts,
    measure_speeds,
    speculative_writer,
    writer,
)
from optimization.experiments import (
    ALONE,
    BATCHES,
    DRAFT_TOKENS,
    LENGTHS,
    SIZES,
    TAUGHT,
    WAYS,
)
from optimization.lora_speed import packed_pair
from optimization.optimization_config import FAMILY
from optimization.optimization_figures import Point, ratios_figure
from optimization.quality_experiments import (
    data_of,
    preset_of,
    student_config,
    student_of,
    subjects,
)
from optimization.quantized_model import dynamic_model, quantize_model, stored_bytes
from tutorial_kit.experiments import (
    Study,
    experiment_figures,
    mean_and_spread,
    print_table,
    result_name,
    seed_result,
)
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result

BASE = "plain"
NEW, ROUNDS = 24, 5


def timed_result(experiment: str, label: str, speed: Speed, note: str) -> Result:
    """Returns a ratio of two ways of writing as a result; its spread is that of the rounds."""
    name = result_name(FAMILY, experiment, label)
    return Result(
        name, speed.ratio, "x", spread=speed.spread, note=note,
        command=f"python {FAMILY}/run_examples.py --only {experiment}",
    )  # fmt: skip


def random_model(config: GPTConfig) -> GPT:
    """Returns an untrained model: the speed does not depend on the weights."""
    torch.manual_seed(0)
    return GPT(config).eval()


def ways_of_writing(model: GPT, new: int) -> dict[str, Way]:
    """Returns plain float32 with a cache, and what the chapter compares with it."""
    prompt = [[1] * 16]
    unmerged, merged = packed_pair(model)
    models = {
        BASE: model,
        "packed": pack_weights(model),
        "int8": quantize_model(model),
        "int8, torch dynamic": dynamic_model(model),
        "LoRA unmerged": unmerged,
        "LoRA merged": merged,
    }
    ways = {name: writer(m, prompt, new) for name, m in models.items()}
    return ways | {"no cache": writer(model, prompt, new, use_cache=False)}


def run_sizes(study: Study) -> list[Result]:
    """Compares the ways of writing at three sizes, the largest that of GPT-2."""
    results, rows = [], []
    curves: dict[str, list[Point]] = {}
    for size, config in list(SIZES.items())[: study.most]:
        model = random_model(config)
        ways = ways_of_writing(model, 2 if study.smoke else NEW)
        speeds = measure_speeds(ways, BASE, 1 if study.smoke else ROUNDS)
        megabytes = stored_bytes(model, "float32") / 1e6
        for way in WAYS:
            curves.setdefault(way, []).append(Point(megabytes, speeds[way].ratio,
                                                    speeds[way].spread))  # fmt: skip
            rows.append((size, way, round(speeds[way].tokens_per_s), round(speeds[way].ratio, 2)))
            results.append(timed_result("sizes", f"{size} {way}", speeds[way], f"{size}: {way}"))
    question = "Which way of writing pays at which size, beside plain float32 with a cache?"
    print_table(question, ["model", "way", "tokens/s", "times as fast"], rows)
    shown = {way: curves[way] for way in WAYS if way != "LoRA merged"}
    first, last = shown["int8"][0], shown["int8"][-1]
    finding = (
        f"int8 weights write {first.y:.1f} times as fast in a model of {first.x:.3g} MB, and "
        f"{last.y:.1f} times in one of {last.x:.3g} MB"
    )
    figure = ratios_figure(shown, finding, "weights in float32 (MB)")
    save_figure(figure, experiment_figures(FAMILY) / "sizes.png")
    return results


def run_batch(study: Study) -> list[Result]:
    """Writes more and more texts at once; all tokens count."""
    results, rows = [], []
    curves: dict[str, list[Point]] = {}
    for size in list(SIZES)[:1] if study.smoke else list(SIZES)[:2]:
        model = random_model(SIZES[size])
        for kind, fast in (("float32", pack_weights(model)), ("int8", quantize_model(model))):
            batches = BATCHES[: study.most]
            ways = {str(b): writer(fast, [[1] * 16] * b, 2 if study.smoke else NEW)
                    for b in batches}  # fmt: skip
            speeds = measure_speeds(ways, "1", 1 if study.smoke else ROUNDS)
            for batch in batches:
                speed = speeds[str(batch)]
                curves.setdefault(f"{size}, {kind}", []).append(Point(batch, speed.ratio,
                                                                      speed.spread))  # fmt: skip
                rows.append((size, kind, batch, round(speed.tokens_per_s), round(speed.ratio, 2)))
                if batch > 1:
                    results.append(
                        timed_result("batch", f"{size} {kind} {batch}", speed,
                                     f"{size} {kind}: batch of {batch}")
                    )  # fmt: skip
    print_table("How many more tokens a second does a batch bring?",
                ["model", "weights", "batch", "tokens/s", "times as fast"], rows)  # fmt: skip
    name, points = max(curves.items(), key=lambda item: item[1][-1].y)
    most = points[-1]
    finding = f"{most.x:g} texts at once: {most.y:.1f} times the tokens a second ({name})"
    figure = ratios_figure(curves, finding, "texts in a batch", "tokens a second, beside one text")
    save_figure(figure, experiment_figures(FAMILY) / "batch.png")
    return results


def run_cache(study: Study) -> list[Result]:
    """Writes behind longer and longer texts, with the cache and without."""
    results, rows, points = [], [], []
    model = pack_weights(random_model(SIZES["4x128" if study.smoke else "6x384"]))
    new = 2 if study.smoke else 8
    for length in LENGTHS[: study.most]:
        prompt = [[1] * (length - new)]
        ways = {
            "no cache": writer(model, prompt, new, use_cache=False),
            "cache": after_prompt(model, prompt[0], new),
        }
        speed = measure_speeds(ways, "no cache", 1 if study.smoke else ROUNDS)["cache"]
        points.append(Point(length, speed.ratio, speed.spread))
        rows.append((length, round(speed.tokens_per_s), round(speed.ratio, 2)))
        results.append(timed_result("cache", str(length), speed, f"text of {length} tokens"))
    question = "What does a cache bring, behind texts of so many tokens?"
    print_table(question, ["tokens", "tokens/s", "times as fast"], rows)
    finding = (
        f"Behind {points[-1].x:g} tokens the cache makes a token {points[-1].y:.1f} times as fast, "
        f"behind {points[0].x:g} it is {points[0].y:.1f} times"
    )
    figure = ratios_figure({"cache": points}, finding, "tokens in the window")
    save_figure(figure, experiment_figures(FAMILY) / "cache.png")
    return results


@torch.inference_mode()
def after_prompt(model: GPT, prompt: list[int], new: int) -> Way:
    """Returns a way that writes behind a prompt that is in the cache already."""
    cache = model.new_cache(1)
    model.hidden(torch.tensor([prompt[:-1]]), cache)

    @torch.inference_mode()
    def write() -> int:
        cache.trim(len(prompt) - 1)
        token = prompt[-1]
        for _ in range(new):
            token = int(model(torch.tensor([[token]]), cache)[0, -1].argmax())
        return new

    return write


def run_draft(study: Study) -> list[Result]:
    """Lets students propose to their teacher: whose proposals are accepted, and is it faster?"""
    results, rows = [], []
    curves: dict[str, list[Point]] = {}
    new = 8 if study.smoke else NEW
    targets = [pack_weights(subject.teacher()) for subject in subjects(study)]
    prompts = held_out_prompts(data_of(preset_of(study).teacher).tokens["validation"], 4)
    for label, name in ((ALONE, "student alone"), (TAUGHT, "taught student")):
        configs = [student_config(study, label, seed) for seed in study.seeds]
        drafts = [pack_weights(student_of(config)[0]) for config in configs]
        for count in DRAFT_TOKENS[: study.most]:
            accepted, ratios = [], []
            for target, draft in zip(targets, drafts, strict=True):
                shares: list[float] = []
                ways = {
                    BASE: one_by_one(target, prompts, new),
                    "draft": speculative_writer(target, draft, prompts, new, draft_tokens=count,
                                                shares=shares),
                }  # fmt: skip
                speed = measure_speeds(ways, BASE, 1 if study.smoke else 3)
                accepted.append(100 * statistics.mean(shares))
                ratios.append(speed["draft"].ratio)
            curves.setdefault(name, []).append(Point(count, *mean_and_spread(ratios)))
            mean, spread = mean_and_spread(accepted)
            rows.append((name, count, round(mean, 1), round(spread, 1),
                         round(statistics.mean(ratios), 2)))  # fmt: skip
            for what, values, unit in (("accepted", accepted, "%"), ("speed", ratios, "x")):
                results.append(
                    seed_result(FAMILY, f"draft.{what}", f"{name} {count}", values, unit,
                                study=study, note=f"{name}, {count} at once: {what}")
                )  # fmt: skip
    print_table("Does a taught student propose better than one that learned alone?",
                ["draft", "at once", "accepted %", "spread", "times as fast"], rows)  # fmt: skip
    best = max((p for points in curves.values() for p in points), key=lambda p: p.y)
    finding = f"At this size a draft makes the teacher at best {best.y:.2f} times as fast"
    figure = ratios_figure(curves, finding, "tokens proposed at once")
    save_figure(figure, experiment_figures(FAMILY) / "draft.png")
    return results


def one_by_one(model: GPT, prompts: list[list[int]], new: int) -> Way:
    """Returns a way that continues the prompts one after the other."""
    ways = [writer(model, [prompt], new) for prompt in prompts]
    return lambda: sum(way() for way in ways)


COMPILED = {"one window": 1, "16 windows": 16}  # label -> windows scored at once


def run_compile(study: Study) -> list[Result]:
    """Scores whole windows with torch.compile and without, where a compiler is installed."""
    results, rows = [], []
    model = random_model(SIZES["4x128"])
    for label, count in list(COMPILED.items())[: 0 if study.smoke else None]:
        tokens = torch.randint(1024, (count, model.config.max_len))
        compiled = compile_model(copy.deepcopy(model), tokens)
        if not compiled.works:
            print(f"\n{compiled.reason}")
            return []

        def scores(scorer, tokens=tokens) -> Way:  # type: ignore[no-untyped-def]
            @torch.no_grad()
            def score() -> int:
                scorer(tokens)
                return tokens.numel()

            return score

        ways = {BASE: scores(model), "compiled": scores(compiled.model)}
        speed = measure_speeds(ways, BASE, 2 * ROUNDS)["compiled"]
        rows.append((label, round(speed.ratio, 2), round(speed.spread, 2),
                     round(compiled.seconds, 1)))  # fmt: skip
        results.append(timed_result("compile", label, speed, f"torch.compile, {label} scored"))
    print_table("What does torch.compile bring when whole windows are scored?",
                ["scored", "times as fast", "spread", "seconds to compile"], rows)  # fmt: skip
    return results
