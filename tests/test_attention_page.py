"""The attention page: right numbers, works without a network, and no text can inject anything."""

import base64
import hashlib
import json
import re

import chromium
import numpy as np
import pytest
import torch

from tutorial_kit.attention_page import (
    MAX_WEIGHTS,
    TEMPLATE,
    AttentionMap,
    fill_template,
    quantize,
    write_attention_page,
)

HOSTILE = [
    "</script><img src=x onerror=document.documentElement.dataset.hacked=1>",
    "<!--<script>",
    "]]><svg onload=document.documentElement.dataset.hacked=1>",
    "\u2028\u2029\u202edetcerid",
    "<img src=http://127.0.0.1:9/beacon>",
    "&lt;b&gt;@data@",
    '"};document.documentElement.dataset.hacked=1;//',
    "\ud800 \x00\x07",
    "{{constructor.constructor('document.documentElement.dataset.hacked=1')()}}",
    "javascript:alert(1)",
]


def attention(layers, heads, rows, columns, causal=False, seed=0):
    scores = torch.randn(layers, heads, rows, columns, generator=torch.manual_seed(seed)) * 2
    if causal:
        scores.masked_fill_(~torch.ones(rows, columns, dtype=torch.bool).tril(), -torch.inf)
    return scores.softmax(dim=-1)


def words(count):
    return [f" word{i}" if i else "word0" for i in range(count)]


def data_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_weights_survive_the_page_to_two_digits(tmp_path):
    weights = attention(2, 3, 7, 5)
    page = write_attention_page(
        tmp_path / "p.html",
        title="t",
        maps=[AttentionMap("m", words(7), weights, columns=words(5))],
    )
    (entry,) = data_of(page)["maps"]
    levels = np.frombuffer(base64.b64decode(entry["levels"]), dtype=np.uint8)
    back = (levels.reshape(2, 3, 7, 5) / 255.0) ** 2
    assert np.abs(back - weights.numpy()).max() < 0.004
    assert (quantize(np.array([0.005, 0.0, 1.0], dtype=np.float32)) == [18, 0, 255]).all()


def test_a_causal_map_does_not_store_its_zeros():
    causal = AttentionMap("m", words(9), attention(1, 1, 9, 9, causal=True)).to_page()
    full = AttentionMap("m", words(9), attention(1, 1, 9, 9)).to_page()
    assert causal["causal"] and not full["causal"]
    assert len(base64.b64decode(causal["levels"])) == 45
    assert len(base64.b64decode(full["levels"])) == 81


def test_tensors_and_arrays_of_any_precision_give_the_same_page():
    weights = attention(1, 2, 4, 4)
    pages = [
        AttentionMap("m", words(4), w).to_page()
        for w in (
            weights,
            weights.numpy(),
            weights.double().numpy().tolist(),
            weights.requires_grad_(),
        )
    ]
    assert all(page == pages[0] for page in pages)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weights": attention(1, 1, 4, 4)[0]}, "needs (layers, heads, rows, columns)"),
        ({"weights": attention(1, 1, 3, 4)}, "for 4 row and 4 column tokens"),
        ({"weights": attention(1, 1, 4, 4).log()}, "Pass them after the softmax"),
        ({"weights": attention(1, 1, 4, 4) * torch.nan}, "weights from nan"),
        ({"rows": [], "weights": torch.zeros(1, 1, 0, 0)}, "for 0 row"),
        ({"predictions": [[("a", 0.5)]]}, "predictions for 1 positions but 4 row tokens"),
        ({"truth": ["a"]}, "truth for 1 positions but 4 row tokens"),
    ],
)
def test_what_does_not_fit_together_is_said(change, text):
    arguments = {"name": "m", "rows": words(4), "weights": attention(1, 1, 4, 4)} | change
    with pytest.raises(ValueError, match=re.escape(text)):
        AttentionMap(**arguments)


def test_a_page_needs_a_map_and_has_a_limit(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="without an attention map"):
        write_attention_page(tmp_path / "p.html", title="t", maps=[])
    monkeypatch.setattr("tutorial_kit.attention_page.MAX_WEIGHTS", 15)
    with pytest.raises(ValueError, match="16 attention weights are too many"):
        some = AttentionMap("m", words(4), attention(1, 1, 4, 4))
        write_attention_page(tmp_path / "p.html", title="t", maps=[some])
    assert not list(tmp_path.iterdir())
    assert MAX_WEIGHTS >= 12 * 12 * 256 * 256  # a text of 256 tokens in a model of GPT-2's size


def test_data_is_escaped_json():
    page = fill_template('<p>@policy@</p><script type="application/json">@data@</script>', HOSTILE)
    assert page.isascii()
    body = page[page.index("json") : page.rindex("</script>")]
    assert not set(body[6:]) & set("<>&")
    assert json.loads(body[body.index("[") :]) == HOSTILE


