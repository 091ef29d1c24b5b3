"""The report: right numbers, nothing from outside, no text can inject anything, fits a phone."""

import base64
import hashlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import chromium
import pytest
import torch
from PIL import Image

import demo_complete_project
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.demo import DemoResult, KeptDemo
from tutorial_kit.demo_runner import FAMILIES, Family
from tutorial_kit.report_chart import chart, marks, text
from tutorial_kit.report_facts import (
    Curve,
    Facts,
    embedded,
    facts_of,
    parameter_count,
    run_folders,
    sample_of,
)
from tutorial_kit.report_page import COLUMNS, TEMPLATE, Card, write_report
from tutorial_kit.texts import Texts

TEXTS = Texts(PROJECT_ROOT / "tutorial_kit", "en")
HOSTILE = (
    "</pre></p></style><script>document.documentElement.dataset.hacked=1</script>"
    '"><img src=x onerror=document.documentElement.dataset.hacked=1>'
    "<a href=javascript:alert(1)>&lt;b&gt; @body@ @policy@ \u202edetcerid \ud800 \x00 {family}"
)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
STORY = """1. Data. Words.

6. What is near now:
   array          arrays, ndarray

7. Pictures, and the vectors:
   FILE

Next: read the chapter.
"""


def make_run(folder, rows, picture=(640, 400), weights=None):
    """Writes the files of a run; returns the picture's path."""
    (folder / "figures").mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines + '{"step": 9', encoding="utf-8")
    (folder / "config.json").write_text('{"batch_size": 32, "accumulation": 2}', encoding="utf-8")
    Image.new("RGBA", picture, (200, 30, 30, 0)).save(folder / "figures" / "map.png")
    Image.new("RGB", (4, 4)).save(folder / "figures" / "training.png")
    if weights is not None:
        (folder / "checkpoints").mkdir()
        torch.save({"state": {"model": weights}}, folder / "checkpoints" / "last.pt")
    return folder / "figures" / "map.png"


def kept(family, files=(), story=STORY, **changes):
    values = {"learned": f"to do the work of {family}", "headline": "2.10 bits per byte"}
    result = DemoResult(**{"family": family, "value": 2.1, "unit": "bits", "seconds": 61.24,
                           "files": tuple(map(str, files)), **values, **changes})  # fmt: skip
    return KeptDemo(result, "quick", "2026-03-01 12:30", story)


def rows(count, **more):
    return [
        {"step": 100 * i, "seconds": 2.0 * i, "train_loss": 3 / i, "validation_loss": 3.1 / i}
        | more
        for i in range(1, count + 1)
    ]


def family(name, title=None):
    return Family(name, title or f"The {name} title", f"You see {name}.")


def write(path, cards):
    return write_report(path, cards, TEXTS, note="a note").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """All nine families: finished, one without a picture, one failed, interrupted, not run."""
    root = tmp_path_factory.mktemp("report")
    cards = []
    for name in FAMILIES:
        if name in ("multimodal", "optimization", "bert"):
            status = {"multimodal": "failed", "optimization": "missing"}.get(name, "interrupted")
            cards.append(Card(family(name), status, message="no <memory>", log="outputs/x.log"))
            continue
        picture = make_run(root / name, rows(6, tokens=5000))
        wide = STORY.replace("arrays", "arrays " * 40)
        demo = kept(name, [] if name == "vit" else [picture], wide)
        cards.append(Card(family(name), "finished", demo, facts_of(demo)))
    path = root / "report.html"
    write(path, cards)
    return path


# --- what is read from the files ---------------------------------------------------------------


def test_the_facts_of_a_run_are_its_own_numbers(tmp_path):
    shared = torch.zeros(5, 4)
    weights = {"embed": shared, "head": shared, "bias": torch.zeros(3), "ids": torch.arange(9)}
    picture = make_run(tmp_path / "quick", rows(3, tokens=600), weights=weights)
    curve = picture.with_name("training.png")
    facts = facts_of(kept("gpt", [curve, picture]))
    assert (facts.parameters, facts.rate, facts.rate_unit) == (23, 100.0, "tokens")
    assert facts.curve.run == "quick"
    assert facts.curve.train == ((100, 3.0), (200, 1.5), (300, 1.0))
    assert facts.curve.validation[-1] == (300, pytest.approx(3.1 / 3))
    assert facts.picture_name == "map.png"  # curves are drawn anyway


def test_where_nothing_is_counted_examples_are(tmp_path):
    picture = make_run(tmp_path / "run", rows(2))
    facts = facts_of(kept("vit", [picture]))
    assert (facts.rate, facts.rate_unit) == (200 * 64 / 4.0, "examples")


