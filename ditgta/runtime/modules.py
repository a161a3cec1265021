"""Classes of the user's own: named MODULE:CLASS, and known by the content of the module's file, MODULE:CLASS@SHA256.

A module is looked for in the current folder, which is that of the workflow, and then where Python looks: on PYTHONPATH and among
installed packages. Naming it imports nothing; only `load_class` does.
"""

import hashlib
import importlib
import re
import sys
from pathlib import Path

from ditgta.runtime.errors import InputError, one_line

PATTERN = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)(?:@([0-9a-f]{64}))?")
_IMPORTED: dict[str, str] = {}  # modules that this process has imported, and the checksums of their files


def is_own(name: str) -> bool:
    """Return whether a name is of the form MODULE:CLASS, with or without a checksum."""
    return PATTERN.fullmatch(name) is not None


def identified(name: str) -> str:
    """Return MODULE:CLASS@SHA256 of a class's name, others as they are; imports nothing. Raises InputError if the file is missing or another."""
    if not is_own(name):
        return name
    module, kind, expected = _parts(name)
    _, file = _find(module)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    if expected and expected != checksum:
        raise InputError(
            f"{module}:{kind} has changed: {file} has the sha256 {checksum[:12]}..., but {expected[:12]}... is needed; "
            "put the original file, with this name, into the current folder or onto PYTHONPATH"
        )
    return f"{module}:{kind}@{checksum}"


def load_class(name: str) -> type:
    """Imports the class MODULE:CLASS@SHA256; raises InputError if the file is missing, has another checksum or no such class."""
    module, kind, checksum = _parts(identified(name))
    folder, file = _find(module)
    if _IMPORTED.setdefault(module, checksum) != checksum:
        raise InputError(f"{file} has changed since it was imported; start Python again")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()  # the file may be newer than what Python knows of its folder
    # Its bytecode would be taken for that of a quick edit.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the file does
        del _IMPORTED[module]
        raise InputError(f"{file} cannot be imported ({type(error).__name__}: {one_line(error)})") from error
    finally:
        sys.dont_write_bytecode = before
    if Path(imported.__file__ or "").resolve() != file:
        raise InputError(
            f"{module} is {imported.__file__}, not {file}; rename the file: another module has its name"
        )
    chosen = getattr(imported, kind, None)
    if not isinstance(chosen, type):
        classes = {name: value for name, value in vars(imported).items() if isinstance(value, type)}
        own = [name for name, value in classes.items() if value.__module__ == imported.__name__]
        offered = f"; it has {', '.join(own)}" if own else ""
        raise InputError(f"{file} has no class {kind}{offered}")
    return chosen


def _parts(name: str) -> tuple[str, str, str | None]:
    match = PATTERN.fullmatch(name)
    if match is None:
        raise InputError(f"{name!r} is not the name of a class; write MODULE:CLASS")
    return match[1], match[2], match[3]


def _find(module: str) -> tuple[Path, Path]:
    """Return the folder from which a module is imported, and its file."""
    relative = Path(*module.split("."))
    for folder in (Path.cwd(), *(Path(place).absolute() for place in sys.path if place)):
        for file in (folder / relative / "__init__.py", folder / relative.with_suffix(".py")):
            if file.is_file():
                return folder, file.resolve()
    raise InputError(f"there is no {relative}.py in {Path.cwd()} or on PYTHONPATH; put it into one of them")
