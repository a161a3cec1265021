"""Snakemake's report of a finished suite: one file with the page inside, which a browser shows without a network."""

import time

import pytest

from tests.conftest import TINY, run_snakemake
from tests.report.browser import CHROMIUM, Browser


def click(browser: Browser, selector: str, text: str = "") -> None:
    """Clicks the first element of a selector with a text, as soon as it is there."""
    find = f"[...document.querySelectorAll({selector!r})].find(e => e.innerText.trim() === {text!r})"
    until = time.monotonic() + 60
    while not browser.ask(f"Boolean({find})"):
        assert time.monotonic() < until, f"no {selector} {text}"
        time.sleep(0.1)
    browser.ask(f"{find}.click()")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_shows_the_page_without_a_network(tiny_suite, tmp_path):
    outcome = run_snakemake(tiny_suite, "--report", str(tmp_path / "report.html"), configs=(TINY,))
    assert outcome.code == 0, outcome.text
    (page,) = (path.read_text() for path in tiny_suite.glob("results/table/digits-*/table.html"))
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "report.html", 1280)
        click(browser, "a", "Results")
        click(browser, "a", "Table")
        click(browser, "a[iconname=eye]")
        until = time.monotonic() + 60
        while not [
            url for url in browser.requests if url.startswith("data:image/webp")
        ]:  # the page's own pictures
            assert time.monotonic() < until, "the frame stayed empty"
            browser.ask("1")
            time.sleep(0.1)
        assert {url.split(":")[0] for url in browser.requests} == {"file", "data"}
    assert len(page) < 1_500_000
