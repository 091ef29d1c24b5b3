"""One self-contained HTML page to look through attention weights: layers, heads, tokens.

For any attention: a decoder's (causal), an encoder's, or between the two; several fit on one page.
The page asks nothing of the network, so it works from a file, on a plane and behind a firewall,
where pages that load a script from elsewhere stay blank. A text can inject nothing into it: the
data is escaped JSON, the script inserts it as text only, and a Content-Security-Policy names the
hash of the one script that may run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutorial_kit.files import atomic_write

TEMPLATE = Path(__file__).with_suffix(".html")
MAX_WEIGHTS = 24_000_000  # one byte each, a third more in base64: a page of 32 MB
TOLERANCE = 1e-3  # how far a weight may lie outside 0 .. 1: half precision rounds

Predictions = Sequence[tuple[str, float]]
"""Tokens with their probabilities."""


@dataclass(frozen=True)
class AttentionMap:
    """The weights of one attention module, with the tokens they connect.

    Raises:
        ValueError: shapes that do not fit together, or weights that are none.
    """

    name: str  # the tab's text: "decoder, masked self-attention"
    rows: Sequence[str]  # the T tokens that look
    weights: Any  # (L, H, T, S), tensor or array; each row sums to 1
    columns: Sequence[str] | None = None  # the S tokens they look at; None: the same tokens
    predictions: Sequence[Predictions] | None = None  # for each of the T rows, the best first
    truth: Sequence[str] | None = None  # T tokens, what was to be predicted; shown in bold
    predictions_title: str = "Most probable next tokens"  # the heading above the predictions

    def __post_init__(self) -> None:
        """Checks everything the page relies on."""
        keys = self.rows if self.columns is None else self.columns
        weights = self.array()
        expected = (*weights.shape[:2], len(self.rows), len(keys))
        if weights.ndim != 4 or weights.shape != expected or not weights.size:
            raise ValueError(
                f"the attention map {self.name!r} has weights of shape {weights.shape} for "
                f"{len(self.rows)} row and {len(keys)} column tokens: it needs (layers, heads, "
                "rows, columns). Drop the batch dimension, and pass one token per position."
            )
        if not (weights.min() >= -TOLERANCE and weights.max() <= 1 + TOLERANCE):  # also if NaN
            raise ValueError(
                f"the attention map {self.name!r} has weights from {weights.min():.3g} to "
                f"{weights.max():.3g}: weights lie between 0 and 1. Pass them after the softmax."
            )
        for name in ("predictions", "truth"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.rows):
                raise ValueError(
                    f"the attention map {self.name!r} has {name} for {len(values)} positions but "
                    f"{len(self.rows)} row tokens: each position has its own. Pass one per token."
                )

    def array(self) -> NDArray[np.float32]:
        """Returns the weights as an array on the CPU."""
        weights = self.weights
        if hasattr(weights, "detach"):  # a tensor, without importing torch for it
            weights = weights.detach().float().cpu().numpy()
        return np.asarray(weights, dtype=np.float32)

    def to_page(self) -> dict[str, Any]:
        """Returns what the page's script reads; see `quantize`."""
        weights = self.array()
        causal = self.columns is None and not np.triu(weights, k=1).any()
        levels = quantize(weights)
        if causal:  # the zeros above the diagonal are not stored
            row, column = np.tril_indices(len(self.rows))
            levels = levels[:, :, row, column]
        predictions: list[Any] | None = None
        if self.predictions is not None:
            predictions = [[[t, round(float(p), 4)] for t, p in row] for row in self.predictions]
        return {
            "name": self.name,
            "rows": list(self.rows),
            "columns": None if self.columns is None else list(self.columns),
            "layers": weights.shape[0],
            "heads": weights.shape[1],
            "causal": causal,
            "levels": base64.b64encode(levels.tobytes()).decode("ascii"),
            "predictions": predictions,
            "truth": None if self.truth is None else list(self.truth),
            "predictions_title": self.predictions_title,
        }


def quantize(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns round(255 sqrt(w)), one byte a weight.

    The square root spends the 256 levels where weights are: near zero. A weight comes back within
    0.004 when it is large and within 0.0003 when it is 0.005.
    """
    return np.rint(255 * np.sqrt(weights.clip(0, 1))).astype(np.uint8)


def write_attention_page(
    path: Path, *, title: str, maps: Sequence[AttentionMap], note: str = ""
) -> Path:
    """Writes the page; a reader never sees half of one.

    Args:
        path: the file; its folder is made if it is missing.
        title: the heading, such as the finding or the text looked at.
        maps: one tab each. Different texts or modules may stand beside each other.
        note: a line below the title: which model, which checkpoint.

    Returns:
        ``path``. ``page.html#map=1&layer=2&head=3&token=5`` opens it at a place; all count from 1.

    Raises:
        ValueError: no map, or more weights than a browser can be asked to hold.
        OSError: the disk is full or the folder cannot be written.
    """
    if not maps:
        raise ValueError(
            "an attention page was asked for without an attention map: there is nothing to show. "
            "Pass at least one."
        )
    size = sum(attention.array().size for attention in maps)
    if size > MAX_WEIGHTS:
        raise ValueError(
            f"{size:,} attention weights are too many for one page: it would be slow to open. Show "
            f"fewer tokens, layers or heads, at most {MAX_WEIGHTS:,} weights."
        )
    data = {"title": title, "note": note, "maps": [attention.to_page() for attention in maps]}
    page = fill_template(TEMPLATE.read_text(encoding="utf-8"), data)
    with atomic_write(path, "w") as file:
        file.write(page)
    return path


def fill_template(template: str, data: Any) -> str:
    """Puts the data and the policy into a page with one style and one script.

    Args:
        template: HTML with ``@policy@`` and ``@data@``, each once.
        data: plain types; becomes JSON in which no character can end the script element.
    """
    scripts = re.findall(r"<script>(.*?)</script>", template, flags=re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", template, flags=re.DOTALL)
    policy = (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; "
        "base-uri 'none'; form-action 'none'"
    )
    # ASCII only: line separators, byte order marks and lone surrogates become \u escapes too.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    before, rest = template.split("@policy@")
    middle, after = rest.split("@data@")
    return before + policy + middle + text + after


def _hashes(contents: Sequence[str]) -> str:
    digests = [hashlib.sha256(content.encode("utf-8")).digest() for content in contents]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)
