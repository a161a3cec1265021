"""A strict reader of the HTML page."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that every tag is closed.

    Attributes:
        tags: names in order.
        addresses: whatever an attribute could fetch.
        text: pieces of text outside the style sheet.
        faults: what a reader who cannot see or compare lacks: pictures without words, header cells without a scope.
    """

    VOID = frozenset({"meta", "img", "source", "line", "circle", "br", "input", "path", "use"})

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.addresses, self.text, self.faults = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [
            given[name] for name in ("src", "href", "srcset", "data", "action") if name in given
        ]
        if tag == "img" and not given.get("alt"):
            self.faults.append("img without alt")
        if tag == "th" and given.get("scope") not in ("col", "row", "rowgroup"):
            self.faults.append("th without scope")
        if tag == "svg" and not given.get("aria-label"):
            self.faults.append("svg without label")
        self.faults += [f"{tag} {name}" for name in given if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)
