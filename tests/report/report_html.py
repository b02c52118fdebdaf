"""Reading a page back with the standard library's parser, and what must hold of every page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import unquote

VOID = {"meta", "img", "br", "link", "input", "hr"}
URLS = {"href", "src", "action", "formaction", "data", "poster", "srcset", "xlink:href", "srcdoc"}


class Page(HTMLParser):
    """Tags with their attributes, all text, and the contents of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if len(attrs) != len({key for key, _ in attrs}):
            raise AssertionError(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]].append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(html: str) -> Page:
    """Assert what must hold of every page, whatever was put into it."""
    page = Page(html)
    assert not page.open
    _only_own_script_and_style(page)
    _nothing_from_elsewhere(page)
    _ids_and_links(page)
    _names_for_all(page)
    return page


def _only_own_script_and_style(page: Page) -> None:
    assert [len(page.all(tag)) for tag in ("script", "style")] == [1, 1]
    (policy,) = (
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256("".join(page.raw[kind]).encode()).digest()).decode()
        assert directives[f"{kind}-src"] == f"'sha256-{digest}'"
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    assert set(directives) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)


def _nothing_from_elsewhere(page: Page) -> None:
    allowed = re.compile(r"#|data:image/(png|webp|jpeg);base64,|results\.json$|[^/:]+/report\.html$")
    for tag, attributes in page.tags:
        for name in URLS & set(attributes):
            assert allowed.match(attributes[name]), (tag, name, attributes[name][:80])
    assert "@import" not in "".join(page.raw["style"])
    assert "url(" not in "".join(page.raw["style"])


def _ids_and_links(page: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert not [name for name, times in ids.items() if times > 1]
    for tag, attributes in page.tags:
        for name in ("aria-labelledby", "for", "data-copy"):
            for target in attributes.get(name, "").split():
                assert target in ids, (tag, name, target)
        if attributes.get("href", "").startswith("#"):
            assert unquote(attributes["href"][1:]) in ids, attributes["href"]


def _names_for_all(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert all("alt" in image for image in page.all("img"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for header in page.all("th"):
        assert header["scope"] in {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("main")) == 1
