"""Ways to damage a file. Each takes a generator of random numbers, the bytes, and other files of the format."""

import random
import re
import struct
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

EXTREMES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
WHOLE = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 32, 64, 127, 128, 255, 256, 512, 1024, 1792, 2048, 2304, 348, 352, 540, 544)
REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 348.0, 352.0, 352.5, 544.0, 1e9, 2.0**31, 2.0**63, 1e-45, 1e-30, 1e30, 3e38, 1e308)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
LONGEST_TEXT = 1 << 16
TOKEN = re.compile(r"\s+|[\w.+-]+|'[^'\n]*'|\"[^\"\n]*\"|.", re.DOTALL)


def flip_bits(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Set one to four bytes, neighbours or not, to extremes or at random."""
    changed, run = bytearray(data), rng.random() < 0.3
    at = rng.randrange(len(data) or 1)
    for _ in range(rng.randint(1, 4) if changed else 0):
        changed[at % len(changed)] = rng.choice((*EXTREMES, rng.randrange(256)))
        at = at + 1 if run else rng.randrange(len(changed))
    return bytes(changed)


def set_integer(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Put an integer of 2, 4 or 8 bytes somewhere: a boundary, a size of the file, or one more or less."""
    code = rng.choice("HIQ")
    width = struct.calcsize(code)
    value = rng.choice((*WHOLE, len(data), 1 << (8 * width - 1), (1 << 8 * width) - 1)) + rng.choice((0, 0, 1, -1))
    packed = struct.pack(rng.choice("<>") + code, value % (1 << 8 * width))
    at = rng.randrange(max(1, len(data) - width))
    return data[:at] + packed + data[at + width :]


def truncate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Drop the end."""
    return data[: rng.randrange(len(data) + 1)]


def splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Go on with the end of another file."""
    other = rng.choice(others)
    at = rng.randrange(len(data) + 1)
    return data[:at] + other[at if rng.random() < 0.5 else rng.randrange(len(other) + 1) :]


def repeat(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Put a chunk there once more, or in another place."""
    start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    at = stop if rng.random() < 0.5 else rng.randrange(len(data) + 1)
    return data[:at] + data[start : min(stop, start + 256)] + data[at:]


def remove(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Leave out a chunk."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 4, 8, 16, 64)) :]


def insert(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Put in some bytes that are new."""
    at = rng.randrange(len(data) + 1)
    size = rng.choice((1, 2, 4, 8, 16, 64))
    return data[:at] + (bytes(size) if rng.random() < 0.5 else rng.randbytes(size)) + data[at:]


BYTES: tuple[Mutation, ...] = (flip_bits, set_bytes, set_integer, truncate, splice, repeat, remove, insert)


def record(offsets: dict[str, tuple[int, np.dtype]], only: str = "") -> Mutation:
    """Return what sets one to four numbers of a record at known offsets, by preference those of the fields `only`."""
    slots = [
        (start + at, dtype.base)
        for name, (start, dtype) in offsets.items()
        if dtype.base.kind in "iuf" and name.startswith(only)
        for at in range(0, dtype.itemsize, dtype.base.itemsize)
    ]
    return partial(_set_slots, slots)


def _set_slots(slots: list[tuple[int, np.dtype]], rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    order = rng.choice("<>") if rng.random() < 0.1 else "<" if data[:1] in (b"\x5c", b"\x1c") else ">"
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, dtype = rng.choice(slots)
        with np.errstate(all="ignore"):
            value = np.array([_value(rng, dtype)]).astype(dtype.newbyteorder(order)).tobytes()
        data = data[:at] + value + data[at + len(value) :] if len(data) >= at else data
    return data


def _value(rng: random.Random, dtype: np.dtype) -> int | float:
    if dtype.kind == "f":
        return rng.choice((*REAL, *NOT_FINITE, rng.uniform(-2, 2)))
    limits = np.iinfo(dtype)
    edges = (limits.min, limits.min + 1, limits.max, limits.max - 1, -1, -2)
    value = rng.choice((*WHOLE, *edges, rng.randint(limits.min, limits.max)))
    return min(max(value, int(limits.min)), int(limits.max))


def words(rng: random.Random, text: str, vocabulary: Sequence[str]) -> str:
    """Replace, leave out, repeat, swap or put in one to four words and signs of a text."""
    tokens = TOKEN.findall(text)
    for _ in range(rng.choice((1, 1, 2, 4)) if tokens else 0):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        change = rng.randrange(6)
        if change <= 1:
            tokens[at] = rng.choice(vocabulary)
        elif change == 2:
            tokens[at] = ""
        elif change == 3:
            tokens[at] *= rng.choice((2, 3, 300))
        elif change == 4:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            tokens.insert(at, rng.choice((*vocabulary, tokens[other])))
    return "".join(tokens)[:LONGEST_TEXT]
