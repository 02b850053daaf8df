"""Files as text: what they are packed in, which encoding they are in, their lines.

A file is decoded with `surrogateescape`: a byte that the encoding does not have becomes a lone surrogate, so that the
row it is in can be set aside instead of the file.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from genrecall.errors import UserError

SAMPLE_LINES = 2000  # with bytes beyond ASCII; they decide the encoding
LONG_RUN = 4  # bytes beyond ASCII in a row: rare in languages of Latin letters, the rule in others
CHUNK = 1 << 16
PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = (  # what a file begins with -> what it is, what to do
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save the sheet as CSV"),
    (b"BZh", "packed with bzip2", "unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "packed with xz", "unpack it, or pack it with gzip"),
    (b"(\xb5/\xfd", "packed with zstd", "unpack it, or pack it with gzip"),
    (b"%PDF", "a PDF", "export the data as CSV or JSON lines"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"Obj\x01", "an Avro file", "export the data as Parquet or JSON lines"),
    (b"ORC", "an ORC file", "export the data as Parquet or JSON lines"),
)
_RUN = re.compile(rb"[\x80-\xff]+")
_POLISH = re.compile(r"[A-Za-z][\xb3\xb9\xbf\x9f][A-Za-z]|[\xb3\xb9][a-z]")  # letters of cp1250 read as cp1252


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where it is packed with gzip, whatever its name."""
    packed = head(path, 2) == _GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def head(path: Path, size: int) -> bytes:
    """The first bytes of a file, as they are on the disk. UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def unreadable(path: Path, line: int, error: Exception) -> UserError:
    """For a file that ends too early or is damaged: nobody knows what is missing from it."""
    return UserError(f"{path} cannot be read after line {line} ({error}): fetch or write it again")


DAMAGED = (EOFError, OSError, zlib.error)


def encoding_of(path: Path) -> str:
    """The encoding of a text file, as Python names it.

    By its mark, else by the zeros of UTF-16; else UTF-8 where at least half of the lines beyond ASCII are; else what
    charset-normalizer finds where bytes beyond ASCII come in runs (Cyrillic, Chinese, ...), and cp1252 elsewhere
    (cp1250 where letters of Polish would become symbols): of a few accents alone nobody can tell. UserError for a file
    that is no text.
    """
    start = _start(path)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    for magic, what, remedy in _OTHERS:
        if start.startswith(magic):
            raise UserError(f"{path} is {what}, not text: {remedy}")
    zeros = [place % 2 for place, byte in enumerate(start[:1000]) if byte == 0]
    if 10 * len(zeros) > len(start[:1000]) > 3 and len(set(zeros)) == 1:
        return "utf-16-le" if zeros[0] else "utf-16-be"
    if zeros:
        raise UserError(
            f"{path} is not text (a zero byte among the first 1,000): export it as CSV, JSON lines or Parquet"
        )
    lines = _beyond_ascii(path)
    good = sum(_decodes(line, "utf-8") for line in lines)
    if good * 2 >= len(lines):
        return "utf-8"
    return _legacy(b"\n".join(lines))


def open_text(path: Path, encoding: str) -> TextIOWrapper:
    """The text of a file with its line ends as they are."""
    return TextIOWrapper(open_bytes(path), encoding=encoding, errors="surrogateescape", newline="")


def lines_of(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, without their ends. UserError for a damaged file."""
    line = 0
    try:
        with open_text(path, encoding) as file:
            for line, text in enumerate(file, 1):
                if not text.isspace():
                    yield line, text.rstrip("\r\n")
    except (*DAMAGED, UnicodeError) as error:
        raise unreadable(path, line, error) from None


def is_damaged(text: str) -> bool:
    """Whether a text holds bytes that its encoding does not have."""
    return not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text)


def shown(text: str) -> str:
    """`text` with its damaged bytes written out, fit for a reject file."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _start(path: Path) -> bytes:
    try:
        with open_bytes(path) as file:
            return file.read(CHUNK)
    except DAMAGED as error:
        raise unreadable(path, 0, error) from None


def _beyond_ascii(path: Path) -> list[bytes]:
    lines: list[bytes] = []
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):  # noqa: B007
                if not line.isascii():
                    lines.append(line[:CHUNK])
                    if len(lines) == SAMPLE_LINES:
                        break
    except DAMAGED as error:
        raise unreadable(path, number, error) from None
    return lines


def _legacy(sample: bytes) -> str:
    runs = _RUN.findall(sample[: 4 * CHUNK])
    if 3 * sum(len(run) for run in runs if len(run) >= LONG_RUN) > sum(map(len, runs)):
        from charset_normalizer import from_bytes

        best = from_bytes(sample[: 4 * CHUNK]).best()
        if best:
            return "gb18030" if best.encoding in ("gb2312", "gbk", "hz") else best.encoding
    if not _decodes(sample, "cp1252"):
        return "latin-1"
    return "cp1250" if _POLISH.search(sample.decode("cp1252")) else "cp1252"


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
