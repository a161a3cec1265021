"""Entries added to YAML as text: what was there stays as it was, and what cannot be added to safely is refused."""

import pytest
import yaml

from ditgta.runtime.errors import InputError
from ditgta.runtime.yaml_text import with_entries

TEXT = """\
# What is compared.
suite: digits   # the default

experiments:

    digits:                # base
        images: {source: digits}

    gta: {like: digits}    # a row

# One table each.
suites:
    digits:
        milestones:
        - 1
        - 2   # the last
"""
NEW = {
    "experiments": {"pets": {"images": {"source": "pets", "size": 32}}},
    "suites": {"pets": {"milestones": [3]}},
}


def test_entries_go_behind_the_last_and_all_else_stays():
    added = with_entries(TEXT, NEW)
    lines = added.splitlines()
    assert [line for line in lines if line in TEXT.splitlines()] == [
        line for line in lines if "pets" not in line and "[3]" not in line
    ]
    assert set(TEXT.splitlines()) <= set(lines)
    assert lines.index("    pets:") < lines.index("# One table each.")
    content = yaml.safe_load(added)
    assert content["experiments"] == {**yaml.safe_load(TEXT)["experiments"], **NEW["experiments"]}
    assert list(content["suites"]) == ["digits", "pets"] and content["suite"] == "digits"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "suite: a",
        "suites:\n  a: 1",
        "suites:\r\n  a: 1   # c\r\nz: 2\r\n",
        "suites:\n  a: |\n    x\n\n    y\n\n# c\nz: 1\n",
    ],
)
def test_any_block_layout_takes_an_entry(text):
    added = with_entries(text, {"suites": {"b": {"c": [1]}}})
    assert yaml.safe_load(added)["suites"]["b"] == {"c": [1]}
    assert ("\r\n" in added) == ("\r\n" in text) and added.count("\r\n") in (0, added.count("\n"))


@pytest.mark.parametrize(
    "text", ["suites: {a: 1}\n", "suites:\n", "suites:\n  a:\n    e: &x {c: 1}\n    f: 2\n  b:\n    d: *x\n"]
)
def test_what_cannot_be_added_to_safely_is_refused(text):
    with pytest.raises(InputError, match=r"by hand"):
        with_entries(text, {"suites": {"new": {"c": {"d": 1}}}})
