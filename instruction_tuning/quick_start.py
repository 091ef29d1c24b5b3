"""From a base model to an assistant in a few minutes, offline: every stage, and what it is worth.

Base model, demonstrations (SFT), preferences and a reward model, best-of-n, DPO, PPO, GRPO; then
one table and one figure. ``--stage dpo`` repeats one stage on what the earlier ones have left under
outputs/instruction_tuning/quick_*. The words that it prints are in ``texts/en.json``; the numbers
are measured while you watch.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt.gpt_config import parameter_count
from gpt.sampling import GREEDY
from instruction_tuning.base_text import base_lines
from instruction_tuning.chat_template import show_mask
from instruction_tuning.instruction_data import WORLD, demonstrations_of, sft_rows
from instruction_tuning.recipes import FAMILY, POLICIES, STAGES, make_recipe, named_place
from instruction_tuning.replies import write_replies
from instruction_tuning.reward_figures import Row, story_figure
from instruction_tuning.score_tables import samples_table, scores_table
from instruction_tuning.stage_measures import best_of_curve, reward_point, training_curve
from instruction_tuning.stages import Numbers, Stages
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.console import run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

SHOWN = 4  # examples of each kind that are printed


@dataclass(frozen=True)
class QuickNumbers:
    """What the demo measures."""

    outcomes: dict[str, Numbers]  # stage -> its numbers, as ``Stages.outcome`` gives them
    seconds: float  # of everything
    files: tuple[Path, ...]


def tell(
    preset: str, seed: int, device: str, texts: Texts, only: str | None = None
) -> QuickNumbers:
    """Tells the story, or one stage of it, and returns its numbers.

    Args:
        preset: "quick" or "smoke".
        seed: of the base model and of every stage; the test requests are fixed.
        device: "auto", "cpu", "cuda" or "mps".
        texts: the words.
        only: the stage to train anew, on what the others have left; None means all of them.
    """
    started = time.perf_counter()
    if only is None:
        show_data(seed, texts)
    stages = Stages(make_recipe(preset, seed, base_seed=seed), named_place(preset), device)
    tellers: dict[str, Callable[[Stages, Texts], None]] = {
        "base": tell_base, "sft": tell_sft, "reward": tell_reward, "dpo": tell_dpo, "ppo": tell_ppo,
        "grpo": tell_grpo,
    }  # fmt: skip
    for stage in STAGES if only is None else (only,):
        tellers[stage](stages, texts)
    outcomes = {stage: kept for stage in STAGES if (kept := stages.kept(stage)) is not None}
    figure = run_folder(FAMILY, f"{preset}_story") / "figures" / "story.png"
    files = draw(stages, outcomes, figure, texts)
    trained = [stages.folder(stage) for stage in outcomes if stage != "base"]
    files += [folder / "checkpoints" / "last.pt" for folder in trained]
    return QuickNumbers(outcomes, time.perf_counter() - started, tuple(files))


def show_data(seed: int, texts: Texts) -> None:
    """Prints what the base model reads, and demonstrations with what is trained of them."""
    tokenizer = build_tokenizer()
    shown = demonstrations_of(WORLD, "train", 2 * SHOWN, seed=seed)
    rows = sft_rows(shown, tokenizer, None)
    marked = [show_mask(*row, tokenizer, color=sys.stdout.isatty()) for row in rows]
    texts.say("quick.data", demonstrations=_indented(marked))
    texts.say("quick.base", lines=_indented(base_lines(SHOWN, "train", seed)))


def tell_base(stages: Stages, texts: Texts) -> None:
    """The base model knows words, and cannot be asked."""
    numbers, model = stages.run("base"), stages.policy("base")
    texts.say(
        "quick.base_result", parameters=parameter_count(model.config), exact=numbers["exact"],
        requests=len(stages.test_requests), replies=show_replies(stages, "base"),
    )  # fmt: skip


def tell_sft(stages: Stages, texts: Texts) -> None:
    """Demonstrations make an assistant, with the demonstrators' bad habits."""
    config = stages.recipe.sft
    texts.say("quick.sft", count=config.requests, slips=config.slips, chatter=config.chatter)
    numbers = stages.run("sft")
    texts.say(
        "quick.sft_result", exact=numbers["exact"], sampled=numbers["exact_sampled"],
        chatter=numbers["chatter"], replies=show_replies(stages, "sft"),
    )  # fmt: skip


