"""A byte stream for parsers: decompressed, counted, and turned into valid UTF-8 without losing invalid bytes.

An invalid byte becomes two of the noncharacters U+FDD0 to U+FDEF, which Unicode keeps out of all interchange: the
parser goes on, and the row that holds the byte can be reported as it was.
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
"""Pattern of the characters that replace invalid bytes."""
DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""Errors that reading a damaged or truncated file may raise."""


def open_decompressed(stream: pa.NativeFile, name: str) -> Any:
    """Return the decompressed stream, by the suffix of ``name``: .gz, .bz2, .xz, .zst; any other is plain."""
    suffix = name.rpartition(".")[2].lower()
    if suffix == "gz":
        return gzip.GzipFile(fileobj=stream, mode="rb")
    if suffix == "bz2":
        return bz2.BZ2File(stream)
    if suffix == "xz":
        return lzma.LZMAFile(stream)
    return pa.CompressedInputStream(stream, "zstd") if suffix == "zst" else stream


class Utf8Stream(io.RawIOBase):
    """A readable file of valid UTF-8 over a stream of any bytes.

    Parameters
    ----------
    raw : file
        Stream of decompressed bytes.
    name : str
        Name of the file in errors.
    meter : Meter
        Counts the bytes, so that a decompression bomb ends early.
    translate_error : callable
        Translates an error of reading into one of this package.
    encoding : str
        Encoding of the bytes, as Python names it.

    Attributes
    ----------
    encoding : str
        Name of the encoding for people.
    damaged : bool
        Whether there was an invalid byte so far.
    error : MlopsError or None
        The error that ended the reading; a parser may wrap it.
    """

    def __init__(
        self,
        raw: Any,
        *,
        name: str,
        meter: Meter,
        translate_error: Callable[[Exception], MlopsError],
        encoding: str = "utf-8",
    ) -> None:
        super().__init__()
        self._raw, self._name, self._meter, self._translate = raw, name, meter, translate_error
        codec = codecs.lookup(encoding)
        self.encoding = codec.name.upper()
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        # Each byte of such an encoding that is ASCII means that character.
        self._has_ascii_bytes = "a\0".encode(encoding) == b"a\0"
        self._ready, self._position, self._ended = b"", 0, False
        self.damaged = False
        self.error: MlopsError | None = None

    def readable(self) -> bool:
        """Return True; pyarrow asks."""
        return True

    def push_back(self, content: bytes) -> None:
        """Put bytes back, to be read before the rest."""
        self._ready = content + self._ready

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes of UTF-8; none at the end."""
        try:
            while not self._ready and not self._ended:
                self._ready = self._next(size)
        except MlopsError as error:
            self.error = error  # the parser may raise an error of its own instead
            raise
        taken, self._ready = (self._ready, b"") if size < 0 else (self._ready[:size], self._ready[size:])
        return taken

    def _next(self, size: int) -> bytes:
        try:
            block = bytes(self._raw.read(size))
        except DAMAGES as error:
            raise self._translate(error) from error
        self._meter.add_bytes(len(block), self._name)
        if not self._position and self._has_ascii_bytes:
            block = self._without_mark(block)
        if self._has_ascii_bytes and b"\0" in block:
            at = self._position + block.index(b"\0")
            raise self._translate(ValueError(f"byte {at:,} is NUL, so it is not text in {self.encoding}"))
        self._position += len(block)
        self._ended = not block
        try:
            text = self._decoder.decode(block, final=self._ended)
        except UnicodeError as error:
            raise self._translate(ValueError(f"it is not text in {self.encoding}: {error}")) from error
        if not self._has_ascii_bytes and "\0" in text:
            raise self._translate(ValueError(f"it holds NUL, so it is not text in {self.encoding}"))
        try:
            clean = text.encode()
        except UnicodeEncodeError:
            self.damaged = True
            clean = re.sub("[\udc80-\udcff]", _mark_byte, text).encode()
        return clean

    def _without_mark(self, block: bytes) -> bytes:
        """Return the first block without a byte order mark; raise the error for a mark of another encoding."""
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise self._translate(ValueError("it is UTF-16; declare data.source.encoding: utf-16, or deliver UTF-8"))
        return block.removeprefix(codecs.BOM_UTF8) if self.encoding == "UTF-8" else block


def _mark_byte(match: re.Match[str]) -> str:
    byte = ord(match[0]) - 0xDC00
    return chr(0xFDD0 + (byte >> 4)) + chr(0xFDE0 + (byte & 15))


def restore_bytes(text: str) -> str:
    """Return a text with its invalid bytes written as ``\\xff``."""
    return re.sub(
        "[\ufdd0-\ufddf][\ufde0-\ufdef]",
        lambda pair: f"\\x{(ord(pair[0][0]) - 0xFDD0) << 4 | (ord(pair[0][1]) - 0xFDE0):02x}",
        text,
    )
