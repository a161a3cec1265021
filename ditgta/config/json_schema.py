"""The configuration as a JSON schema, by which editors complete and check config.yaml while it is written."""

import json

from ditgta.config.schema import Config

FILE = "config.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> str:
    """Returns the schema as text."""
    content = {"$schema": _DIALECT, **Config.model_json_schema(), "title": "ditgta's config.yaml"}
    for name in ("experiments", "milestones"):  # one value is taken for a list of one
        options = content["$defs"]["Suite"]["properties"][name]
        listed = {key: options.pop(key) for key in ("type", "items", "minItems")}
        options["anyOf"] = [listed, listed["items"]]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
