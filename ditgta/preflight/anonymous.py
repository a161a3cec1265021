"""Text without what says who and where: home, user, host, working directory, mail addresses, passwords in addresses."""

import contextlib
import getpass
import os
import pwd
import re
import socket
import sys
from pathlib import Path

# Names that are no person's, and would spoil the text if they were replaced.
COMMON = {"root", "user", "ubuntu", "admin", "runner", "nobody", "localhost", "node", "host"}
PATTERNS = (
    (re.compile(r"://[^/@\s:]+:[^/@\s]+@"), "://SECRET@"),
    (re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']+"), r"\1?SECRET"),
    (re.compile(r"\b(hf_|ghp_|github_pat_)\w{8,}"), "SECRET"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+\w"), "MAIL"),
    (re.compile(r"/(home|Users|users|u)/[^/\s\"':]+"), r"/\1/USER"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "ADDRESS"),
)


def names_of_this_place() -> list[tuple[str, str]]:
    """Return (text, what stands for it) of this user and machine, longest first."""
    names = {str(Path.cwd()): "FOLDER", str(Path(__file__).parents[2]): "CHECKOUT"}
    names.setdefault(os.environ.get("PWD", ""), "FOLDER")
    names.setdefault(sys.prefix, "ENVIRONMENT")
    names.setdefault(str(Path.home()), "~")
    host = socket.gethostname()
    names |= dict.fromkeys([host, host.split(".")[0]], "HOST")
    with contextlib.suppress(KeyError, OSError):
        names[getpass.getuser()] = "USER"
        names[pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0]] = "NAME"
    kept = [(text, word) for text, word in names.items() if len(text) > 2 and text.lower() not in COMMON]
    return sorted(kept, key=lambda pair: -len(pair[0]))


def anonymous(text: str, others: dict[str, str]) -> str:
    """Return text in which nothing names the user, the machine or their folders; `others`: more texts, and what stands for them."""
    for name, word in [*names_of_this_place(), *others.items()]:
        whole = re.escape(name) if "/" in name else rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        text = re.sub(whole, word, text)
    for pattern, word in PATTERNS:
        text = pattern.sub(word, text)
    return text
