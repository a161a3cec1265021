"""Downloads end, whatever the other side does, and their messages hold no secrets."""

import http.server
import threading
import time
import urllib.request

import pytest

from ditgta.runtime import download
from ditgta.runtime.addresses import address_fault, redacted, without_secrets
from ditgta.runtime.errors import InputError

CONTENT = bytes(range(256)) * 20


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", {"ftp": "ftp://x/y", "bad": "https://[::1/x"}[path[4:]])
            return self.end_headers()
        if path == "/login" and self.headers["Authorization"] != "Basic bWU6cHc=":  # me:pw
            self.send_response(401)
            return self.end_headers()
        self.send_response(200)
        if path in ("/whole", "/login", "/short"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if path in ("/short", "/slow") else CONTENT)
        while path in ("/slow", "/endless"):
            try:
                self.wfile.write(b"x" * (1 if path == "/slow" else 2**16))
            except OSError:
                return None
            time.sleep(0.02)
        return None


@pytest.fixture
def address(monkeypatch):
    """Where the server is; it speaks plain HTTP, which is asked of it in place of https."""
    server = http.server.ThreadingHTTPServer(("localhost", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    original = download.request_of

    def plain(address):
        request = original(address)
        found = urllib.request.Request(request.full_url.replace("https://", "http://"))
        found.unredirected_hdrs = request.unredirected_hdrs
        return found

    monkeypatch.setattr(download, "request_of", plain)
    monkeypatch.setattr(download, "_LEAST_SECONDS", 0.5)
    yield f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("place", ["{}/whole?sig=SECRET", "me:pw@{}/login"])
def test_a_file_is_downloaded(address, tmp_path, place):
    download.download("https://" + place.format(address), tmp_path / "out", 2**20, 20)
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("short", "the file ends 5020 bytes early"),
        ("slow", "bytes came in"),
        ("endless", "more than 1 MB"),
        ("login", "Unauthorized"),
        ("to/ftp", "not https"),
        ("to/bad", "Invalid IPv6 URL"),
    ],
)
def test_what_goes_wrong_is_one_line_without_secrets(address, tmp_path, path, said):
    with pytest.raises(InputError, match=f"cannot download https://{address}/{path} .*{said}") as found:
        download.download(f"https://me:SECRET@{address}/{path}?sig=SECRET", tmp_path / "out", 2**20, 20)
    assert "SECRET" not in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pw@host/a?b#c", "https://host/a"),
        ("https://host?sig=1", "https://host"),
        ("https://me:p@w@host:8/a", "https://host:8/a"),
        ("https://me:p?w@host/a", "https://..."),
    ],
)
def test_an_address_is_shown_without_secrets(address, shown):
    assert without_secrets(address) == shown
    assert redacted(f'--spec {{"weights": "{address}"}} end') == f'--spec {{"weights": "{shown}"}} end'


@pytest.mark.parametrize(
    "address",
    ["http://x/y", "ftp://x/y", "https://[::1/x", "https://x:port/y", "https:///y", "https://x:99999/"],
)
def test_an_address_that_is_none_is_refused_before_the_network_is_asked(address, tmp_path):
    assert address_fault(address) and not address_fault("https://hö.example/ü")
    with pytest.raises(InputError, match=r"give an https address|correct it"):
        download.download(address, tmp_path / "out", 1, 1)
