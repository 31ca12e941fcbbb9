"""Bytes of a text on their way to a parser: counted, decompressed, and made UTF-8 without losing what is not.

A byte that is no UTF-8 becomes two characters which Unicode keeps out of all interchange (U+FDD0 to U+FDEF), so that
the parser goes on and the row that holds it can be found and shown as it was.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.sources.size_limits import Meter

MARKS = "[\ufdd0-\ufdef]"
"""A pattern of what stands for bytes that are no UTF-8."""
DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What reading a damaged or truncated file may raise."""


def decompressed(stream: pa.NativeFile, name: str) -> Any:
    """Return a file to read from, decompressed by the suffix of ``name``: .gz, .bz2, .xz, .zst or none of them."""
    suffix = name.rpartition(".")[2].lower()
    if suffix == "gz":
        return gzip.GzipFile(fileobj=stream, mode="rb")
    if suffix == "bz2":
        return bz2.BZ2File(stream)
    if suffix == "xz":
        return lzma.LZMAFile(stream)
    return pa.CompressedInputStream(stream, "zstd") if suffix == "zst" else stream


class TextFeed(io.RawIOBase):
    """A readable file of clean UTF-8 over one of any bytes.

    Parameters
    ----------
    raw : file
        Where the bytes come from, decompressed.
    name : str
        What a person calls it.
    meter : Meter
        Counts the bytes, so that a decompression bomb ends early.
    fault : callable
        Makes an error of this package out of what reading raised.

    Attributes
    ----------
    ending : bytes
        Sent after the last byte.
    damaged : bool
        Whether anything was no UTF-8 so far.
    error : MlopsError or None
        What ended the reading, whatever the parser makes of it.
    """

    def __init__(self, raw: Any, *, name: str, meter: Meter, fault: Callable[[Exception], MlopsError]) -> None:
        super().__init__()
        self._raw, self._name, self._meter, self._fault = raw, name, meter, fault
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._ready, self._position, self._ended = b"", 0, False
        self.ending = b""
        self.damaged = False
        self.error: MlopsError | None = None

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def push_back(self, content: bytes) -> None:
        """Let ``content`` be read again, before the rest."""
        self._ready = content + self._ready

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes of UTF-8; none at the end."""
        try:
            while not self._ready and not self._ended:
                self._ready = self._next(size)
            if not self._ready:
                self._ready, self.ending = self.ending, b""
        except MlopsError as error:
            self.error = error  # a parser may tell it in other words
            raise
        taken, self._ready = (self._ready, b"") if size < 0 else (self._ready[:size], self._ready[size:])
        return taken

    def _next(self, size: int) -> bytes:
        try:
            block = bytes(self._raw.read(size))
        except DAMAGES as error:
            raise self._fault(error) from error
        self._meter.add_bytes(len(block), self._name)
        if not self._position:
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise self._fault(ValueError("it is UTF-16; deliver it in UTF-8"))
            block = block.removeprefix(codecs.BOM_UTF8)
        if b"\0" in block:
            at = self._position + block.index(b"\0")
            raise self._fault(ValueError(f"byte {at:,} is NUL, so it is no text in UTF-8"))
        self._position += len(block)
        self._ended = not block
        text = self._decoder.decode(block, final=self._ended)
        try:
            clean = text.encode()
        except UnicodeEncodeError:
            self.damaged = True
            clean = re.sub("[\udc80-\udcff]", _marked, text).encode()
        return clean


def _marked(found: re.Match[str]) -> str:
    byte = ord(found[0]) - 0xDC00
    return chr(0xFDD0 + (byte >> 4)) + chr(0xFDE0 + (byte & 15))


def unmarked(text: str) -> str:
    """Return ``text`` with bytes that were no UTF-8 written as ``\\xff``."""
    return re.sub(
        "[\ufdd0-\ufddf][\ufde0-\ufdef]",
        lambda pair: f"\\x{(ord(pair[0][0]) - 0xFDD0) << 4 | (ord(pair[0][1]) - 0xFDE0):02x}",
        text,
    )
