"""A model's structure, drawn from the model itself, so that the picture cannot lie about the code.

Every module is a row: its name, its class, the shapes of its weights, its parameters and a bar for
their share of the whole. Modules inside a module stand in its box, in the order of declaration.
Numbered neighbors of equal structure, the blocks of a transformer, are drawn once. A tensor that
two modules share is counted once, and the second says whose it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import nn

from tutorial_kit.plotting import FAINT, INK, PALETTE, drawable, label, new_figure

MAX_ROWS = 64  # a picture with more is not looked at; deeper levels are folded until it fits
WIDTH, ROW_HEIGHT = 9.6, 0.27  # inches
NAME_AT, SHAPES_AT, COUNT_AT, BAR_AT, BAR_WIDTH = 0.012, 0.31, 0.81, 0.83, 0.155  # of the width
LISTS = (nn.ModuleList, nn.Sequential)
STRIPES = {"Linear": 0, "Embedding": 2, "Conv": 4, "Norm": 3}  # part of a class name -> its color


@dataclass(frozen=True)
class Part:
    """One module, or several of equal structure."""

    name: str  # as in named_children(); "0 .. 3" for four of equal structure
    kind: str  # class name
    tensors: tuple[str, ...]  # "weight (384, 128)", or "weight = token_embedding.weight"
    own: int  # parameters of the module itself, those of shared tensors left out
    children: tuple[Part, ...]
    repeats: int = 1

    @property
    def each(self) -> int:
        """Parameters of one copy."""
        return self.own + sum(child.each * child.repeats for child in self.children)

    @property
    def total(self) -> int:
        """Parameters of all copies."""
        return self.each * self.repeats

    @property
    def heading(self) -> str:
        """The row's first text."""
        return f"{self.name}: {self.repeats} ×" if self.repeats > 1 else self.name

    @property
    def count(self) -> str:
        """The row's number of parameters."""
        return f"{self.repeats} × {self.each:,}" if self.repeats > 1 else f"{self.each:,}"

    def folded(self, depth: int) -> Part:
        """Returns the same part with everything below ``depth`` levels counted but not listed."""
        if depth == 0:
            return replace(self, own=self.each, children=(), tensors=())
        return replace(self, children=tuple(child.folded(depth - 1) for child in self.children))

    def rows(self) -> int:
        """How many rows the picture of this part has."""
        return 1 + sum(child.rows() for child in self.children)


def describe_model(model: nn.Module) -> Part:
    """Returns the tree of a model's modules, equal neighbors merged; its root is the model."""
    whole = _describe(model, "", type(model).__name__, {})
    if whole.children and whole.repeats == 1:
        return whole
    return Part("", whole.kind, (), 0, (replace(whole, name="model"),))  # a layer, or a plain list


def model_diagram(model: nn.Module, title: str) -> Figure:
    """Draws the structure of any model.

    Args:
        model: its modules, weights and their shapes are all that is looked at; nothing is run.
        title: what the model is called, such as "GPT".

    Returns:
        The figure. Its title says how many parameters there are and where most of them are.
    """
    whole = describe_model(model)
    depth = 12
    while whole.folded(depth).rows() > MAX_ROWS and depth > 1:
        depth -= 1
    whole = whole.folded(depth)
    rows = whole.rows()  # the model itself is the title; its row holds the columns' names
    figure, axis = new_figure(width=WIDTH, height=0.5 + ROW_HEIGHT * rows)
    axis.set_axis_off()
    axis.set_xlim(0, 1)
    axis.set_ylim(rows, 0)
    label(axis, f"{title}: {_finding(whole)}")
    names = {NAME_AT: "module", SHAPES_AT: "class, shapes of its weights", BAR_AT: "share of all"}
    for x, name in names.items():
        axis.text(x, 0.5, name, va="center", fontsize=8, color=FAINT)
    axis.text(COUNT_AT, 0.5, "parameters", va="center", ha="right", fontsize=8, color=FAINT)
    y = 1.0
    for part in whole.children:
        y = _draw(axis, part, y, 0, 1 / max(1, whole.total))
    return figure


