"""The configuration's files, read and merged by commands as Snakemake does it: what is given goes over config.yaml."""

from collections.abc import Sequence
from pathlib import Path

from ditgta.config.inheritance import merge
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_text

DEFAULT = "config.yaml"
_MOST_LETTERS = 2**18  # whose reading takes seconds
CHECKOUT = Path(__file__).parents[2]


def default_file(beside: str | Path | None = None) -> Path:
    """Return config.yaml of the working directory or, where there is none, the one beside the Snakefile."""
    return Path(DEFAULT) if Path(DEFAULT).is_file() else Path(beside or CHECKOUT, DEFAULT)


def read(files: Sequence[Path] = ()) -> dict:
    """Return config.yaml with further files merged over it, later ones over earlier ones.

    Raises InputError if a file is missing or no YAML, or there is no file at all.
    """
    default, raw = default_file(), {}
    if not default.is_file() and not files:
        raise InputError(
            f"there is no {DEFAULT} in {Path.cwd()}; run in the folder that holds it, or name a file with --configfile"
        )
    paths = [default] if default.is_file() else []
    for path in (*paths, *map(Path, files)):
        merge(raw, read_yaml(path))
    return raw


def _loader(yaml) -> type:
    """Return YAML's safe loader, but for keys that are given twice, of which it would drop the first without a word."""

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise ValueError(
                            f"{key.value} is given twice, the second time in line {key.start_mark.line + 1}"
                        )
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def read_yaml(path: Path) -> dict:
    """Return the content of a YAML file, {} of an empty one; raise InputError if it is missing, no YAML, or no mapping."""
    import yaml

    text = read_text(path, f"check the path (relative to {Path.cwd()})")
    if len(text) > _MOST_LETTERS:
        raise InputError(
            f"{path} has {len(text):,} letters, a configuration at most {_MOST_LETTERS:,}; name another file"
        )
    try:
        content = yaml.load(text, Loader=_loader(yaml))
    except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:  # as its tags do
        fault = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable YAML file ({fault}); correct it") from None
    if not isinstance(content or {}, dict):
        raise InputError(f"{path} is not a readable YAML file (it holds no `name: value` lines); correct it")
    return content or {}
