"""Entries added to a YAML file as text, so that what people wrote in it - comments, order, blank lines - stays as it is."""

import textwrap

import yaml

from ditgta.runtime.errors import InputError


def with_entries(text: str, additions: dict[str, dict]) -> str:
    """Return the text of a YAML file, a mapping in block style or nothing, with entries appended to some of its top-level mappings.

    `additions` are {section: {entry: content}}; a section that is not there is begun at the end. Raises InputError if the file is
    laid out so that text cannot be added to it safely.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    root = yaml.compose(text)
    places = []
    for section, entries in additions.items():
        node = next((value for key, value in root.value if key.value == section), None) if root else None
        if node is None:
            places.append((len(lines), 2, [f"{section}:"], entries))
        elif isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
            places.append((_last_line(node) + 1, node.value[0][0].start_mark.column, [], entries))
        else:
            raise InputError(
                f"the section {section} is not a block of `name: ...` lines; add the entries by hand"
            )
    for line, indent, heading, entries in sorted(places, key=lambda place: place[0], reverse=True):
        block = textwrap.indent(as_text(entries), " " * indent).splitlines()
        lines[line:line] = ["", *heading, *block]
    added = newline.join([*lines, ""])
    expected = yaml.safe_load(text) or {}
    for section, entries in additions.items():
        expected.setdefault(section, {}).update(entries)
    try:
        if yaml.safe_load(added) == expected:
            return added
    except yaml.YAMLError:
        pass
    raise InputError(f"entries cannot be added safely to {', '.join(additions)}; add them by hand")


def as_text(entries: dict) -> str:
    """Return YAML of a mapping in its order, innermost mappings and lists on one line."""
    return yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def _last_line(node: yaml.Node) -> int:
    """Return the number of the last line on which a node has content; its end mark may lie beyond comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.line - (node.end_mark.column == 0)
