"""Elements of SVG as text, scales from values to pixels, and the style that all pictures share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

CHART_STYLE = """
svg { max-width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--text, #1b2733); }
svg .quiet { fill: var(--quiet, #52606d); }
svg .axis { stroke: var(--rule, #b8c4cf); stroke-width: 1; fill: none; }
svg .line { stroke: var(--series, #1f6feb); stroke-width: 2; fill: none; }
svg .band { fill: var(--series, #1f6feb); opacity: .18; }
svg .dot { fill: var(--series, #1f6feb); }
svg .second { fill: var(--second, #8a94a0); }
svg .limit { stroke: var(--limit, #8250df); stroke-width: 1.5; stroke-dasharray: 5 3; fill: none; }
svg .bad { fill: var(--bad, #c62828); } svg .good { fill: var(--good, #1a7f37); }
svg .unsure { fill: var(--unsure, #9a6700); } svg .box { fill: var(--panel, #f6f8fa); stroke: var(--rule, #b8c4cf); }
svg .bad-line { stroke: var(--bad, #c62828); fill: none; } svg .good-line { stroke: var(--good, #1a7f37); fill: none; }
svg a:focus-visible { outline: 2px solid var(--series, #1f6feb); }
"""
"""Style of all pictures; a page sets the colours as variables."""


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels.

    Parameters
    ----------
    low, high : float
        Values at the two ends; equal ones are moved apart.
    start, end : float
        Pixels at the two ends; ``start`` may be the greater one, as on a vertical axis.
    """

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float | None], start: float, end: float, *, margin: float = 0.06) -> Scale:
        """Return the scale over the finite values, with a share of their range as a margin at both ends."""
        finite = [value for value in values if value is not None and math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        room = (high - low) * margin or max(abs(low) * margin, 1e-9)
        return cls(low - room, high + room, start, end)

    def place(self, value: float) -> float:
        """Return the pixel of a value, rounded to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int = 4) -> list[float]:
        """Return round values inside the scale, about ``count`` of them.

        >>> Scale(0.0, 10.0, 0, 100).ticks()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        """
        step = _round_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def _round_step(raw: float) -> float:
    size = 10.0 ** math.floor(math.log10(raw))
    return min((factor * size for factor in (1, 2, 5, 10)), key=lambda step: abs(step - raw))


def element(name: str, content: str = "", /, **attributes: str | float | None) -> str:
    """Return an element; attribute values are escaped, ``content`` is markup already.

    Underscores in names of attributes become dashes, a trailing one is dropped, and None leaves an attribute out.

    >>> element("text", "a", x=1.5, class_="quiet", aria_label="<b>")
    '<text x="1.5" class="quiet" aria-label="&lt;b&gt;">a</text>'
    """
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    opening = f"<{name}{''.join(parts)}"
    return f"{opening}>{content}</{name}>" if content else f"{opening}/>"


def text(
    content: str,
    x: float,
    y: float,
    *,
    anchor: str | None = None,
    class_: str | None = None,
    transform: str | None = None,
) -> str:
    """Return a text at a place; its characters are escaped."""
    return element("text", escape(printable(content)), x=x, y=y, text_anchor=anchor, class_=class_, transform=transform)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> str:
    """Return connected straight lines through points."""
    return element("polyline", points=" ".join(f"{_number(x)},{_number(y)}" for x, y in points), class_=class_)


def link(content: str, href: str | None, label: str) -> str:
    """Return markup that leads to an address and has ``label`` as its tooltip and name; without one, that alone."""
    titled = element("title", escape(printable(label))) + content
    return element("g", titled) if href is None else element("a", titled, href=href)


def picture(content: str, width: float, height: float, label: str) -> str:
    """Return a picture with a name for people who do not see it; links inside it can be reached by keyboard."""
    return element(
        "svg",
        content,
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        width=width,
        height=height,
        role="group",
        aria_label=printable(label),
    )


def printable(text: str) -> str:
    r"""Return a text with invisible characters spelled out, such as those that turn the direction of writing.

    >>> printable("a" + chr(9) + "b" + chr(0x202E))
    'a b\\u202e'
    """
    return "".join(letter if letter.isprintable() else _spell_out(letter) for letter in text)


def _spell_out(character: str) -> str:
    """Return an invisible character as a space, if it is one, or by its code."""
    return " " if character.isspace() else f"\\u{ord(character):04x}"


def format_number(value: float) -> str:
    """Return a number with four digits.

    >>> format_number(0.39843), format_number(1234567.0), format_number(25.0)
    ('0.3984', '1.235e+06', '25')
    """
    return f"{value:.4g}"


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{float(value):.1f}".rstrip("0").rstrip(".")