def test_the_policy_names_the_script_and_the_style_by_hash(tmp_path):
    maps = [AttentionMap("m", words(4), attention(1, 1, 4, 4))]
    text = write_attention_page(tmp_path / "p.html", title="t", maps=maps).read_text("utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)[1]
    assert policy.startswith("default-src 'none'; ")
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        content = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy


def test_the_template_asks_nothing_of_anybody():
    text = TEMPLATE.read_text(encoding="utf-8")
    for word in ("http:", "https:", "//", "@import", "url(", "import(", "fetch(", "innerHTML"):
        assert word not in text.replace("// ", ""), word
    assert not re.search(r"\b(src|href|on\w+)=", text)
    assert "eval" not in text and "document.write" not in text and "insertAdjacent" not in text


# From here on a real browser opens the page.

needs_browser = pytest.mark.skipif(chromium.CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser():
    browser = chromium.Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A decoder's page whose head 2 of layer 1 looks at the previous token, and a second map."""
    weights = attention(2, 3, 8, 8, causal=True)
    weights[0, 1] = torch.eye(8).roll(-1, dims=1)
    weights[0, 1, 0] = torch.eye(8)[0]
    choices = [[(f"guess{t}", 0.5), (f" word{t + 1}", 0.004)] for t in range(8)]
    return write_attention_page(
        tmp_path_factory.mktemp("page") / "p.html",
        title="Eight words",
        note="a note",
        maps=[
            AttentionMap("decoder", words(8), weights, predictions=choices, truth=[*words(9)[1:]]),
            AttentionMap(
                "cross", words(8), attention(1, 2, 8, 3), columns=["eins", "zwei", "drei"]
            ),
        ],
    )


def chosen(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('.tokens .chosen')].map(e => e.innerText)"
    )


def shade(browser, box, index):
    return browser.evaluate(f"document.querySelectorAll('#{box} > span')[{index}].title")


@needs_browser
def test_the_page_shows_what_the_weights_say(browser, page):
    browser.open(page, "#layer=1&head=2&token=5")
    assert browser.evaluate("document.title") == browser.text("h1") == "Eight words"
    assert browser.text("#heading") == "Layer 1 of 2, head 2 of 3"
    assert "100\u00a0% of its attention to the token before it" in browser.text("#habit")
    assert [shade(browser, "rows", i) for i in (2, 3, 4)] == ["0\u00a0%", "100\u00a0%", "0\u00a0%"]
    assert browser.text("#readout") == (
        "“ word4” (token 5) gives 100\u00a0% of its attention to “ word3” (token 4)."
    )
    assert browser.text("#expected ol").split() == ["guess4", "50", "%", "word5", "<1", "%"]
    assert browser.text("#expected .true") == " word5"
    assert browser.evaluate("document.querySelectorAll('#grid canvas').length") == 2 * (3 + 1)
    assert browser.evaluate("get('tabs').offsetHeight") > 0
    assert (browser.complaints, browser.requests) == ([], [page.as_uri()])


@needs_browser
def test_arrow_keys_walk_through_heads_layers_and_tokens(browser, page):
    browser.open(page)
    assert chosen(browser) == [" word7"]  # the last token sees all others
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        browser.press(key)
    assert browser.text("#heading") == "Layer 2 of 2, head 2 of 3"
    for _ in range(5):
        browser.press("ArrowRight")
    assert browser.text("#heading") == "Layer 2 of 2, mean of the heads"
    browser.click(*browser.middle("#rows span:nth-child(3)"))
    browser.press("ArrowRight")
    assert chosen(browser) == [" word3"]
    browser.press("ArrowUp")
    assert browser.text("#heading") == "Layer 1 of 2, mean of the heads"
    assert browser.evaluate("document.activeElement.innerText") == " word3"
    browser.press("Home")
    assert chosen(browser) == ["word0"]
    assert browser.complaints == []


@needs_browser
def test_hovering_previews_and_leaving_restores(browser, page):
    browser.open(page, "#layer=1&head=2&token=7")
    browser.hover(*browser.middle("#rows span:nth-child(4)"))
    assert chosen(browser) == [" word3"]
    assert shade(browser, "rows", 2) == "100\u00a0%"
    browser.hover(1, 1)
    assert chosen(browser) == [" word6"]


@needs_browser
def test_the_heat_map_answers_for_each_cell(browser, page):
    browser.open(page, "#layer=1&head=2&token=7")
    x, y = browser.evaluate(
        "(() => { const c = get('map'); c.scrollIntoView(); const b = c.getBoundingClientRect();"
        "return [b.x + c.left + 4.5 * c.cell, b.y + c.top + 5.5 * c.cell]; })()"
    )
    browser.hover(x, y)
    assert browser.text("#readout").endswith(
        "gives 100\u00a0% of its attention to \u201c word4\u201d (token 5)."
    )
    assert chosen(browser) == [" word5"]
    browser.click(x, y)
    browser.hover(1, 1)
    assert chosen(browser) == [" word5"]


@needs_browser
def test_the_other_direction_and_the_other_map(browser, page):
    browser.open(page, "#layer=1&head=2&token=3")
    browser.click(*browser.middle("#to"))
    assert shade(browser, "rows", 3) == "100\u00a0%"  # word3 is the one that looks at word2
    browser.click(*browser.middle("#tabs button:nth-child(2)"))
    assert chosen(browser) == ["drei"]
    browser.click(*browser.middle("#from"))
    assert chosen(browser) == [" word2"]
    weights = attention(1, 2, 8, 3)[0, 1, 2]  # layer, head and token stay as they were
    shown = [float(re.sub(r"\D", "", shade(browser, "columns", i))) / 100 for i in range(3)]
    assert shown == pytest.approx(weights.tolist(), abs=0.01)
    assert browser.text("#habit") == ""  # "the token before" has no meaning between two texts
    assert browser.complaints == []


@needs_browser
def test_a_phone_shows_everything_without_sideways_scrolling(browser, page):
    for place in ("", "#map=2"):
        browser.open(page, place, width=360, height=740, phone=True)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    browser.open(page, width=360, height=740, phone=True)
    browser.tap(*browser.middle("#rows span:nth-child(2)"))
    assert chosen(browser) == [" word1"]
    assert browser.evaluate("document.querySelector('#grid button').offsetWidth") >= 24


@needs_browser
def test_light_and_dark_are_both_readable(browser, page):
    """Every shade has ink with a contrast of at least 4.5 (WCAG 2.2, success criterion 1.4.3)."""
    contrast = """colors.map(({ css, ink }) => {
      const light = (color) => [0, 1, 2].map((i) => color[i] / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const parts = [css.match(/\\d+/g).map(Number),
        [1, 3, 5].map((at) => parseInt(ink.slice(at, at + 2), 16))].map(light);
      return (Math.max(...parts) + 0.05) / (Math.min(...parts) + 0.05);
    }).reduce((a, b) => Math.min(a, b))"""
    papers = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        assert browser.evaluate(contrast) >= 4.5
        papers.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


@needs_browser
def test_hostile_text_stays_text(browser, tmp_path):
    count = len(HOSTILE)
    hostile = write_attention_page(
        tmp_path / "hostile.html",
        title=HOSTILE[0],
        note=HOSTILE[2],
        maps=[
            AttentionMap(
                HOSTILE[0],
                HOSTILE,
                attention(1, 2, count, count),
                predictions=[[(text, 0.5) for text in HOSTILE[:4]]] * count,
                truth=HOSTILE,
                predictions_title=HOSTILE[4],
            ),
            AttentionMap(HOSTILE[4], HOSTILE, attention(1, 2, count, count), columns=HOSTILE),
        ],
    )
    for place in ("", "#map=2&token=1", "#map=<img src=x>&token=__proto__"):
        browser.open(hostile, place)
        assert browser.evaluate("document.documentElement.dataset.hacked") is None
        assert browser.evaluate("document.querySelectorAll('img, svg, iframe, a, b').length") == 0
        assert browser.evaluate("document.scripts.length") == 2
        assert browser.complaints == []
        assert [url.split("#")[0] for url in browser.requests] == [hostile.as_uri()]
    assert browser.text("h1") == browser.evaluate("document.title") == HOSTILE[0]
    assert browser.evaluate("get('rows').children[0].innerText") == HOSTILE[0]
    assert browser.evaluate("get('rows').children[3].innerText") == "U+2028U+2029U+202Edetcerid"
    assert browser.evaluate("get('rows').children[7].innerText") == "U+D800 U+0000U+0007"


@needs_browser
def test_the_policy_stops_what_would_get_in_anyway(browser, page):
    """The second wall: even a script that somehow reached the page does not run or report home."""
    browser.open(page)
    browser.evaluate(
        "(() => { const s = document.createElement('script');"
        "s.textContent = 'document.documentElement.dataset.hacked = 1'; document.body.append(s);"
        "const i = new Image(); i.src = 'http://127.0.0.1:9/beacon'; document.body.append(i); })()"
    )
    assert browser.evaluate("document.documentElement.dataset.hacked") is None
    assert len(browser.complaints) == 2
    assert all("Content Security Policy" in text for text in browser.complaints)


@needs_browser
def test_a_large_page_opens_in_reasonable_time(browser, tmp_path):
    weights = attention(6, 6, 160, 160, causal=True)
    maps = [AttentionMap("m", words(160), weights)]
    large = write_attention_page(tmp_path / "large.html", title="large", maps=maps)
    assert large.stat().st_size < 0.75 * weights.numel()
    browser.open(large)
    assert (
        browser.evaluate("performance.timing.domInteractive - performance.timing.responseEnd")
        < 5000
    )
    assert browser.evaluate("get('map').clientHeight") > 300
    assert browser.evaluate("get('tabs').offsetHeight") == 0  # one map needs no tabs
    assert browser.evaluate("get('expected').offsetHeight") == 0  # and no predictions, no list
