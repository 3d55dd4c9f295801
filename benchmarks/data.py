"""The keys and values that every engine is given: made from a number, the same in every process, never kept.

Keys are 13 characters long and lie in no order: number 0, 1, 2 … are scattered over all keys. Values are JSON objects
of about 120 bytes (``small``), 1 KiB (``1k``) and 12 KiB (``12k``, many small objects; ``12k-text``, one long string).
"""

from __future__ import annotations

from typing import Any

_KEYS = 10**8
_HALF = 10**4
VALUES = ("small", "1k", "12k", "12k-text")


def key(number: int) -> str:
    """The key of a number below 10**8. Different numbers have different keys."""
    # Two multiplications that can be undone, with the halves swapped between: no list of keys has to be remembered.
    high, low = divmod(number * 61_803_399 % _KEYS, _HALF)
    return f"user:{(low * _HALF + high) * 31_415_927 % _KEYS:08}"


def value(kind: str, number: int, version: int = 0) -> dict[str, Any]:
    """A new object of that kind; ``version`` changes it a little."""
    return _MAKERS[kind](number, version)


def _small(number: int, version: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": "Taylor Fox",
        "country": "UK",
        "level": (number + version) % 50,
        "score": (number + version) % 1000 / 8,
        "username": f"taylor_{number:08}",
        "on": True,
    }


def _one_kibibyte(number: int, version: int) -> dict[str, Any]:
    return {
        **_small(number, version),
        "tags": ["north", "south", "east", "west", f"tag-{version}"],
        "note": "It is a long way to the sea, and nobody asked. " * 8,
        "visits": [
            {"at": f"2024-05-{day:02}T08:00:00Z", "page": f"/p/{number}/{day}", "n": day} for day in range(1, 8)
        ],
    }


def _twelve_kibibytes(number: int, version: int) -> dict[str, Any]:
    return {"id": number, "version": version, "rows": [_small(number + row, version) for row in range(107)]}


def _twelve_kibibytes_of_text(number: int, version: int) -> dict[str, Any]:
    return {**_small(number, version), "text": "It is a long way to the sea, and nobody asked. " * 259}


_MAKERS = {"small": _small, "1k": _one_kibibyte, "12k": _twelve_kibibytes, "12k-text": _twelve_kibibytes_of_text}
