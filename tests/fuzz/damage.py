"""Ways in which files are damaged, cut, padded or made to declare what they do not hold."""

from __future__ import annotations

import copy
import random
import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


def damaged(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """Some content with one to three faults.

    Args:
        draw: decides which, and where; the starts of files are hit more often than the rest.
        content: of a file that is whole.
        others: of other files, for parts that are mixed up.
    """
    for _ in range(draw.choice((1, 1, 2, 3))):
        content = draw.choice(FAULTS)(draw, content, others)
    return content


def place(draw: random.Random, content: bytes) -> int:
    """A place in some content, one in two among the first 64 bytes."""
    return draw.randrange(min(len(content), 64 if draw.random() < 0.5 else len(content)) + 1)


def flip(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """Some bits are turned over."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 2, 8, 40)) if changed else 0):
        changed[place(draw, content) % len(changed)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The end is missing."""
    return content[: place(draw, content)]


def cut_start(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The start is missing."""
    return content[place(draw, content) :]


def zero(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """A part, or all from there, is zeros."""
    start = place(draw, content)
    end = draw.choice((start + draw.randrange(1, 64), len(content)))
    return content[:start] + bytes(len(content[start:end])) + content[end:]


def insert(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """Bytes too many."""
    start = place(draw, content)
    return content[:start] + draw.randbytes(draw.randrange(1, 20)) + content[start:]


def number(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """An extreme number of two, four or eight bytes, in either order."""
    start = place(draw, content)
    size, form = draw.choice(((2, "H"), (4, "I"), (8, "Q")))
    value = draw.choice(HUGE) & (1 << 8 * size) - 1
    return content[:start] + struct.pack(draw.choice("<>") + form, value) + content[start + size :]


def swap_start(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The first bytes of another file."""
    size = draw.choice((2, 4, 8, 12, 32, 100))
    return draw.choice(others)[:size] + content[size:]


def join(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The end of another file, from a place on."""
    other = draw.choice(others)
    return content[: place(draw, content)] + other[place(draw, other) :]


def repeat(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """A part twice or more."""
    start = place(draw, content)
    part = content[start : start + draw.randrange(1, 200)]
    return content[:start] + part * draw.randrange(2, 9) + content[start:]


def noise(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """All after the first bytes is noise."""
    start = draw.choice((0, 4, 8, 16, 32))
    return content[:start] + draw.randbytes(draw.randrange(400))


FAULTS = (flip, flip, flip, cut, cut, cut_start, zero, insert, number, number, swap_start, join, repeat, noise)


def declared(draw: random.Random, content: bytes, height: int, width: int) -> bytes:
    """A picture whose height and width, wherever they stand, are said to be huge."""
    for value in (height, width):
        new = draw.choice((0, 1, 9000, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
        for form in ("<I", ">I", "<H", ">H"):
            top = (1 << 8 * struct.calcsize(form)) - 1
            content = content.replace(struct.pack(form, value), struct.pack(form, min(new, top)), draw.choice((1, 9)))
        content = content.replace(str(value).encode(), str(new).encode())
    return content


def with_checksums(content: bytes) -> bytes:
    """A PNG whose checksums fit again, so that faults in it reach the decoder; other content as it is."""
    if not content.startswith(PNG):
        return content
    parts, at = [PNG], len(PNG)
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 4 : at + 8 + size]
        parts += [content[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + size
    return b"".join(parts) + content[at:]


def odd_json(draw: random.Random, content: object) -> object:
    """A JSON value with some of what it holds replaced, dropped or added."""
    content = copy.deepcopy(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = content
        while isinstance(place, dict | list) and place:
            key = draw.choice(sorted(place)) if isinstance(place, dict) else draw.randrange(len(place))
            if not isinstance(place[key], dict | list) or not place[key] or draw.random() < 0.3:
                break
            place = place[key]
        if not place:
            continue
        value = draw.choice(
            (None, True, -1, 0, 1.5, 10**30, "", "tiny", "a" * 1000, [], {}, [1], {"A": 1}, float("nan"))
        )
        if isinstance(place, dict) and draw.random() < 0.2:
            del place[key]
        elif isinstance(place, dict) and draw.random() < 0.2:
            place[draw.choice(("extra", "MODEL", "", "pids"))] = value
        else:
            place[key] = value
    return draw.choice((lambda: content,) * 9 + (lambda: [content], lambda: 7, lambda: None))()