def _describe(module: nn.Module, path: str, kind: str, seen: dict[int, str]) -> Part:
    """Describes one module; ``seen`` maps each tensor met so far to the name it was met under."""
    tensors, own, inner = [], 0, []
    children = list(module.named_children())
    for name, parameter in module.named_parameters(recurse=False):
        shape = f"({', '.join(f'{size:,}' for size in parameter.shape)})"
        first = seen.setdefault(id(parameter), f"{path}{name}")
        shared = first != f"{path}{name}"
        size = 0 if shared else parameter.numel()
        text = f"{name} = {first}" if shared else f"{name} {shape}"
        if children:  # a row of its own among the modules, such as a class token
            inner.append(Part(name, "Parameter", (first if shared else shape,), size, ()))
        else:
            tensors.append(text)
            own += size
    for name, child in children:
        inner.append(_describe(child, f"{path}{name}.", type(child).__name__, seen))
    last_name, merged = path.rstrip(".").rpartition(".")[2], _merged(inner)
    if len(merged) == 1 and merged[0].repeats > 1 and isinstance(module, LISTS):
        return replace(merged[0], name=last_name)  # "blocks: 4 ×" needs no row for the list itself
    return Part(last_name, kind, tuple(tensors), own, merged)


def _merged(parts: list[Part]) -> tuple[Part, ...]:
    """Joins numbered neighbors that differ in nothing but their number."""
    groups: list[list[Part]] = []
    for part in parts:
        numbered = part.name.isdigit() and part.children
        if groups and numbered and replace(part, name="") == replace(groups[-1][0], name=""):
            groups[-1].append(part)
        else:
            groups.append([part])
    return tuple(
        replace(group[0], name=f"{group[0].name} .. {group[-1].name}", repeats=len(group))
        if len(group) > 1
        else group[0]
        for group in groups
    )


def _finding(whole: Part) -> str:
    """Says how many parameters there are, and which part holds most of them."""
    if not whole.total:
        return "no parameters"
    largest = max(whole.children, key=lambda part: part.total)
    share = largest.total / whole.total
    return f"{whole.total:,} parameters, {share:.0%} of them in {largest.name}"


def _draw(axis: Axes, part: Part, y: float, level: int, unit: float) -> float:
    """Draws a part with its top at ``y``, in rows; returns where the next one starts.

    ``unit`` is the share of all parameters that one parameter of this part stands for: inside
    four equal blocks it is four times as large.
    """
    inset, middle = 0.012 * level, y + 0.5
    if part.children:
        _draw_box(axis, part, inset, y, ("#eef2f6", "#e2e9f0", "#d6e0ea")[min(level, 2)])
    elif (color := _stripe(part.kind)) is not None:
        axis.add_patch(Rectangle((inset + 0.002, y + 0.22), 0.004, 0.56, color=color, linewidth=0))
    style: dict[str, Any] = {"va": "center", "fontsize": 8, "color": INK}
    weight = "bold" if part.children else "normal"
    axis.text(inset + NAME_AT, middle, drawable(part.heading), fontweight=weight, **style)
    described = "  ".join([part.kind, ", ".join(part.tensors)])
    axis.text(SHAPES_AT, middle, drawable(described), **style)
    if part.total:
        axis.text(COUNT_AT, middle, part.count, ha="right", **style)
        size = (BAR_WIDTH * part.total * unit, 0.34)
        strength = 0.35 if part.children else 1.0
        bar = Rectangle((BAR_AT, y + 0.33), *size, color=PALETTE[0], alpha=strength, linewidth=0)
        axis.add_patch(bar)
    y += 1
    for child in part.children:
        y = _draw(axis, child, y, level + 1, unit * part.repeats)
    return y


def _draw_box(axis: Axes, part: Part, inset: float, y: float, shade: str) -> None:
    """Draws the box around a module's modules; a stack of blocks has an edge."""
    box = FancyBboxPatch(
        (inset, y + 0.06),
        1 - 2 * inset,
        part.rows() - 0.12,
        boxstyle="round,pad=0,rounding_size=0.006",
        mutation_aspect=axis.get_ylim()[0],  # rounds both ways alike on axes of unequal units
        facecolor=shade,
        edgecolor=FAINT if part.repeats > 1 else "none",
        linewidth=0.8,
    )
    axis.add_patch(box)


def _stripe(kind: str) -> str | None:
    """Returns the color of a class, by what its name contains."""
    for part, color in STRIPES.items():
        if part in kind:
            return PALETTE[color]
    return None
