"""The structure diagram agrees with the model: parameters, shapes, repeats, shared tensors."""

import pytest
import torch
from matplotlib.text import Text
from torch import nn

from gpt.gpt_config import RECIPES, GPTConfig, parameter_count
from gpt.gpt_model import GPT
from tutorial_kit.model_diagram import MAX_ROWS, describe_model, model_diagram
from tutorial_kit.plotting import save_figure


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def transformer():
    return nn.Transformer(16, 2, 2, 3, 32, batch_first=True)


class ClassToken(nn.Module):
    """A module with a parameter of its own beside modules, as a vision transformer has."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Linear(8, 8)),
            nn.Sequential(nn.Linear(8, 8)),
            nn.Sequential(nn.Linear(8, 4)),
        )
        self.other = nn.Sequential(nn.Linear(4, 4))
        self.same = nn.Sequential(nn.Linear(4, 4))


MODELS = {
    "gpt2": lambda: GPT(GPTConfig(vocab_size=50)),
    "modern": lambda: GPT(GPTConfig(vocab_size=50, **RECIPES["modern"])),
    "encoder-decoder": transformer,
    "class token": ClassToken,
    "no parameters": lambda: nn.Sequential(nn.ReLU(), nn.Dropout()),
    "one layer": lambda: nn.Linear(3, 4),
    "a list": lambda: nn.Sequential(*[nn.Sequential(nn.Linear(2, 2)) for _ in range(3)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_counted_once(name):
    model = MODELS[name]()
    assert describe_model(model).total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_any_model_can_be_drawn(name, tmp_path):
    path = save_figure(model_diagram(MODELS[name](), name), tmp_path / "structure.png")
    assert path.stat().st_size > 5000


def test_the_diagram_of_a_gpt():
    config = GPTConfig(vocab_size=1000, n_layers=3)
    figure = model_diagram(GPT(config), "GPT")
    shown = texts(figure)
    each = (parameter_count(config) - parameter_count(GPTConfig(vocab_size=1000, n_layers=1))) // 2
    for text in (
        f"GPT: {parameter_count(config):,} parameters, "
        f"{3 * each / parameter_count(config):.0%} of them in blocks",
        "blocks: 3 ×",
        f"3 × {each:,}",
        "Linear  weight (384, 128), bias (384)",
        "Linear  weight = token_embedding.weight",
        "Embedding  weight (1,000, 128)",
    ):
        assert text in shown, text
    assert shown.count("attention") == 1


def test_only_numbered_neighbors_of_equal_structure_are_joined():
    parts = {part.name: part for part in describe_model(ClassToken()).children}
    assert [part.name for part in parts["blocks"].children] == ["0 .. 1", "2"]
    assert [part.repeats for part in parts["blocks"].children] == [2, 1]
    assert parts["other"].repeats == parts["same"].repeats == 1
    assert parts["token"].tensors == ("(1, 1, 8)",)


def test_blocks_that_share_their_weights_are_not_counted_twice():
    block = nn.Sequential(nn.Linear(4, 4))
    model = nn.Sequential(block, block, nn.Linear(4, 4))
    assert describe_model(model).total == sum(p.numel() for p in model.parameters()) == 40


def test_a_tensor_shared_by_two_modules_names_its_owner():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4)))
    model[1][0].weight = model[0][0].weight
    first, second = describe_model(model).children
    assert second.children[0].tensors == ("weight = 0.0.weight", "bias (4)")
    assert (first.total, second.total) == (20, 4)


def test_a_large_model_is_folded_until_it_fits():
    class Level(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.left = Level(depth - 1) if depth else nn.Linear(2, 3)
            self.right = Level(depth - 1) if depth else nn.Linear(2, 2)

    model = Level(7)
    whole = describe_model(model)
    assert whole.rows() > MAX_ROWS
    figure = model_diagram(model, "tree")
    assert f"{whole.total:,} parameters" in texts(figure)[0] + "".join(texts(figure))
    assert figure.get_figheight() < 0.6 + 0.27 * MAX_ROWS


def test_texts_do_not_run_into_each_other():
    figure = model_diagram(transformer(), "T")
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    for i, (text, box) in enumerate(boxes):
        for other, other_box in boxes[:i]:
            assert not box.overlaps(other_box), (text, other)
