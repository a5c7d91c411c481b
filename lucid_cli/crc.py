"""CRC-32 of bytes whose parts were checked apart.

A CRC is the remainder of the bytes, read as a polynomial over GF(2), by the polynomial of RFC 1952 (section 8), with
the bits reversed. Bytes that follow multiply what stands before them by x to the power of their bits.
"""

from functools import lru_cache

POLYNOMIAL = 0xEDB88320
ONE = 1 << 31
"""The polynomial 1: the highest bit is the lowest power."""


def combined(first: int, second: int, size: int) -> int:
    """Return the CRC-32 of bytes with the CRC `first`, followed by `size` bytes with the CRC `second`."""
    return _times(first, _power(size)) ^ second


def _times(a: int, b: int) -> int:
    """Multiply two remainders."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=64)
def _power(size: int) -> int:
    """Return the remainder of x ** (8 * size)."""
    result, factor = ONE, ONE >> 8
    while size:
        if size & 1:
            result = _times(result, factor)
        factor = _times(factor, factor)
        size >>= 1
    return result
