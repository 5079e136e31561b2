"""A page as a test reads it: elements with their attributes and texts, by the standard library's parser."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Element:
    """An element: `tag`, `attributes`, `children` (elements and texts)."""

    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent, self.children = tag, attributes, parent, []

    @property
    def text(self):
        """Its text, white space made single."""
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join("".join(parts).replace("\xa0", " ").split())

    def all(self, tag=None, **attributes):
        """Return the elements below it with a tag and attributes; `css` names one of its classes."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.is_a(tag, attributes):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag=None, **attributes):
        """Return the only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    def is_a(self, tag, attributes):
        """Tell whether it has that tag and these attributes."""
        wanted = dict(attributes)
        css = wanted.pop("css", None)
        if css and css not in self.attributes.get("class", "").split():
            return False
        return tag in (None, self.tag) and all(self.attributes.get(key) == value for key, value in wanted.items())

    @property
    def values(self):
        """The exact figures below it, as floats."""
        return [float(data.attributes["value"]) for data in self.all("data")]

    def table(self):
        """Return the texts of a table's body rows, without the small print."""
        return [[cell.big for cell in row.all() if cell.tag in ("td", "th")] for row in self.one("tbody").all("tr")]

    @property
    def big(self):
        """Its text without `<small>` parts."""
        parts = [
            child if isinstance(child, str) else child.big
            for child in self.children
            if isinstance(child, str) or child.tag != "small"
        ]
        return " ".join("".join(parts).replace("\xa0", " ").split())


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.here = Element("root", {}, None)

    def handle_starttag(self, tag, attributes):
        element = Element(tag, dict(attributes), self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_startendtag(self, tag, attributes):
        self.here.children.append(Element(tag, dict(attributes), self.here))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if self.here.tag != tag:
            raise ValueError(f"</{tag}> closes <{self.here.tag}>")
        self.here = self.here.parent

    def handle_data(self, text):
        self.here.children.append(text)


def read_page(path):
    """Parse a page; its elements must be closed in order.

    Raises:
        ValueError: If they aren't.
    """
    reader = _Reader()
    reader.feed(path.read_text("utf-8"))
    reader.close()
    if reader.here is not reader.root:
        raise ValueError(f"<{reader.here.tag}> is never closed")
    return reader.root
