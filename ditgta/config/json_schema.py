"""The configuration as a JSON schema, by which editors complete and check config.yaml while it is written."""

import json

from ditgta.config.schema import Config

FILE = "config.schema.json"
# Where one value is taken for a list of one.
_LISTS_OF_ONE = {"Suite": ("experiments", "milestones"), "Size": ("positions", "temperature", "cfg_scale")}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> str:
    """Returns the schema as text."""
    content = {"$schema": _DIALECT, **Config.model_json_schema(), "title": "ditgta's config.yaml"}
    for section, names in _LISTS_OF_ONE.items():
        for name in names:
            options = content["$defs"][section]["properties"][name]
            listed = {key: options.pop(key) for key in ("type", "items", "minItems") if key in options}
            options["anyOf"] = [listed, listed["items"]]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
