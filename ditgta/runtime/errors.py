"""The one exception that means: the user can fix this; and errors as lines."""

import contextlib
import re
from collections.abc import Callable, Iterator

from ditgta.runtime.addresses import redacted


class InputError(ValueError):
    """A path, option, image, checkpoint or weights file that cannot be used as given.

    The message is complete in itself: it names the thing and the fix. The command line prints it as one
    line (one line per fault when several are listed) and exits with code 2; the API lets it pass as a ValueError.
    """


class Stopped(RuntimeError):
    """A signal, SIGUSR1 when a job's time is nearly up, asked a stage to stop; the same command resumes its work."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


def one_line(error: BaseException) -> str:
    """Return an error's text on one line of at most 160 characters."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, 160)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, cut with dots where it is longer."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


@contextlib.contextmanager
def as_input_error(
    what: str, fix: str, *kinds: type[Exception], text: Callable[[Exception], str] = one_line
) -> Iterator[None]:
    """Turn errors of these kinds inside the block into an InputError: what is wrong, the error's text in brackets, the fix."""
    try:
        yield
    except (InputError, MemoryError):  # the one is said already, the other says nothing about the file
        raise
    except kinds as error:
        raise InputError(f"{what} ({text(error)}); {fix}") from error


def shown(message: str) -> str:
    """Return an error as one line, but for listings, each line of which but the first is indented; without secrets of addresses."""
    return re.sub(r"[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]|\n(?!  )", " ", redacted(message))
