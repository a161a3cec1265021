"""The page in a real browser: on a phone, on a desk and on paper nothing sticks out, is missing or asks the network."""

import base64
import re

import pytest

from ditgta.stages import table
from tests.report import suite
from tests.report.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

# What sticks out of the window to the right, and is in no box that scrolls on its own.
STICKING_OUT = """[...document.querySelectorAll("body *")].filter(element => {
  const box = element.getBoundingClientRect();
  const scrolls = element.closest(".wide, details:not([open]) > :not(summary)");
  return box.right > innerWidth + 1 && !(scrolls && matchMedia("screen").matches);
}).map(element => element.outerHTML.slice(0, 200))"""
# Texts whose contrast to what lies behind them is below WCAG's AA: 4.5, or 3 for large ones.
FAINT = """(() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => parts(colour).slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(0, 0, 0)" : "rgb(255, 255, 255)";
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.data.trim() || ["STYLE", "title"].includes(element.tagName)) continue;
    const drawn = element.closest("svg") ? style.fill : style.color;
    const [one, other] = [light(drawn), light(behind(element))].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    count++;
    if ((other + .05) / (one + .05) < (large ? 3 : 4.5))
      found.push([walker.currentNode.data.slice(0, 40), drawn, behind(element), ((other + .05) / (one + .05)).toFixed(2)]);
  }
  return [count, found];
})()"""
# Titles of points that a pointer at the point's centre does not find, and their number. Points that overlap find one of theirs.
UNFOUND = """(() => {
  const titles = [...document.querySelectorAll("svg.figure g > title")];
  const missed = titles.filter(title => {
    title.parentElement.scrollIntoView({block: "center", inline: "center"});
    const box = title.parentElement.getBoundingClientRect();
    let element = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    while (element && !element.querySelector(":scope > title")) element = element.parentElement;
    return !(element && element.tagName === "g");
  });
  return [titles.length, missed.map(title => title.textContent)];
})()"""
# Titles whose point's centre answers with the title of a point that lies elsewhere; points closer than 4 pixels cannot be told apart.
MISTAKEN = """[...document.querySelectorAll("svg.figure g > title")].filter(title => {
  const centre = element => {
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  title.parentElement.scrollIntoView({block: "center", inline: "center"});
  const [x, y] = centre(title.parentElement);
  let element = document.elementFromPoint(x, y);
  while (element && !element.querySelector(":scope > title")) element = element.parentElement;
  if (!element) return true;
  const [foundX, foundY] = centre(element);
  return Math.hypot(foundX - x, foundY - y) > 4;
}).map(title => title.textContent)"""
PAPER = 703  # CSS pixels of A4 between margins of 12 mm


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page as large as they come: long names, two milestones, three training seeds."""
    root = tmp_path_factory.mktemp("suite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "FID", {f"imagenet256-{name}-qknorm": fid for name, fid in suite.FID.items()})
        arguments = suite.make_suite(root, seeds=(0, 1, 2))
    names = [
        score.name.split("-0-")[0] for score in arguments["scores"] if score.name.endswith("-0-200000.json")
    ]
    spec = arguments["spec"] | {"differences": [[names[2], names[1]], [names[2], names[0]]]}
    table.run(**arguments | {"spec": spec}, out=root / "table")
    return root / "table" / "table.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_what_is_behind_it(browser, page, dark):
    browser.open(page, 1280, dark=dark)
    browser.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    count, faint = browser.ask(FAINT)
    assert count > 500 and faint == []
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)"
    )


def test_a_pointer_on_a_point_finds_its_values(browser, page):
    browser.open(page, 1280)
    browser.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    count, missed = browser.ask(UNFOUND)
    assert count > 15 and missed == []
    assert browser.ask(MISTAKEN) == []
    by_class = "[...document.querySelectorAll('#classes svg.figure title')].map(e => e.textContent)"
    assert any("gta, " in words and "95 %" in words for words in browser.ask(by_class))


def test_a_phone_shows_differences_as_cards_with_whole_verdicts(browser, page):
    browser.open(page, 390)
    cards = "[...document.querySelectorAll('#differences > .wide tr')].filter(e => e.offsetHeight)"
    assert browser.ask(f"new Set({cards}.map(e => getComputedStyle(e).display)).size") == 1
    assert browser.ask(f"getComputedStyle({cards}[0]).display") == "grid"
    cut = "[...document.querySelectorAll('td.words')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert browser.ask(cut) == 0 and browser.ask(f"{cards}.every(e => e.offsetWidth <= 390)")


def test_milestones_of_the_samples_are_switched_without_a_script(browser, page):
    browser.open(page, 1280)
    browser.ask("document.querySelector('.explorer details').open = true")
    shown = "[...document.querySelectorAll('.explorer details[open] .at')].map(e => e.offsetHeight > 0)"
    assert browser.ask(shown) == [False, True]
    browser.ask("document.querySelector('#milestone-1').click()")
    assert browser.ask(shown) == [True, False]


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_is_missing_or_comes_from_elsewhere(browser, page, width):
    browser.requests.clear()
    browser.open(page, width)
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(STICKING_OUT) == []
    sizes = browser.ask(
        "[...document.images].map(image => [image.complete, image.naturalWidth, image.alt.length])"
    )
    assert len(sizes) > 10 and all(complete and pixels > 0 and words for complete, pixels, words in sizes)
    assert browser.requests[0] == page.as_uri()
    assert len(browser.requests) > 10 and all(url.startswith("data:image/") for url in browser.requests[1:])


def test_folded_parts_do_not_overflow_when_they_are_opened(browser, page):
    browser.open(page, 390)
    browser.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") <= 390 and browser.ask(STICKING_OUT) == []


def test_paper_holds_every_column_and_shows_what_is_folded(browser, page):
    browser.open(page, PAPER, media="print")
    assert browser.ask(STICKING_OUT) == []
    heights = """[...document.querySelectorAll('details svg.figure, details table')].filter(e => !e.closest('.raw'))
      .map(e => e.getBoundingClientRect().height)"""
    assert browser.ask(heights) and min(browser.ask(heights)) > 0
    raw = "[...document.querySelectorAll('details.raw > summary')].map(e => e.textContent)"
    assert {"Files of every row", "How each run ended"} <= set(browser.ask(raw))
    options = {"preferCSSPageSize": True, "paperWidth": 8.27, "paperHeight": 11.69}
    paper = base64.b64decode(browser.call("Page.printToPDF", **options)["data"])
    assert 1 < len(re.findall(rb"/Type\s*/Page[^s]", paper)) <= 8


def test_the_checks_would_notice(browser, page, tmp_path):
    text = page.read_text()
    wide = (
        "<img src='http://127.0.0.1:9/x.png' alt='x' style='width:2000px;max-width:none;height:9px'></main>"
    )
    faint = "<p style='color:#999;background:#fff'>Faint</p>"
    (tmp_path / "bad.html").write_text(text.replace("</main>", faint + wide))
    browser.requests.clear()
    browser.open(tmp_path / "bad.html", 390)
    assert browser.ask("document.documentElement.scrollWidth") > 390 and len(browser.ask(STICKING_OUT)) == 1
    assert [words for words, *_ in browser.ask(FAINT)[1]] == ["Faint"]
    assert "http://127.0.0.1:9/x.png" in browser.requests
    assert browser.ask("[...document.images].at(-1).naturalWidth") == 0
