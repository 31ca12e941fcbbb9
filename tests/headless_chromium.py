"""A page as a real browser has made of it: what it runs, it runs."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 120
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Of a Chromium that asks nobody for anything."""


def chromium() -> str:
    """Return the path of a Chromium.

    Raises
    ------
    AssertionError
        If there is none: what a page does in a browser cannot be told without one.
    """
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert program, f"none of {', '.join(NAMES)} is on the PATH; on Debian: apt-get install -y chromium"
    return program


def dom_of(address: str, profile: Path, *, milliseconds: int = 5_000) -> str:
    """Return the document that Chromium makes of a page, as HTML, after so much of the page's own time.

    Parameters
    ----------
    address : str
        Of the page: the URI of a file, or ``http://127.0.0.1:…``.
    profile : Path
        Folder of the browser, so that no two of them meet.
    """
    ended = subprocess.run(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            f"--virtual-time-budget={milliseconds}",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "</html>" in ended.stdout, f"no document: {ended.stderr[-2000:]}"
    return ended.stdout


class Document(HTMLParser):
    """The elements of a page and its texts, as a parser of HTML reads them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.title = ""
        self._within = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        self._within = ""

    def handle_data(self, data: str) -> None:
        """Keep what is text, and neither script nor style."""
        if self._within == "title" and not self.title:
            self.title = data
        elif self._within not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All the text together."""
        return " ".join(self.texts)

    @property
    def tags(self) -> set[str]:
        """The names of its elements."""
        return {tag for tag, _ in self.elements}

    @property
    def running(self) -> list[str]:
        """Attributes that run something, and addresses that would."""
        return [
            f"<{tag} {name}={value}>"
            for tag, attributes in self.elements
            for name, value in attributes.items()
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:")
        ]
