"""A strict reader of the HTML page."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that every tag is closed."""

    VOID = frozenset({"meta", "img", "source", "line", "circle", "br"})

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)
