"""The page's last chapter: what every number rests on, and the commands that make it again."""

import json
from collections.abc import Sequence
from html import escape

from ditgta.report.cost import total_of
from ditgta.report.markup import folded, paragraph, simple_table
from ditgta.report.origin import SWITCHES, Option, fairness
from ditgta.report.rows import DASH, Table, count_name, plain_list


def provenance(table: Table) -> str:
    """Returns the chapter as HTML."""
    switches = [option for option in table.options if option.name in SWITCHES or option.differs]
    others = [option for option in table.options if option not in switches]
    equal, sentence = fairness(table.options)
    specs = "".join(
        folded(entry["name"], f"<pre>{escape(json.dumps(entry, indent=1, sort_keys=True))}</pre>")
        for entry in table.provenance
    )
    return (
        paragraph(sentence, "" if equal else "caution")
        + _options("Options that most often make tables differ, and those in which rows differ", switches)
        + folded("All other options", _options("All other options", others))
        + _again(table)
        + _measures(table)
        + _files(table)
        + _versions(table)
        + folded("The command of every job", _commands(table), raw=True)
        + folded("Every score file's record in full", specs, raw=True)
    )


def _options(name: str, options: Sequence[Option]) -> str:
    rows = [
        (f"<code>{escape(option.name)}</code>", [f"<span class=words>{escape(option.text)}</span>"])
        for option in options
    ]
    return simple_table(name, ("Option", "Value in every row"), rows)


def _again(table: Table) -> str:
    """Returns how the table can be made again."""
    revisions = _revisions(table)
    at = "" if not revisions else f"git checkout {revisions[0]}\n" if len(revisions) == 1 else ""
    told = {
        0: "The results do not say from which revision of the program they came.",
        1: "Git's revision is the commit that was checked out; edits that were not committed do not show in it.",
    }.get(
        len(revisions), f"Its files were made at several revisions of the program: {plain_list(revisions)}."
    )
    command = f"{at}snakemake --cores all --config suite={table.suite}"
    return (
        "<h3>To make this table again</h3>"
        + f"<pre>{escape(command)}</pre>"
        + paragraph(f"with the options above in the configuration. {told}", "note")
    )


def _revisions(table: Table) -> list[str]:
    scored = [entry["revision"] for entry in table.provenance if entry["revision"]]
    return list(dict.fromkeys([*(total_of(table.costs).revisions if table.costs else ()), *scored]))


def _measures(table: Table) -> str:
    """Returns what everything was measured with and against, with whole checksums."""
    entry = table.provenance[0]
    terms = [(word, entry[word.lower()]) for word in ("Scorer", "Reference")]
    lines = "".join(
        f"<dt>{word}</dt><dd>{escape(str(found.get('name') or 'unknown'))}, sha256 <code>{escape(str(found.get('sha256')))}</code></dd>"
        for word, found in terms
    )
    return f"<h3>Measured with and against</h3><dl>{lines}</dl>"


def _files(table: Table) -> str:
    """Returns the checksums behind every row."""
    rows = []
    for entry in table.provenance:
        sums = (
            entry["samples_sha256"],
            entry["checkpoint_sha256"],
            entry["reference"].get("sha256"),
            entry["scorer"].get("sha256"),
        )
        cells = [count_name(entry["num_samples"]), *map(_short, sums), _short(entry["revision"])]
        rows.append((escape(entry["name"]), cells))
    heads = ("Scores of", "N", "Samples", "Checkpoint", "Reference", "Scorer", "Revision")
    note = "SHA-256 and Git's commit, first 12 digits; the whole is in the records below."
    settings = next((entry["settings"] for entry in table.provenance if entry["settings"]), {})
    told = "; ".join(
        f"{key.replace('_', ' ')} {value}"
        for key, value in sorted(settings.items())
        if key not in ("baseline", "floor")
    )
    return (
        "<h3>Files behind every row</h3>"
        + simple_table("checksums of every row", heads, rows)
        + paragraph(note + (f" Settings of the score: {told}." if told else ""), "note")
    )


def _short(checksum: str | None) -> str:
    if not checksum or checksum == DASH:
        return DASH
    return f'<code title="{escape(checksum, quote=True)}">{escape(checksum[:12])}</code>'


def _versions(table: Table) -> str:
    found: dict[str, None] = {}
    for entry in table.provenance:
        found |= {f"{name} {version}": None for name, version in sorted(entry["versions"].items())}
    return paragraph(f"Scored with {', '.join(found)}.", "note") if found else ""


def _commands(table: Table) -> str:
    commands = [command for cost in table.costs for command in cost.commands]
    return f"<pre>{escape(chr(10).join(commands) or 'The files do not tell.')}</pre>"
