"""Using a trained ViT: probabilities by hand, the command, what is said of bad pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tutorial_kit.checkpoints import save_checkpoint
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from vit import vit_inference as command
from vit.open_model import OpenModel, open_published, open_run, untrained_model
from vit.prediction import normalize, predict, unit_range
from vit.pretrained import save_pretrained
from vit.saved_model import DataFacts, build_model
from vit.train_config import TrainConfig
from vit.vit_config import ViTConfig
from vit.vit_inference import attention_of, classify


@pytest.fixture(scope="module")
def opened():
    return untrained_model()


def picture(path, seed=0, size=(8, 8), color=False):
    """Writes a picture of noise."""
    shape = (size[1], size[0], 3) if color else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def by_hand(opened, images):
    """Probabilities (B, classes) of pictures from 0 to 1."""
    facts = opened.facts
    with torch.no_grad():
        normalized = (images - facts.mean[:, None, None]) / facts.std[:, None, None]
        return opened.model(normalized).softmax(-1)


def test_classes_come_with_their_softmax_the_best_first(opened):
    images = torch.rand(3, 1, 8, 8)
    for row, shares in zip(classify(opened, images, 4), by_hand(opened, images), strict=True):
        best = shares.topk(4)
        assert [answer.name for answer in row] == [str(place) for place in best.indices.tolist()]
        assert [answer.probability for answer in row] == pytest.approx(best.values.tolist())
    everything = classify(opened, images, 99)[0]
    assert len(everything) == 10 and sum(share for _, share in everything) == pytest.approx(1)


def test_bytes_and_floats_are_the_same_picture(opened):
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    assert classify(opened, images) == classify(opened, images.float() / 255)
    assert unit_range(images).max() <= 1 and unit_range(images).dtype == torch.float32
    mean, std = torch.tensor([0.2, 0.4]), torch.tensor([0.1, 0.5])
    colors = normalize(torch.ones(1, 2, 1, 1), mean, std).flatten()
    assert colors.tolist() == pytest.approx([8.0, 1.2])


def test_minibatches_change_nothing_and_the_mode_stays(opened):
    images = torch.rand(7, 1, 8, 8)
    facts = opened.facts
    model = opened.model.train()
    whole = predict(model, images, facts.mean, facts.std)
    parts = predict(model, images, facts.mean, facts.std, batch=3)
    assert model.training
    model.eval()
    assert whole.probabilities.allclose(parts.probabilities, atol=1e-6)
    assert whole.features.allclose(parts.features, atol=1e-5)
    assert whole.probabilities.allclose(by_hand(opened, images), atol=1e-6)
    assert whole.classes.equal(whole.probabilities.argmax(1))
    with torch.no_grad():
        features = model.features(normalize(images, facts.mean, facts.std))
    assert whole.features.allclose(features, atol=1e-5)


def test_pictures_that_do_not_fit_are_refused(opened):
    with pytest.raises(ValueError, match=r"shape \(1, 3, 8, 8\) do not fit the model"):
        classify(opened, torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"\(B, 1, 8, 8\)"):
        classify(opened, torch.rand(1, 8, 8))
    with pytest.raises(ValueError, match="top_k=0 asks for no class"):
        classify(opened, torch.rand(1, 1, 8, 8), 0)


def test_attention_is_drawn_over_each_picture(opened):
    figure = attention_of(opened, torch.rand(2, 1, 8, 8), ["first", "second"])
    shown = [axis.get_title() for axis in figure.axes]
    assert shown[:4] == ["first", "layer 1", "layer 2", "rollout"] and shown[4] == "second"


# Runs and published folders


def saved_run(folder, **changes):
    """Writes a run as the trainer does, without training."""
    model = ViTConfig(image_size=8, patch_size=4, channels=3, n_classes=2, d_model=16, n_heads=2,
                      n_layers=1, d_ff=16)  # fmt: skip
    config = TrainConfig(model=model, dataset="digits", **changes)
    facts = DataFacts(("cat", "dog"), torch.full((3,), 0.4), torch.full((3,), 0.3), 8, 3)
    state = {"model": build_model(config).state_dict(), "average": None, "facts": facts.to_dict()}
    path = folder / "checkpoints" / "best.pt"
    save_checkpoint(path, family="vit", config=config_to_dict(config), state=state)
    return folder


def test_a_run_is_opened_with_its_facts(tmp_path):
    opened = open_run(saved_run(tmp_path / "mine"))
    assert opened.facts.classes == ("cat", "dog") and opened.dataset == "digits"
    assert opened.figures == tmp_path / "mine" / "figures"
    assert len(classify(opened, torch.rand(2, 3, 8, 8))[0]) == 2


def test_a_published_folder_says_how_to_normalize(tmp_path, opened):
    facts, images = opened.facts, torch.rand(2, 1, 8, 8)
    mean, std = facts.mean.tolist(), facts.std.tolist()
    save_pretrained(tmp_path, opened.model, facts.classes, mean, std)
    found = open_published(tmp_path)
    assert by_hand(found, images).allclose(by_hand(opened, images), atol=1e-6)
    assert found.facts.classes == facts.classes and found.dataset == ""
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(json.dumps({"image_mean": [0.3, 0.3, 0.3]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"\[0.3, 0.3, 0.3\] and the model reads 1 channel"):
        open_published(tmp_path)
    settings.unlink()
    half = open_published(tmp_path)
    assert half.facts.mean.tolist() == [0.5] and half.facts.std.tolist() == [0.5]


# The command


def run(argv, capsys):
    with pytest.raises(SystemExit) as left:
        run_entry(lambda: command.main([str(one) for one in argv]))
    return left.value.code, *capsys.readouterr()


def test_the_command_names_pictures_and_draws(tmp_path, capsys, opened):
    paths = [picture(tmp_path / f"{name}.png", seed) for seed, name in enumerate("ab")]
    where = tmp_path / "where.png"
    code, out, error = run(["--preset", "smoke", *paths, "--top", 2, "--attention", where], capsys)
    assert code == 0 and error == "" and where.stat().st_size
    lines = out.splitlines()
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in paths])
    for line, path, row in zip(lines, paths, classify(opened, images[:, None], 2), strict=False):
        named = ", ".join(f"{name} {share:.1%}" for name, share in row)
        assert line == f"{path}: {named}"
    assert len(lines) == 3 and lines[2].endswith(str(where))


def test_dark_ink_on_white_can_be_swapped(tmp_path, capsys):
    light = picture(tmp_path / "light.png")
    dark = tmp_path / "dark.png"
    Image.fromarray(255 - np.array(Image.open(light))).save(dark)
    _, plain, _ = run(["--preset", "smoke", light], capsys)
    _, swapped, _ = run(["--preset", "smoke", "--invert", dark], capsys)
    assert plain.partition(": ")[2] == swapped.partition(": ")[2]


def test_a_picture_in_color_is_said_to_become_gray(tmp_path, capsys):
    path = picture(tmp_path / "c.png", size=(20, 12), color=True)
    code, out, error = run(["--preset", "smoke", path], capsys)
    assert code == 0 and out.startswith(str(path)) and "gray" in error and error.count("\n") == 1


def test_a_bad_picture_among_good_ones_is_said(tmp_path, capsys):
    good = picture(tmp_path / "good.png")
    text, tiny, cut = tmp_path / "note.png", tmp_path / "tiny.png", tmp_path / "cut.png"
    text.write_text("no picture", encoding="utf-8")
    picture(tiny, size=(1, 1))
    cut.write_bytes(picture(tmp_path / "large.png", size=(64, 64)).read_bytes()[:300])
    code, out, error = run(["--preset", "smoke", text, good, tiny, cut, "none.png"], capsys)
    assert code == 2 and out.count("\n") == 1 and out.startswith(str(good))
    said = error.splitlines()
    assert len(said) == 4 and all(line.startswith("error: ") for line in said)
    for path, line in zip((text, tiny, cut, "none.png"), said, strict=True):
        assert str(path) in line
    code, out, error = run(["--preset", "smoke", text], capsys)
    assert code == 2 and out == "" and error.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["x.png"], "neither --run nor --pretrained was given: there is no model to name pictures"),
        (["--run", "nowhere", "x.png"], "does not exist"),
        (["--run", "a", "--pretrained", "b", "x.png"], "not allowed with"),
        (["--preset", "smoke", "--top", "0"], "--top 0 asks for no class"),
        (["--preset", "smoke", "--device", "tpu"], "device 'tpu' is unknown"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(argv, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    code, out, error = run(argv, capsys)
    assert code == 2 and message in error and error.count("\n") == 1 and out == ""


def test_a_cnn_names_pictures_but_has_no_attention(tmp_path, capsys):
    folder = saved_run(tmp_path / "cnn", architecture="cnn")
    path = picture(tmp_path / "c.png", color=True)
    code, out, error = run(["--run", folder, path], capsys)
    assert code == 0 and error == "" and "cat" in out and "dog" in out
    code, _, error = run(["--run", folder, path, "--attention", tmp_path / "x.png"], capsys)
    assert code == 2 and "ResidualCNN has no attention" in error and error.count("\n") == 1


def test_a_run_without_a_picture_asks_for_one(tmp_path, capsys):
    code, _, error = run(["--run", saved_run(tmp_path / "mine")], capsys)
    assert code == 2 and error.count("\n") == 1 and "picture" in error.lower()
    assert isinstance(open_run(tmp_path / "mine"), OpenModel)
