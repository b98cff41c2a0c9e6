"""Decode and sort the names in a zip.

A zip says of a name that it is UTF-8, or says nothing. Then it is in the code page of the machine that made it.
`zipfile` reads all of these as code page 437, from which the bytes can be had back.
"""

import re
import unicodedata
from collections.abc import Sequence
from zipfile import ZipInfo

from segserve.files.zip_archive import UTF8_FLAG

# Names of ASCII and of what most words of Chinese (GB 2312, level 1) and Japanese (JIS X 0208, kana and level 1) are
# written in. At least two such characters follow each other: one alone may be two letters of another code page.
CHINESE = re.compile(rb"(?:[\x00-\x7f]|(?:[\xb0-\xd7][\xa1-\xfe]){2,})+")
JAPANESE = re.compile(
    rb"(?:[\x00-\x7f]|(?:\x82[\x9f-\xf1]|\x83[\x40-\x96]|\x81\x5b|[\x88-\x97][\x40-\x7e\x80-\xfc]){2,})+"
)
# GB 2312 has common Chinese characters where KS X 1001 has Korean ones, and these after them.
CHINESE_ONLY = re.compile(rb"[\xc9-\xd7][\xa1-\xfe]")


def decode_names(infos: Sequence[ZipInfo]) -> list[str]:
    """Return the names of entries: in UTF-8, GBK or Shift JIS where all make sense so, else in code page 437."""
    raw_names = [find_raw_name(info) for info in infos]
    encoding = guess_encoding([raw for raw in raw_names if raw is not None])
    return [
        info.filename if raw is None else raw.decode(encoding)
        for info, raw in zip(infos, raw_names, strict=True)
    ]


def find_raw_name(info: ZipInfo) -> bytes | None:
    """Return the bytes of a name in an unknown code page; None for a name that is known."""
    if info.flag_bits & UTF8_FLAG or info.filename.isascii():
        return None
    try:
        return info.filename.encode("cp437")
    except UnicodeEncodeError:  # from a field that gives the name in Unicode
        return None


def guess_encoding(names: Sequence[bytes]) -> str:
    """Return the encoding in which all names make sense, and from which their bytes can be had back."""
    candidates = ["utf-8"]
    if all(map(CHINESE.fullmatch, names)) and any(map(CHINESE_ONLY.search, names)):
        # Two bytes of GBK may be a letter of UTF-8, but hardly all of one script.
        candidates.insert(0 if is_in(names, "utf-8") and count_scripts(names) > 1 else 1, "gbk")
    if all(map(JAPANESE.fullmatch, names)):
        candidates.append("cp932")
    return next((encoding for encoding in candidates if is_in(names, encoding)), "cp437")


def count_scripts(names: Sequence[bytes]) -> int:
    """Return how many scripts the letters of names in UTF-8 are of, beside ASCII."""
    letters = {letter for name in names for letter in name.decode() if not letter.isascii()}
    return len({unicodedata.name(letter, "").partition(" ")[0] for letter in letters})


def is_in(names: Sequence[bytes], encoding: str) -> bool:
    """Return whether names can be decoded, and encoded to the same bytes."""
    try:
        return all(name.decode(encoding).encode(encoding) == name for name in names)
    except UnicodeError:
        return False


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key for sorting names in natural order: 2 before 10."""
    parts = re.findall(r"\d+|\D+", name)
    # Numbers are compared as (length, digits), not as int: a name may have thousands of digits.
    return [
        (0, len(part.lstrip("0")), part.lstrip("0")) if part.isdecimal() else (1, 0, part.lower())
        for part in parts
    ]
