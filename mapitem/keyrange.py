"""One internal form for every range read: its arguments and page tokens become a ``KeyRange``.

A range is half-open, from ``low`` up to but without ``high``, and is walked upwards or downwards. Half-open is enough,
for keys are ordered by code point and the very next string after ``s`` is ``s + "\\0"``. This room knows no map and no
item; the engine sees nothing but the range.
"""

from __future__ import annotations

from zlib import crc32

from msgpack import packb, unpackb

from mapitem.errors import InvalidBounds, InvalidKey, InvalidOrder, InvalidPageSize, InvalidPageToken
from mapitem.limits import is_text, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mapitem.item import MapItem

MAX_PAGE_SIZE = 1000

# base64's alphabet as it is used in URLs; the module of that name costs more to import than this.
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class KeyRange:
    """Keys ``low <= key < high`` in code-point order (``high=None``: no end), walked downwards if ``descending``."""

    __slots__ = ("descending", "high", "low")

    def __init__(self, low: str, high: str | None, descending: bool) -> None:
        self.low = low
        self.high = high
        self.descending = descending

    def after(self, place: str) -> KeyRange:
        """The part of the walk that lies behind the cut at ``place`` (see ``cut_before`` and ``cut_after``)."""
        return KeyRange(self.low, place, True) if self.descending else KeyRange(place, self.high, False)

    def before(self, place: str) -> KeyRange:
        """The part that lies in front of the cut at ``place``, walked backwards from there."""
        return KeyRange(place, self.high, False) if self.descending else KeyRange(self.low, place, True)

    def cut_before(self, key: str) -> str:
        """The place just in front of ``key``, in the direction of the walk."""
        return following(key) if self.descending else key

    def cut_after(self, key: str) -> str:
        """The place just behind ``key``, in the direction of the walk."""
        return key if self.descending else following(key)


def following(key: str) -> str:
    """The smallest string greater than ``key``."""
    return key + "\0"


def key_range(from_: object, bounds: object, order: object, prefix: object) -> KeyRange:
    """The range that the arguments of ``range`` and ``page`` ask for (L2); raises on a bad one."""
    if order not in ("asc", "desc") or type(order) is not str:
        raise InvalidOrder(f"order must be 'asc' or 'desc', not {shown(order)}")
    if bounds not in ("inclusive", "exclusive") or type(bounds) is not str:
        raise InvalidBounds(f"bounds must be 'inclusive' or 'exclusive', not {shown(bounds)}")
    for name, text in (("from_", from_), ("prefix", prefix)):
        if text is not None and not is_text(text):
            raise InvalidKey(f"{name} must be a str without lone surrogates, not {shown(text)}")
    descending = order == "desc"
    low, high = ("", None) if prefix is None else (str(prefix), _past_prefix(str(prefix)))
    if from_ is not None:
        place = str(from_)
        inclusive = bounds == "inclusive"
        if descending:
            end = following(place) if inclusive else place
            high = end if high is None else min(high, end)
        else:
            low = max(low, place if inclusive else following(place))
    return KeyRange(low, high, descending)


def _past_prefix(prefix: str) -> str | None:
    """The smallest string greater than every string that starts with ``prefix``, or ``None`` if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    last = ord(stem[-1]) + 1
    if last == 0xD800:  # surrogates are no characters of a key, and UTF-8 could not carry the token of such a range
        last = 0xE000
    return stem[:-1] + chr(last)


def check_limit(limit: object) -> int | None:
    """``limit`` as given; ``ValueError`` unless it is ``None`` or an int of at least 0 (L2)."""
    if limit is not None and (type(limit) is not int or limit < 0):
        raise ValueError(f"limit must be an int of at least 0, or None, not {shown(limit)}")
    return limit


def check_page_size(page_size: object) -> int:
    """``page_size`` as given; ``InvalidPageSize`` unless it is an int from 1 to 1000 (L4)."""
    if type(page_size) is not int or not 1 <= page_size <= MAX_PAGE_SIZE:
        raise InvalidPageSize(f"page_size must be an int from 1 to {MAX_PAGE_SIZE}, not {shown(page_size)}")
    return page_size


class Page:
    """One page of a listing: ``items`` in the listing's order, and the tokens of its neighbours, ``None`` at the ends.

    Immutable, equal by value. Tokens are opaque, URL-safe strings that carry the whole listing (L4).
    """

    __slots__ = ("_items", "_next_page_token", "_previous_page_token")

    def __init__(
        self, items: tuple[MapItem, ...], next_page_token: str | None = None, previous_page_token: str | None = None
    ) -> None:
        self._items = items
        self._next_page_token = next_page_token
        self._previous_page_token = previous_page_token

    @property
    def items(self) -> tuple[MapItem, ...]:
        """The items, in the order of the listing."""
        return self._items

    @property
    def next_page_token(self) -> str | None:
        """Give it to ``page`` for what comes after; ``None`` if nothing did at this look."""
        return self._next_page_token

    @property
    def previous_page_token(self) -> str | None:
        """Give it to ``page`` for what came before; ``None`` at the listing's beginning."""
        return self._previous_page_token

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Page):
            return NotImplemented
        return self._astuple() == other._astuple()

    def __hash__(self) -> int:
        return hash(self._astuple())

    def __repr__(self) -> str:
        return (
            f"Page({len(self._items)} items, next_page_token={self._next_page_token!r}, "
            f"previous_page_token={self._previous_page_token!r})"
        )

    def _astuple(self) -> tuple[object, ...]:
        return self._items, self._next_page_token, self._previous_page_token


class PagePlace:
    """What a page token says: the listing, the cut in it, and whether the page lies behind the cut or in front."""

    __slots__ = ("backwards", "cut", "listing")

    def __init__(self, listing: KeyRange, cut: str, backwards: bool) -> None:
        self.listing = listing
        self.cut = cut
        self.backwards = backwards

    def token(self, sid: str) -> str:
        """The place as a token of the map ``sid``. Its checksum is there against accidents, not against forgers."""
        listing = self.listing
        body: bytes = packb([sid, listing.low, listing.high, listing.descending, self.cut, self.backwards])
        from binascii import b2a_base64  # not for everybody who imports us

        text = b2a_base64(body + crc32(body).to_bytes(4, "big"), newline=False)
        return text.rstrip(b"=").translate(_TO_URL).decode()


def read_token(token: object, sid: str) -> PagePlace:
    """The place that a token of the map ``sid`` stands for; ``InvalidPageToken`` for anything else (L4)."""
    from binascii import a2b_base64

    problem = InvalidPageToken("not a page token of this map")
    if type(token) is not str or not token.isascii():
        raise problem
    try:
        raw = a2b_base64(token.encode().translate(_FROM_URL) + b"=" * (-len(token) % 4))
        body, checksum = raw[:-4], raw[-4:]
        if crc32(body).to_bytes(4, "big") != checksum:
            raise problem
        fields: list[Any] = unpackb(body)
        owner, low, high, descending, cut, backwards = fields
    except (ValueError, TypeError):
        raise problem from None
    shapes = (owner, low, cut), (descending, backwards)
    if owner != sid or not all(map(is_text, shapes[0])) or not all(type(flag) is bool for flag in shapes[1]):
        raise problem
    if not (high is None or is_text(high)):
        raise problem
    place = PagePlace(KeyRange(low, high, descending), cut, backwards)
    # base64 has several spellings of the same bytes; only the one we wrote is ours.
    if place.token(sid) != token:
        raise problem
    return place