def test_a_demo_without_files_has_no_facts_and_fails_nowhere():
    facts = facts_of(kept("gpt", story=""))
    assert facts == Facts()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_left_out(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert embedded(path) == "" == embedded(tmp_path / "missing.png")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", {"state": {}}, [1]])
def test_what_is_no_checkpoint_has_no_parameters(tmp_path, content):
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "last.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    assert parameter_count(tmp_path) is None


@pytest.mark.parametrize("lines", ["", "nothing\n", '[1]\n{"loss": 2}\n', '{"step": NaN}\n'])
def test_a_log_without_losses_gives_no_curve(tmp_path, lines):
    picture = make_run(tmp_path / "run", [])
    (tmp_path / "run" / "metrics.jsonl").write_text(lines, encoding="utf-8")
    facts = facts_of(kept("gpt", [picture]))
    assert facts.curve is None and facts.rate is None


def test_a_large_picture_is_scaled_down_and_gets_a_white_ground(tmp_path):
    picture = make_run(tmp_path / "run", [], picture=(3000, 1000))
    address = embedded(picture)
    assert address.startswith("data:image/png;base64,")
    path = tmp_path / "back.png"
    path.write_bytes(base64.b64decode(address.split(",")[1]))
    with Image.open(path) as back:
        assert back.size == (1200, 400)
        assert back.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_run_folders_are_found_once_and_in_order(tmp_path):
    first, second = (make_run(tmp_path / name, []) for name in ("b", "a"))
    files = [first, first.parents[1] / "vectors.bin", second, tmp_path / "elsewhere.png"]
    found = list(run_folders(kept("cbow", files).result))
    assert found == [tmp_path / "b", tmp_path / "a"]


@pytest.mark.parametrize(
    ("story", "sample"),
    [
        (STORY, "6. What is near now:\n   array          arrays, ndarray"),
        (
            STORY.replace("7. Pict", "Pict"),
            "6. What is near now:\n   array          arrays, ndarray",
        ),
        ("It writes:\n   a b", "It writes:\n   a b"),
        ("", ""),
    ],
)
def test_the_sample_is_the_last_part_before_the_files(story, sample):
    assert sample_of(story.replace("FILE", "/x/outputs/a.png"), ["outputs/a.png"]) == sample


# --- the page ----------------------------------------------------------------------------------


def test_each_family_shows_what_it_learned_and_its_numbers(tmp_path):
    facts = Facts(parameters=1234567, rate=98765.4, rate_unit="tokens")
    shown = write(tmp_path / "r.html", [Card(family("gpt"), "finished", kept("gpt"), facts)])
    for part in ("The gpt title", "to do the work of gpt", "2.10 bits per byte", "61.2 s",
                 "1,234,567", "98,800 tokens/s", "quick\n2026-03-01 12:30"):  # fmt: skip
        assert part in shown, part
    assert shown.count("1,234,567") == 2  # on the card and in the comparison


def test_a_failed_demo_is_a_card_that_says_so(page):
    shown = page.read_text(encoding="utf-8")
    card = re.search(r'<article class="card failed" id="multimodal">.*?</article>', shown, re.S)[0]
    assert "The demo failed: no &lt;memory&gt;.\nDetails: outputs/x.log" in card
    assert "python demo_complete_project.py --only optimization" in shown
    assert "python bert/quick_start.py" in shown
    assert shown.count("<article") == len(FAMILIES)
    assert shown.count('<div class="chart">') == 6  # one for each family with a result


def test_a_missing_picture_is_said(page):
    shown = page.read_text(encoding="utf-8")
    card = re.search(r'id="vit">.*?</article>', shown, re.S)[0]
    assert "This demo left no picture" in card and "<img" not in card
    assert shown.count("<img ") == 5


def test_every_family_has_a_row_in_the_comparison():
    for name in FAMILIES:
        for column in ("model", *COLUMNS):
            assert TEXTS.get(f"report.{name}.{column}")


def test_nothing_on_the_page_comes_from_outside(page):
    shown = page.read_text(encoding="utf-8")
    without_pictures = re.sub(r"data:image/png;base64,[\w+/=]+", "", shown)
    for word in (
        "http:",
        "https:",
        "//",
        "@import",
        "url(",
        "<script",
        "<link",
        "<iframe",
        "srcset",
    ):
        assert word not in without_pictures, word
    assert not re.search(r"\bon\w+=|\bstyle=", without_pictures)
    addresses = re.findall(r'\b(?:src|href)="([^"]*)"', shown)
    assert addresses and all(a.startswith(("data:image/png;base64,", "#")) for a in addresses)
    ids = set(re.findall(r'\bid="([^"]*)"', shown))
    assert {a[1:] for a in addresses if a.startswith("#")} <= ids


def test_the_policy_names_the_style_by_hash(page):
    shown = page.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', shown)[1]
    style = re.search("<style>(.*?)</style>", shown, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{digest}';" in policy and "script" not in policy


class Tags(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    EMPTY = {"meta", "img", "line", "polyline", "circle"}

    def __init__(self, page):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def hostile_card():
    demo = kept("gpt", story=f"1. {HOSTILE}\n   {HOSTILE}", learned=HOSTILE, headline=HOSTILE)
    curve = Curve(HOSTILE, ((1, 2.0), (2, 1.0)), ())
    facts = Facts(PIXEL, HOSTILE, HOSTILE, curve, 3, 4.0, "tokens")
    return Card(family("gpt", HOSTILE), "finished", demo, facts)


def test_hostile_text_stays_text(tmp_path):
    failed = Card(Family("vit", HOSTILE, HOSTILE), "failed", message=HOSTILE, log=HOSTILE)
    shown = write(tmp_path / "r.html", [hostile_card(), failed])
    seen = Tags(shown).seen
    assert "script" not in seen and seen.count("style") == 1 and seen.count("img") == 1
    assert "U+202Edetcerid U+D800 U+0000 {family}" in shown
    assert "\u202e" not in shown and "\x00" not in shown
    assert shown.count("default-src") == 1  # a mark in a text is not filled in


def test_all_elements_are_closed(page):
    assert "svg" in Tags(page.read_text(encoding="utf-8")).seen


def test_text_keeps_lines_and_other_scripts():
    assert text("a\n\tb 词元 <é>") == "a\n\tb 词元 &lt;é&gt;"


@pytest.mark.parametrize(
    ("low", "high"), [(0, 8), (0, 7.5e6), (2.0, 2.0), (0, 0), (-3.2, 4.1), (1e-6, 2e-6)]
)
def test_marks_enclose_the_values(low, high):
    found = marks(low, high)
    assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 6
    steps = [b - a for a, b in zip(found, found[1:], strict=False)]
    assert min(steps) > 0 and max(steps) == pytest.approx(min(steps))


@pytest.mark.parametrize(
    "curve",
    [Curve("r", ((8, 2.0),), ()), Curve("r", (), ((0, 1.0),)), Curve("r", ((1, -2), (2, -3)), ())],
)
def test_a_short_curve_is_drawn_inside_the_chart(curve):
    drawn = chart(curve, "gpt", TEXTS)
    dots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', drawn)]
    assert len(dots) == len(curve.train) + len(curve.validation)
    assert all(40 <= x <= 320 and 24 <= y <= 176 for x, y in dots)


def test_the_template_has_no_script():
    template = TEMPLATE.read_text(encoding="utf-8")
    assert "<script" not in template and "http" not in template.replace("http-equiv", "")


# --- the script --------------------------------------------------------------------------------

DEMO = """
import os, pathlib
from tutorial_kit.demo import DemoResult
def main(argv=None):
    folder = pathlib.Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "NAME"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "count.txt", "a", encoding="utf-8") as file:
        file.write("x")
    print("1. It counts:", argv)
    BODY
    return DemoResult("NAME", "to count", "3 of 3", 3.0, "items", 0.1, (str(folder / "count.txt"),))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Made-up families under names of their own, so that the real ones stay untouched."""
    root = tmp_path / "project"
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(root / "outputs"))
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(root / "cache"))
    bodies = {"made_a": "pass", "made_b": "raise RuntimeError('no <luck>')", "made_c": "pass"}
    monkeypatch.setattr("tutorial_kit.demo_runner.FAMILIES", tuple(bodies))
    monkeypatch.setattr(demo_complete_project, "SMOKE_FAMILIES", ("made_a",))
    templates = {
        f"report.{name}.{column}": "-" for name in bodies for column in ("model", *COLUMNS)
    }
    original = Texts.__init__

    def with_made_up_rows(self, *arguments):
        original(self, *arguments)
        self.templates |= templates

    monkeypatch.setattr(Texts, "__init__", with_made_up_rows)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, body in bodies.items():
        (root / name / "texts").mkdir(parents=True)
        (root / name / "__init__.py").touch()
        source = DEMO.replace("NAME", name).replace("BODY", body)
        (root / name / "quick_start.py").write_text(source, encoding="utf-8")
    yield root
    for name in [name for name in sys.modules if name.startswith("made_")]:
        del sys.modules[name]


def runs(root, name):
    path = root / "outputs" / name / "count.txt"
    return len(path.read_text(encoding="utf-8")) if path.exists() else 0


def test_results_are_reused_and_failures_counted(project, capsys):
    output = project / "outputs" / "report.html"
    assert demo_complete_project.main([], root=project) == 1
    assert "made_b failed" in capsys.readouterr().out
    shown = output.read_text(encoding="utf-8")
    assert "RuntimeError: no &lt;luck&gt;" in shown and shown.count("<article") == 3
    assert shown.count("3 of 3") == 2 and "1. It counts:" in shown
    assert demo_complete_project.main(["--only", "made_c,made_a"], root=project) == 0
    assert (runs(project, "made_a"), runs(project, "made_b"), runs(project, "made_c")) == (1, 1, 1)
    assert "made_a: reused the quick run" in capsys.readouterr().out
    assert demo_complete_project.main(["--only", "made_a", "--rerun"], root=project) == 0
    assert runs(project, "made_a") == 2
    shutil.rmtree(project / "outputs" / "made_c")  # its files are gone, so it runs again
    assert demo_complete_project.main(["--only", "made_c"], root=project) == 0
    assert runs(project, "made_c") == 1


def test_smoke_starts_a_few_families_and_shows_the_others_as_not_run(project, tmp_path):
    output = tmp_path / "elsewhere" / "page.html"
    arguments = ["--preset", "smoke", "--output", str(output)]
    assert demo_complete_project.main(arguments, root=project) == 0
    shown = output.read_text(encoding="utf-8")
    assert shown.count("not run yet") == 2 and "--preset&#x27;, &#x27;smoke" in shown
    assert runs(project, "made_b") == runs(project, "made_c") == 0


def test_after_an_interrupt_no_other_demo_starts_but_the_page_is_written(project):
    source = project / "made_b" / "quick_start.py"
    source.write_text("def main(argv=None):\n    raise KeyboardInterrupt\n", encoding="utf-8")
    assert demo_complete_project.main([], root=project) == 130
    shown = (project / "outputs" / "report.html").read_text(encoding="utf-8")
    assert shown.count("was interrupted") == 1 and runs(project, "made_c") == 0


def test_a_folder_as_output_is_refused_before_anything_runs(project):
    with pytest.raises(ValueError, match="is a folder: the report is one file"):
        demo_complete_project.main(["--output", str(project)], root=project)
    assert runs(project, "made_a") == 0


# --- a real browser opens the page -------------------------------------------------------------

needs_browser = pytest.mark.skipif(chromium.CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser():
    browser = chromium.Browser()
    yield browser
    browser.close()


def asked(browser):
    """Returns what the page asked for; pictures in the page itself are no request."""
    return [url for url in browser.requests if not url.startswith("data:")]


@needs_browser
@pytest.mark.parametrize(("width", "phone"), [(1280, False), (800, False), (360, True)])
def test_nothing_is_wider_than_the_window(browser, page, width, phone):
    browser.open(page, width=width, height=740, phone=phone)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    cells = "[...document.querySelectorAll('td:last-child span')].map((e) => e.offsetHeight)"
    assert max(browser.evaluate(cells)) < 60  # no number is broken into pieces
    wide = browser.evaluate(
        "[...document.querySelectorAll('body *')].filter((e) => !e.closest('pre, .picture') && "
        f"e.getBoundingClientRect().right > {width} + 0.5).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert browser.evaluate("[...document.images].every((i) => i.naturalWidth > 0)")
    assert (browser.complaints, asked(browser)) == ([], [page.as_uri()])
    sizes = browser.evaluate(
        "[...document.querySelectorAll('svg')].map((s) => Math.round(s.clientWidth))"
    )
    assert len(sizes) == 6 and len(set(sizes)) == 1 and sizes[0] > 250


@needs_browser
def test_light_and_dark_are_both_readable(browser, page):
    """Text on its ground has a contrast of at least 4.5 (WCAG 2.2, success criterion 1.4.3)."""
    contrast = """((names, grounds) => {
      const light = (name) => {
        const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      };
      return Math.min(...names.flatMap((name) => grounds.map((ground) => {
        const pair = [light(name), light(ground)];
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      })));
    })(["--ink", "--soft", "--train", "--validation", "--good", "--bad"], ["--paper", "--panel"])"""
    papers = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        assert browser.evaluate(contrast) >= 4.5
        papers.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


@needs_browser
def test_hostile_text_does_nothing_in_a_browser(browser, tmp_path):
    path = tmp_path / "hostile.html"
    write(path, [hostile_card()])
    browser.open(path, width=360, height=740, phone=True)
    assert browser.evaluate("document.documentElement.dataset.hacked") is None
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.text(".headline").startswith("</pre></p></style><script>")
    assert (browser.complaints, asked(browser)) == ([], [path.as_uri()])