def tell_reward(stages: Stages, texts: Texts) -> None:
    """Preferences make a reward model; choosing the best of n needs no further training."""
    config = stages.recipe.reward
    texts.say("quick.preferences", requests=config.requests, replies=config.replies,
              noise=config.noise)  # fmt: skip
    pairs = stages.pairs("reward", "train")
    one_each = {pair.prompt: pair for pair in pairs[: 10 * SHOWN]}
    lines = [f"{prompt}: {p.chosen!r} > {p.rejected!r}" for prompt, p in one_each.items()]
    texts.say("quick.pairs", pairs=len(pairs), lines=_indented(lines[:SHOWN]))
    numbers = stages.run("reward")
    texts.say("quick.reward_result", accuracy=numbers["accuracy"])
    texts.say("quick.best_of_n", table=_indented(samples_table(numbers).splitlines()))


def tell_dpo(stages: Stages, texts: Texts) -> None:
    """DPO needs the preferences alone."""
    config = stages.recipe.dpo
    texts.say("quick.dpo", beta=config.beta, likelihood=config.likelihood)
    say_change(stages, "dpo", texts)


def tell_ppo(stages: Stages, texts: Texts) -> None:
    """PPO climbs the reward model's score, and pays for leaving the policy after SFT."""
    texts.say("quick.ppo", kl=stages.recipe.ppo.kl)
    say_change(stages, "ppo", texts)


def tell_grpo(stages: Stages, texts: Texts) -> None:
    """GRPO compares the replies to one request; the verifier cannot be fooled."""
    texts.say("quick.grpo", group=stages.recipe.grpo.group)
    say_change(stages, "grpo", texts)


def say_change(stages: Stages, stage: str, texts: Texts) -> None:
    """Trains a stage and prints what it has changed since SFT."""
    before, after = stages.outcome("sft"), stages.run(stage)
    texts.say(
        "quick.changed", name=texts.get(f"stage.{stage}"), exact=after["exact"],
        sampled=after["exact_sampled"], kl=after["kl"],
        gain=100 * (after["exact"] - before["exact"]),
        gain_sampled=100 * (after["exact_sampled"] - before["exact_sampled"]),
    )  # fmt: skip


def show_replies(stages: Stages, stage: str) -> str:
    """Returns some held-out requests with the greedy replies of a policy, indented."""
    requests = stages.test_requests[:SHOWN]
    replies = write_replies(stages.policy(stage), stages.tokenizer, requests, GREEDY)
    pairs = zip(requests, replies, strict=True)
    return _indented([f"{request.text} -> {reply.text!r}" for request, reply in pairs])


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"   {line}" for line in lines)


def draw(stages: Stages, outcomes: dict[str, Numbers], path: Path, texts: Texts) -> list[Path]:
    """Prints the table of all policies that there are, and saves the figure if it has a point.

    Args:
        stages: trained ones.
        outcomes: stage -> its numbers, of all stages that are kept.
        path: of the figure.
        texts: the words.
    """
    policies = {texts.get(f"stage.{name}"): outcomes[name] for name in POLICIES if name in outcomes}
    texts.say("quick.table", requests=len(stages.test_requests), table=scores_table(policies))
    if "reward" not in outcomes:
        return []
    rows = [Row(name, numbers["exact"], numbers["exact_sampled"], numbers.get("kl"))
            for name, numbers in policies.items()]  # fmt: skip
    curves = {texts.get("stage.best_of_n"): best_of_curve(outcomes["reward"])}
    if "ppo" in outcomes:
        curves[texts.get("stage.ppo")] = training_curve(stages.folder("ppo"))
    for name in ("dpo", "grpo"):
        if name in outcomes:
            curves[texts.get(f"stage.{name}")] = [
                reward_point(stages.policy(name), stages.tokenizer, stages.test_requests,
                             stages.recipe.sft.seed, reward_model=stages.reward_model(),
                             numbers=outcomes["reward"], kl=outcomes[name]["kl"])
            ]  # fmt: skip
    return [save_figure(story_figure(rows, curves), path)]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = quick_start_parser("From a base model to an assistant in a few minutes, offline.")
    parser.add_argument("--stage", choices=STAGES[1:], help="only this one, on the earlier ones")
    return parser


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    texts = Texts(Path(__file__).parent)
    told = tell(args.preset, args.seed, args.device, texts, args.stage)
    texts.say("quick.files", files=_indented(list(map(str, told.files))))
    texts.say("quick.next", preset=args.preset)
    best = max((name for name in POLICIES if name in told.outcomes),
               key=lambda name: told.outcomes[name]["exact_sampled"])  # fmt: skip
    numbers, sft = told.outcomes[best], told.outcomes["sft"]
    return DemoResult(
        family=FAMILY,
        learned=texts.get("demo.learned"),
        headline=texts.get("demo.headline", best=texts.get(f"stage.{best}"),
                           sampled=numbers["exact_sampled"], exact=numbers["exact"],
                           sft=sft["exact_sampled"], sft_exact=sft["exact"]),
        value=100.0 * numbers["exact_sampled"],
        unit="%",
        seconds=told.seconds,
        files=tuple(str(path) for path in told.files),
    )  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
