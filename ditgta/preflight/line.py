"""One line of a check: what was looked at, what is there, and the fix."""

from dataclasses import dataclass

from ditgta.config import Config

OK, WARNING, MISSING = "ok", "warning", "missing"


@dataclass(frozen=True)
class Line:
    """state: OK, WARNING (the suite may finish) or MISSING (it cannot). fix: what to do, "" where nothing need be done."""

    state: str
    what: str
    said: str
    fix: str = ""

    def __str__(self) -> str:
        first = f"{self.state:<8} {self.what:<12} {self.said}"
        return f"{first}\n{'':>22}fix: {self.fix}" if self.fix else first


def setting(config: Config, experiment: str, section: str, key: str, value: str) -> str:
    """Return the line of a configuration file that sets an option of a row, and of those that have it from the same experiment."""

    def current(name: str) -> object:
        return getattr(getattr(config.experiments[name], section), key)

    while (parent := config.experiments[experiment].like) and current(parent) == current(experiment):
        experiment = parent
    return f"`experiments: {{{experiment}: {{{section}: {{{key}: {value}}}}}}}` in a --configfile"
