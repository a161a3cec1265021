"""Files from the network: https alone, of bounded size and time, and without the secrets of an address in any message."""

import base64
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from threading import Thread

from ditgta.runtime.addresses import address_fault, without_secrets
from ditgta.runtime.errors import InputError, one_line

_TIMEOUT_SECONDS, _BLOCK = 30, 2**20
_LEAST_BYTES, _LEAST_SECONDS = 2**16, 60.0  # in so much time so much must come
_PLAIN = "/%:@!$&'()*+,;=~-._"


def download(address: str, out: Path, most_bytes: int, most_seconds: float) -> None:
    """Writes what lies at an https address to a file; raises InputError if it cannot be had, is too large or too slow."""
    if fault := address_fault(address):
        raise InputError(fault)
    place = without_secrets(address)
    try:
        _Download(request_of(address), out, most_bytes).wait(most_seconds)
    except Exception as error:  # of the network, of addresses and of encodings, without a common type
        reason = one_line(error)
        for secret in _secrets(address):
            reason = reason.replace(secret, "...")
        raise InputError(
            f"cannot download {place} ({reason}); download it on a machine with network, copy it here, and name the file"
        ) from None


def request_of(address: str) -> urllib.request.Request:
    """Return what to ask of the network: the address in ASCII, user and password in a header that no redirection carries on."""
    parts = urllib.parse.urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    quoted = parts._replace(
        netloc=host if host.isascii() else host.encode("idna").decode(),
        path=urllib.parse.quote(parts.path, safe=_PLAIN),
        query=urllib.parse.quote(parts.query, safe=f"{_PLAIN}?"),
        fragment="",
    )
    request = urllib.request.Request(quoted.geturl())
    if login:
        word = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {word}")
    return request


def _secrets(address: str) -> list[str]:
    """Return the parts of an address that no message may hold, the longest first."""
    parts = urllib.parse.urlsplit(address)
    login = parts.netloc.rpartition("@")[0]
    secrets = {address, parts.query, parts.fragment, login, login.partition(":")[2]}
    return sorted(filter(None, secrets), key=len, reverse=True)


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows an address that leads to another https address alone."""

    def redirect_request(self, request, file, code, message, headers, address):
        if not address.lower().startswith("https://"):
            raise urllib.error.URLError("it redirects to an address that is not https")
        return super().redirect_request(request, file, code, message, headers, address)


class _Download:
    """A download in a thread of its own: whatever the other side does, and wherever it waits, this side can stop."""

    def __init__(self, request: urllib.request.Request, out: Path, most_bytes: int):
        self.request, self.out, self.most_bytes = request, out, most_bytes
        self.total, self.error = 0, None
        self.stopped = False
        self.thread = Thread(target=self._run, daemon=True)

    def wait(self, most_seconds: float) -> None:
        """Raise the error in which the download ends, or TimeoutError where too little comes."""
        self.thread.start()
        begin = last = time.monotonic()
        before = 0
        try:
            while self.thread.is_alive():
                self.thread.join(0.2)
                now = time.monotonic()
                if now - begin > most_seconds:
                    raise TimeoutError(f"not done after {most_seconds:,.0f} s")
                if now - last > _LEAST_SECONDS:
                    if self.total - before < _LEAST_BYTES:
                        raise TimeoutError(f"{self.total - before} bytes came in {_LEAST_SECONDS:.0f} s")
                    last, before = now, self.total
        finally:
            self.stopped = True
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            opener = urllib.request.build_opener(_OnlyHttps)
            with (
                opener.open(self.request, timeout=_TIMEOUT_SECONDS) as answer,
                open(self.out, "wb") as file,
            ):
                while not self.stopped and (block := answer.read1(_BLOCK)):
                    self.total += len(block)
                    if self.total > self.most_bytes:
                        raise ValueError(f"more than {self.most_bytes / 2**20:,.0f} MB")
                    file.write(block)
                if answer.length:
                    raise EOFError(f"the file ends {answer.length} bytes early")
        except Exception as error:
            self.error = error
