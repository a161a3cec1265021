"""Names of results, a readable word and a short hash of what decides the result (gta-938c6309); what is no path but an address."""

import re
import urllib.parse

DIGITS = 8
_HOST = re.compile(r"\[.*|[^:]*(:\d*)?")
_ADDRESS = re.compile(r"(?i)\b(?:https?|ftp)://[^\s\"'<>\\]+")
_ADDRESSED = re.compile(rf"(.+)-([0-9a-f]{{{DIGITS}}})")


def hash_in(name: str) -> str | None:
    """Return the hash in a result's name, None where there is none."""
    match = _ADDRESSED.fullmatch(name)
    return match and match[2]


def readable(name: str) -> str:
    """Return a result's name without its hash."""
    match = _ADDRESSED.fullmatch(name)
    return match[1] if match else name


def size_name(size: tuple[int, int]) -> str:
    """Return a size in pixels as people write it: 64, or 64x96 for a height of 64."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def is_address(source: str) -> bool:
    """Return whether a source is an address of the network and no path."""
    return source.lower().startswith(("http://", "https://", "ftp://"))


def without_secrets(address: str) -> str:
    """Return an address of the network without user, password, query and fragment, which others must not see."""
    scheme, _, rest = address.partition("://")
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    host = host.rpartition("@")[2]
    if not _HOST.fullmatch(host):  # it may be the beginning of a password
        host = "..."
    return f"{scheme}://{host}{slash}{path}"


def redacted(text: str) -> str:
    """Return a text with all addresses in it without their secrets."""
    return _ADDRESS.sub(lambda match: without_secrets(match[0]), text)


def address_fault(address: str) -> str:
    """Return why nothing is downloaded from an address, "" where it can be tried."""
    if not address.lower().startswith("https://"):
        return f"{without_secrets(address)} is not an https address, so its content could be forged; give an https address"
    try:
        parts = urllib.parse.urlsplit(address)
        _ = parts.port  # which is read only here
        host = (parts.hostname or "").encode("idna")
    except ValueError:  # also when the host cannot be encoded; its text may hold a part of a password
        host = b""
    if host:
        return ""
    return f"{without_secrets(address)} is not an address of the form https://HOST/PATH; correct it"


def is_hub_name(source: str) -> bool:
    """Return whether a source has the form OWNER/NAME of the Hugging Face hub, as a relative path may too."""
    return source.count("/") == 1 and not source.startswith((".", "~", "/"))
