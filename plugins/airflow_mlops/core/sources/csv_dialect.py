"""How a CSV text is written: what separates and quotes values, what stands around the rows."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from airflow_mlops.core.errors import DeclarationError

_NO_SEPARATOR = '"\r\n\0'


@dataclass(frozen=True)
class CsvDialect:
    """The signs of a CSV text and what comes before its rows.

    Parameters
    ----------
    delimiter : str
        ASCII character between two values.
    quote : str, optional
        ASCII character around a value, written twice within it; None if quotes have no meaning.
    escape : str, optional
        ASCII character that takes the meaning from the next one; None by default, as in RFC 4180.
    comment : str, optional
        ASCII character that begins a line to be skipped.
    encoding : str
        Name of the encoding, as Python knows it.
    skip_rows : int
        Lines before the header.
    names : tuple of str, optional
        Names of the columns of a text without a header; None where the first row holds them.

    Raises
    ------
    DeclarationError
        If a character cannot have its meaning, or the encoding is unknown.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    comment: str | None = None
    encoding: str = "utf-8"
    skip_rows: int = 0
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_delimiter(self.delimiter)
        signs = {"delimiter": self.delimiter}
        for name in ("quote", "escape", "comment"):
            sign = getattr(self, name)
            if sign is None:
                continue
            if len(sign) != 1 or not sign.isascii() or sign in "\r\n\0":
                raise DeclarationError(
                    f"{sign!r} must be one ASCII character that is no line break", key=f"data.source.{name}"
                )
            same = next((other for other, taken in signs.items() if taken == sign), None)
            if same is not None:
                raise DeclarationError(f"{sign!r} is the {same} already", key=f"data.source.{name}")
            signs[name] = sign
        require_encoding(self.encoding)


def require_delimiter(delimiter: str) -> None:
    """Raise DeclarationError unless a character can separate values.

    Raises
    ------
    DeclarationError
        If it is a quote, a line break, NUL or not ASCII.
    """
    if not delimiter.isascii() or delimiter in _NO_SEPARATOR:
        raise DeclarationError(
            f"{delimiter!r} cannot separate values; take an ASCII character that is neither a quote nor a line break",
            key="data.source.delimiter",
        )


def require_encoding(name: str) -> None:
    """Raise DeclarationError unless Python can decode text of an encoding.

    Raises
    ------
    DeclarationError
        If there is no such encoding, or it is none of text.
    """
    try:
        is_text = codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise DeclarationError(
            f"{name!r} is no encoding of text; take utf-8, cp1252, iso-8859-15, utf-16 or another that Python knows",
            key="data.source.encoding",
        )
