"""What may be stored: keys, names, data, times to live, conditions (semantics K, D, T1, C1).

The one place that knows the limits. It judges arguments and raises; it never looks at what a store holds.
"""

from __future__ import annotations

import re
import sys
from datetime import timedelta

from msgpack import Packer

from mapitem.errors import DataTooLarge, InvalidData, InvalidKey, InvalidName, InvalidRevision, InvalidTTL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

MAX_TTL_SECONDS = 31_536_000
MAX_DEPTH = 128

_SID = re.compile(r"[A-Z]{2}[0-9a-fA-F]{32}")
_REVISION = re.compile(r"[0-9a-f]+|\*")


class Limits:
    """How large a key and an item's data may be; the service's limits by default (semantics D5).

    ``max_key_chars`` counts Unicode code points and binds the names of maps too; ``max_data_bytes`` counts the bytes of
    the data as compact JSON in UTF-8. They bind writes only: what is stored stays readable. Immutable, equal by value.
    Raises ``ValueError`` unless both are whole numbers of at least 1.
    """

    if not TYPE_CHECKING:  # where the fields are declared as what they are to a reader: read-only
        __slots__ = ("max_data_bytes", "max_key_chars")

    if TYPE_CHECKING:

        @property
        def max_data_bytes(self) -> int: ...
        @property
        def max_key_chars(self) -> int: ...

    def __init__(self, max_key_chars: int = 320, max_data_bytes: int = 16_384) -> None:
        for name, value in (("max_key_chars", max_key_chars), ("max_data_bytes", max_data_bytes)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an int of at least 1, not {shown(value)}")
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Limits are immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Limits are immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return Limits, (self.max_key_chars, self.max_data_bytes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Limits):
            return NotImplemented
        return (self.max_key_chars, self.max_data_bytes) == (other.max_key_chars, other.max_data_bytes)

    def __hash__(self) -> int:
        return hash((self.max_key_chars, self.max_data_bytes))

    def __repr__(self) -> str:
        return f"Limits(max_key_chars={self.max_key_chars}, max_data_bytes={self.max_data_bytes})"


def shown(value: object) -> str:
    """A wrong argument as a message shows it: short, and never failing, as the text of an endless int would."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return shown_text(text)


def shown_text(text: str, longest: int = 80) -> str:
    """A text as a message shows it: cut where it is long."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


# ---------------------------------------------------------------- keys, names, ttl, conditions


def is_text(value: object) -> bool:
    """Whether ``value`` is exactly a ``str`` that UTF-8 can hold, which is to say without lone surrogates."""
    if type(value) is not str:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_key(key: object, max_chars: int) -> None:
    """Raise ``InvalidKey`` unless ``key`` can be one (K1, K2). No subclass of ``str`` can: it may lie."""
    if type(key) is str and 0 < len(key) <= max_chars and key.isascii():
        return  # as nearly all are
    if type(key) is not str:
        raise InvalidKey(f"a key must be a str, not {type(key).__name__}")
    if not 1 <= len(key) <= max_chars:
        raise InvalidKey(f"a key has 1 to {max_chars} characters, not {len(key)}")
    if not is_text(key):
        raise InvalidKey("a key must not hold lone surrogates, which UTF-8 cannot encode")


def looks_like_sid(name: object) -> bool:
    """Whether ``name`` has the form of a SID: two capitals and 32 hex digits (K5)."""
    return type(name) is str and _SID.fullmatch(name) is not None


def check_name(name: object, max_chars: int) -> None:
    """Raise ``InvalidName`` unless ``name`` can be a map's unique name (K5)."""
    try:
        check_key(name, max_chars)
    except InvalidKey as error:
        raise InvalidName(str(error).replace("a key", "a map's name", 1)) from None
    if looks_like_sid(name):
        raise InvalidName("a map's name must not look like a SID (two capitals and 32 hex digits)")


def check_ttl(ttl: object, what: str = "ttl") -> int | None:
    """The ``ttl`` in whole seconds, or ``None``; ``InvalidTTL`` for anything else (T1)."""
    if ttl is None:
        return None
    seconds = ttl
    if type(ttl) is timedelta:
        if ttl.microseconds:
            raise InvalidTTL(f"{what} must be whole seconds, not {shown(ttl)}")
        seconds = ttl.days * 86_400 + ttl.seconds
    if type(seconds) is not int:
        raise InvalidTTL(f"{what} must be a whole number of seconds (int or timedelta), not {shown(ttl)}")
    if not 0 <= seconds <= MAX_TTL_SECONDS:
        raise InvalidTTL(f"{what} must lie between 0 and {MAX_TTL_SECONDS} seconds, not {shown(ttl)}")
    return seconds


def check_given_ttl(ttl: object) -> int:
    """As ``check_ttl``, for verbs to which ``None`` means nothing (W6)."""
    seconds = check_ttl(ttl)
    if seconds is None:
        raise InvalidTTL("ttl must be given: a whole number of seconds, or 0 to clear the expiry")
    return seconds


def check_if_match(if_match: object) -> str | None:
    """The condition as it was given; ``InvalidRevision`` unless it is ``None``, lower-case hex or ``"*"`` (C1)."""
    if if_match is None:
        return None
    if type(if_match) is not str or _REVISION.fullmatch(if_match) is None:
        raise InvalidRevision(f"if_match must be a revision (lower-case hex) or '*', not {shown(if_match)}")
    return if_match


# ---------------------------------------------------------------- data

_NEST = frozenset({dict, list})
_SCALARS = frozenset({type(None), bool, int})

# No JSON text is more than six times as long as the same value packed: the worst are control characters, one byte
# packed and "\u0000" in JSON, and "false," for the one byte of False.
_JSON_PER_PACKED = 6
# No JSON text is less than a third as long: the worst is "0.0," for the nine bytes of a float.
_PACKED_PER_JSON = 3
# The bytes that are escaped in JSON, by one more or, as "\\u0000", by five.
_ESCAPED = bytes([*range(0x20), *b'"\\'])
# Containers in one of more values than this are mostly too much to be small: to weigh first would be a walk in vain.
_MANY = 32
# Counting stops beyond ten times the limit (D3).
_COUNT_UP_TO = 10


def _json_text(value: object) -> str:
    """Compact JSON. Encoded seldom, and so json is not imported before it is needed."""
    global _json_encode
    if _json_encode is None:
        from json import JSONEncoder

        _json_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
    return _json_encode(value)


_json_encode: Callable[[object], str] | None = None

# Packers are kept for the next caller: making one costs more than packing a small value. A packer serves one thread at
# a time, and pop and append of a list are atomic.
_idle_packers: list[Packer] = []


def encode_data(data: object, max_bytes: int) -> bytes:
    """``data`` as msgpack, a private copy. ``InvalidData`` or ``DataTooLarge`` if it may not be stored (D1, D3).

    A value that is too small to exceed the limit is not encoded to JSON to find that out.
    """
    small = max_bytes // _JSON_PER_PACKED
    survey = None
    try:
        is_plain = type(data) is dict and _weigh(data, small, MAX_DEPTH) <= small
    except RecursionError:  # the caller's stack is nearly full
        is_plain = False
    if not is_plain:
        survey = _survey(data, max_bytes * _COUNT_UP_TO) if type(data) is dict else None
        problem = None if survey else _explain(data, max_bytes)
        try:
            if problem is not None:
                raise problem
        finally:
            del problem  # or the error would keep itself, and with it the data, by its traceback
    try:
        packer = _idle_packers.pop()
    except IndexError:
        packer = Packer(strict_types=True)
    try:
        packed: bytes = packer.pack(data)
    except (TypeError, ValueError, OverflowError):  # a lone surrogate, an int beyond 64 bits, a subclass of str as key
        raise _explain(data, max_bytes) or _invalid([], "it was changed while it was being written") from None
    _idle_packers.append(packer)
    if len(packed) * _JSON_PER_PACKED > max_bytes and not (survey and _json_bound(packed, *survey) <= max_bytes):
        if len(packed) > max_bytes * _COUNT_UP_TO * _PACKED_PER_JSON:
            raise _too_large(len(packed) // _PACKED_PER_JSON, max_bytes)
        size = _json_size(data)
        if size > max_bytes:
            raise _too_large(size, max_bytes)
    return packed


def _json_size(data: object) -> int:
    """How many bytes good data takes as compact JSON in UTF-8 (D3)."""
    try:
        return len(_json_text(data).encode())
    except RecursionError:
        # The caller's stack is nearly full, and JSON's encoder needs a frame for each level: go without one.
        size = 0
        waiting: list[Any] = [data]
        while waiting:
            value = waiting.pop()
            if type(value) in _NEST:
                size += 1 + max(len(value), 1)  # brackets, and the commas between
                if type(value) is dict:
                    size += sum(len(_json_text(key).encode()) + 1 for key in value)
                    value = value.values()
                waiting += value
            else:
                size += len(_json_text(value).encode())
        return size


def _weigh(container: Any, most: int, levels: int) -> int:
    """How many values, and characters of keys and strings, are in a dict or list: each is one at least in JSON too.

    More than ``most`` also if a type, a float or the depth (of ``levels`` more) is wrong: then, as then, ``_explain``
    looks closer. What is shared counts each time it stands there, for so it would be written; once there is more than
    ``most`` it looks no further, so that a value cannot be endless. What it leaves to the packer: surrogates, huge
    ints, subclasses as keys. One call for each container is the cheapest walk: level by level, or by sets of types,
    takes half as much again. Many containers in one are left to ``_survey`` at first sight.
    """
    count = width = len(container)
    if type(container) is dict:
        try:
            count += len("".join(container))
        except TypeError:
            return sys.maxsize
        container = container.values()
    for value in container:
        kind = type(value)
        if kind is str:
            count += len(value)
        elif kind in _SCALARS:
            pass
        elif kind is float:
            if value - value != 0.0:
                return sys.maxsize
        elif kind in _NEST and levels > 1 and width <= _MANY:
            count += _weigh(value, most, levels - 1)
            if count > most:
                return count
        else:
            return sys.maxsize
    return count


def _survey(data: dict[str, Any], most: int) -> tuple[int, int, str] | None:
    """Of good data: how many values are in it, how many of them are strings, and the text of all keys and strings.

    ``None`` for data that ``_weigh`` would find too heavy, which bad data are. It goes level by level, and measures
    strings together: of 12 KiB it takes two thirds of the time that ``_weigh`` and a second walk for the text took.
    """
    count = 0
    keys: list[str] = []  # of each dict, as one text
    texts: list[str] = []
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            count += len(container)
            if type(container) is dict:
                try:
                    text = "".join(container)
                except TypeError:
                    return None
                keys.append(text)
                count += len(text)
                container = container.values()
            if count > most:  # before what is shared, or a cycle, can fill the memory
                return None
            for value in container:
                kind = type(value)
                if kind is str:
                    texts.append(value)
                elif kind in _SCALARS:
                    pass
                elif kind is float:
                    if value - value != 0.0:
                        return None
                elif kind in _NEST:
                    below.append(value)
                else:
                    return None
        if not below:
            if count + sum(map(len, texts)) > most:  # before they are joined: one text may stand in it often
                return None
            return count - sum(map(len, keys)), len(texts), "".join(keys + texts)
        level = below
    return None


def _json_bound(packed: bytes, values: int, strings: int, text: str) -> int:
    """A number that the size as JSON of what was packed does not exceed (D3), and that comes near it for text.

    Of a key or string of n bytes JSON makes n + 3, with quotes and a colon or comma, and up to five more for each byte
    that is escaped; packed it has n + 1 at least. Of any other value with p bytes packed it makes at most
    2.5 p + 3.5: "false," of one byte, 25 characters of a float's nine. No more keys than values.
    """
    utf8 = text.encode()
    escaped = len(utf8) - len(utf8.translate(None, _ESCAPED))
    return (5 * len(packed) - 3 * len(utf8) + 10 * escaped + 8 * values - 6 * strings + 7) // 2


def _too_large(size: int, limit: int) -> DataTooLarge:
    message = f"data of {size:,} bytes as compact JSON is over the limit of {limit:,}"
    return DataTooLarge(message, size=size, limit=limit)


def _explain(data: object, max_bytes: int) -> InvalidData | DataTooLarge | None:
    """The error for data that looked wrong, ``None`` if it is not: walks it slowly and in order, without recursion."""
    if type(data) is not dict:
        problem = None if type(data) in _NEST else _scalar_problem(data)
        return _invalid([], problem or f"the top must be a dict, not {type(data).__name__}")
    if (bad := _bad_key(data)) is not None:
        return _invalid([], bad)
    most = max_bytes * _COUNT_UP_TO
    count = 0
    steps: list[Any] = []  # from the top to where the walk is
    open_ids = {id(data)}
    stack: list[tuple[Any, Iterator[tuple[Any, Any]]]] = [(data, iter(data.items()))]
    while stack:
        container, children = stack[-1]
        for step, value in children:
            count += 1 + sum(len(text) for text in (step, value) if type(text) is str)
            if count > most:
                return _too_large(count, max_bytes)
            if type(value) not in _NEST:
                problem = _scalar_problem(value)
                if problem is not None:
                    return _invalid([*steps, step], problem)
                continue
            steps.append(step)
            if id(value) in open_ids:
                return _invalid(steps, "a cycle: the value contains itself")
            if len(stack) == MAX_DEPTH:
                return _invalid(steps, f"nested deeper than {MAX_DEPTH} levels")
            if type(value) is dict and (bad := _bad_key(value)) is not None:
                return _invalid(steps, bad)
            open_ids.add(id(value))
            stack.append((value, iter(value.items() if type(value) is dict else enumerate(value))))
            break
        else:
            stack.pop()
            open_ids.discard(id(container))
            del steps[-1:]
    return None


def _bad_key(container: dict[Any, Any]) -> str | None:
    for key in container:
        if type(key) is not str:
            return f"a key must be a str, not {type(key).__name__}"
        if not is_text(key):
            return "a key holds a lone surrogate, which UTF-8 cannot encode"
    return None


def _scalar_problem(value: object) -> str | None:
    kind: Any = type(value)
    if kind is float:
        return None if value - value == 0.0 else f"{value!r} is not finite"  # type: ignore[operator]
    if kind is int:
        # Not shown: the text of an int beyond some thousand digits is refused by Python itself.
        return None if -(2**63) <= value < 2**64 else "an int beyond 64 bits"  # type: ignore[operator]
    if kind is str:
        return None if is_text(value) else "a lone surrogate, which UTF-8 cannot encode"
    return None if kind in _SCALARS else f"{kind.__name__} is not a type of JSON"


def _path(steps: list[Any]) -> str:
    parts = ["$"]
    for step in steps:
        if type(step) is int:
            parts.append(f"[{step}]")
        elif step.isidentifier():
            parts.append(f".{step}")
        else:
            parts.append(f"[{_json_text(step)}]")
    return "".join(parts)


def _invalid(steps: list[Any], reason: str) -> InvalidData:
    path = _path(steps)
    return InvalidData(f"data cannot be stored: at {shown_text(path)}: {reason}", path=path, reason=reason)
