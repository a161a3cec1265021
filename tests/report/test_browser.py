"""The page in a real browser: on a phone, on a desk and on paper nothing sticks out, is missing or asks the network."""

import base64

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
    heights = "[...document.querySelectorAll('details:not(.raw) img, details:not(.raw) table')].map(e => e.offsetHeight)"
    assert browser.ask(heights) and min(browser.ask(heights)) > 0
    assert base64.b64decode(browser.call("Page.printToPDF")["data"]).startswith(b"%PDF")


def test_the_checks_would_notice(browser, page, tmp_path):
    text = page.read_text()
    wide = (
        "<img src='http://127.0.0.1:9/x.png' alt='x' style='width:2000px;max-width:none;height:9px'></main>"
    )
    (tmp_path / "bad.html").write_text(text.replace("</main>", wide))
    browser.requests.clear()
    browser.open(tmp_path / "bad.html", 390)
    assert browser.ask("document.documentElement.scrollWidth") > 390 and len(browser.ask(STICKING_OUT)) == 1
    assert "http://127.0.0.1:9/x.png" in browser.requests
    assert browser.ask("[...document.images].at(-1).naturalWidth") == 0
