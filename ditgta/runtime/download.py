"""Files from the network: https alone, of bounded size and time, and without the secrets of an address in any message."""

import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from ditgta.runtime.errors import InputError, one_line

_TIMEOUT_SECONDS, _BLOCK = 30, 2**20


def without_secrets(address: str) -> str:
    """Returns an address without password, query and fragment."""
    head, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{head}://{host.rpartition('@')[2]}{slash}{path.split('?')[0].split('#')[0]}"


def download(address: str, out: Path, most_bytes: int, most_seconds: float) -> None:
    """Writes what lies at an https address to a file.

    Raises:
        InputError: it cannot be had, not by https, or it is larger or slower than it may be.
    """
    place = without_secrets(address)
    if not address.lower().startswith("https://"):
        raise InputError(f"{place} is no https address, so what comes from it could be anybody's; give one")
    try:
        parts = urllib.parse.urlsplit(address)
        quoted = parts._replace(
            netloc=parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc,
            path=urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~-._"),
            query=urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?"),
        )
        opener = urllib.request.build_opener(_OnlyHttps)
        with opener.open(quoted.geturl(), timeout=_TIMEOUT_SECONDS) as answer, open(out, "wb") as file:
            _copy(answer, file, most_bytes, most_seconds)
    except Exception as error:  # of the network, of addresses and of encodings, without a common type
        reason = one_line(error).replace(address, place)
        raise InputError(
            f"cannot download {place} ({reason}); download it on a machine with network, copy it here, and name the file"
        ) from None


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows an address that leads to another https address alone."""

    def redirect_request(self, request, file, code, message, headers, address):
        if not address.lower().startswith("https://"):
            raise urllib.error.URLError("it leads to an address that is not https")
        return super().redirect_request(request, file, code, message, headers, address)


def _copy(answer, file, most_bytes: int, most_seconds: float) -> None:
    begin, total = time.monotonic(), 0
    while block := answer.read1(_BLOCK):
        total += len(block)
        if total > most_bytes:
            raise ValueError(f"more than {most_bytes / 2**20:,.0f} MB")
        if time.monotonic() - begin > most_seconds:
            raise TimeoutError(f"not done after {most_seconds:,.0f} s")
        file.write(block)
