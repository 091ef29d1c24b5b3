"""Settings of ``generation.py``'s command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from gpt.packed_weights import WEIGHTS
from gpt.sampling import GREEDY, Sampling
from tutorial_kit.config import config_parser
from tutorial_kit.entry_parsers import add_device


@dataclass(frozen=True)
class GenerationConfig:
    """What the command line writes."""

    sampling: Sampling = field(default_factory=Sampling)
    max_new: int = 200  # most tokens to write
    samples: int = 1  # how many continuations
    beams: int = 0  # beam search of this width instead of sampling; 0 means none
    length_penalty: float = 1.0  # of beam search: 0 prefers short texts, 1 compares means
    draft_tokens: int = 4  # tokens a draft model proposes at once
    seed: int = 0  # of the first continuation; the next ones count up
    use_cache: bool = True  # False computes the whole window for each token, to compare

    def __post_init__(self) -> None:
        """Checks the counts."""
        for name, least in (("max_new", 1), ("samples", 1), ("beams", 0), ("draft_tokens", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} is no count. Use {least} or more.")


PRESETS = {
    "balanced": GenerationConfig(Sampling(temperature=0.8, top_p=0.95)),
    "greedy": GenerationConfig(GREEDY),
    "plain": GenerationConfig(Sampling()),  # the model's own distribution
    "smoke": GenerationConfig(Sampling(), max_new=8),  # without --checkpoint: an untrained model
}
SMOKE_TEXT = "an untrained model writes letters at random"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = config_parser(GenerationConfig, PRESETS, "balanced", "Write text with a trained GPT.")
    add = parser.add_argument
    add("--checkpoint", metavar="RUN", help="file, run folder, or run name under outputs/gpt/")
    add("--prompt", default="\n", help="the text to continue")
    add("--stop", default="", metavar="TEXT", help="end at this text, which must be one token")
    add("--crop", action="store_true", help="of a prompt too long for the model, keep the end")
    add("--weights", choices=list(WEIGHTS), default="float32", help="number format while writing")
    add("--draft", metavar="RUN", help="a smaller model that proposes tokens (speculative)")
    add_device(parser, "where to compute")
    return parser
