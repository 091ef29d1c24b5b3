"""What a demo hands back to whoever started it.

Every family's `quick_start.main(argv)` ends by returning a `DemoResult`. The menu runner shows the
results of several demos side by side, and the tests read them. Standard library only: the runner
needs this type before it knows whether torch is installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DemoResult:
    """The outcome of one demo, in the terms a learner compares demos by.

    Raises:
        ValueError: if a text is empty, or if `seconds` or `value` is not a usable number.
    """

    family: str  # package name, such as "gpt"
    learned: str  # what the model learned, in a few words: "to continue library documentation"
    headline: str  # the held-out result to read: "1.72 bits per byte (best n-gram 2.05)"
    value: float  # the headline's number
    unit: str  # unit of `value`: "bits per byte"
    seconds: float  # wall-clock time of the whole demo
    files: tuple[str, ...]  # paths of the files written, in the order they appeared

    def __post_init__(self) -> None:
        """Check that the result can be shown in a table."""
        for name in ("family", "learned", "headline", "unit"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"DemoResult.{name} is {text!r}: the closing table needs a text there. "
                    "Say it in a few words."
                )
        if not math.isfinite(self.value):
            raise ValueError(
                f"DemoResult.value is {self.value}: a demo that diverged has no held-out result. "
                "Raise an error in the demo instead, saying what went wrong."
            )
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(
                f"DemoResult.seconds is {self.seconds}: a duration is a number of seconds, "
                "0 or more. Measure it with time.perf_counter()."
            )
        object.__setattr__(self, "files", tuple(str(path) for path in self.files))
