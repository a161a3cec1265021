"""Status: how far a suite is, said once or shown again and again. It writes nothing and needs no torch."""

import json
import sys
import time
from pathlib import Path

from ditgta.config import Config, check_suite
from ditgta.layout import Layout
from ditgta.runtime.errors import InputError
from ditgta.watch.lines import Watch
from ditgta.watch.reader import Reader
from ditgta.watch.text import is_complete, text

SCREEN_SECONDS = 3.0
CLEAR = "\x1b[H\x1b[J"  # cursor home, and all after it gone


def check(config: Config, suite: str, results: Path) -> None:
    """Raise InputError for an unknown suite, or where there is no such folder."""
    check_suite(config, suite)
    if not results.is_dir():
        raise InputError(
            f"the results folder {results} does not exist (relative to {Path.cwd()}); start snakemake, or give --results DIR"
        )


def run(config: Config, suite: str, results: Path, wait: float, as_json: bool) -> None:
    """Prints where the stages and rows of a suite stand, as text or JSON; `wait`: seconds to watch the heartbeats of other machines."""
    check(config, suite, results)
    state = Reader(Layout(config, str(results))).suite(suite, wait)
    print(json.dumps(state, indent=1) if as_json else text(state))


def watch(config: Config, suite: str, results: Path) -> None:
    """Shows the status of a suite until its table is there: on a terminal again and again, elsewhere once."""
    check(config, suite, results)
    watched = Watch(Layout(config, str(results)), suite)
    while True:
        state = watched.look()
        if not sys.stdout.isatty():
            print(text(state))
            return
        print(CLEAR + text(state, bars=True), flush=True)
        if is_complete(state):
            return
        time.sleep(SCREEN_SECONDS)
