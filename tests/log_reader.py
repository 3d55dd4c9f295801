"""A second reader of the log, written from docs/format.md alone: what the library's own is compared with.

It shares no code with the library and knows no clock: what is due, and was not removed yet, is still there.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import msgpack

HEADER = struct.Struct(">8sHHI16sI")
FRAME = struct.Struct(">2sIQQI")
BASE_END, CLOSE, CUT = b"\xa8base end", b"\xa5close", b"\xa3cut"
ROW_FIELDS = ("revision", "created", "updated", "expires", "created_by", "data")
MAP_FIELDS = ("sid", "name", "created_by", "created", "updated", "expires", "revision", "oldest")


def read_log(path: Path) -> dict[str, Any]:
    """``{"clean", "dropped_bytes", "maps", "events"}``; ``ValueError`` for a file that is damaged or no log."""
    data = path.read_bytes()
    magic, major, _, flags, generation, checksum = HEADER.unpack_from(data.ljust(HEADER.size))
    if (magic, major, flags) != (b"\x89mapitem", 1, 0) or checksum != zlib.crc32(data[: HEADER.size - 4]):
        raise ValueError("no mapitem log of version 1, or a damaged header")
    seed = zlib.crc32(generation)
    end, sequence, in_base, clean, log = HEADER.size, 0, True, False, Log()
    while (frame := whole_frame(data, end, seed)) is not None:
        payload, number, synced_to = frame
        if number != sequence or synced_to > end or payload in ((CLOSE, CUT) if in_base else (BASE_END,)):
            break
        if payload == BASE_END:
            in_base, log.events = False, []
        elif payload not in (CLOSE, CUT):
            for operation in msgpack.unpackb(payload):
                log.apply(*operation)
        clean = payload == CLOSE
        end, sequence = end + FRAME.size + len(payload), sequence + 1
    later = (whole_frame(data, place, seed) for place in range(end, len(data)))
    if in_base or any(frame[2] > end for frame in later if frame is not None):
        raise ValueError(f"damaged at byte {end}")
    maps = {log_map["sid"]: log_map for log_map in log.maps.values()}
    dropped_bytes = len(data[end:].rstrip(b"\0") if len(data) % 65536 == 0 else data[end:])
    return {"clean": clean and end == len(data), "dropped_bytes": dropped_bytes, "maps": maps, "events": log.events}


def whole_frame(data: bytes, place: int, seed: int) -> tuple[bytes, int, int] | None:
    """Payload, sequence number and synced-to of the frame that begins there, if one does."""
    if data[place : place + 2] != b"\xb5m" or place + FRAME.size > len(data):
        return None
    _, length, sequence, synced_to, checksum = FRAME.unpack_from(data, place)
    head, payload = data[place : place + FRAME.size - 4], data[place + FRAME.size :][:length]
    whole = len(payload) == length and zlib.crc32(head + payload, seed) == checksum
    return (payload, sequence, synced_to) if whole else None


class Log:
    """What the operations of a log come to: maps by number, and the events behind the base."""

    def __init__(self) -> None:
        self.maps: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def apply(self, kind: int, number: int, *fields: Any) -> None:
        log_map = self.maps.get(number, {})
        if kind in (1, 2):
            item = log_map["items"][fields[0]] = row_fields(fields[1])
            date = fields[2] if len(fields) > 2 else item["updated"]
            self.event(log_map, ("added", "updated")[kind - 1], item["revision"], date, key=fields[0], item=item)
        elif kind in (3, 4):
            for revision, key in enumerate(fields[0] if kind == 4 else [fields[0]], fields[1]):
                del log_map["items"][key]
                self.event(log_map, ("removed", "expired")[kind - 3], revision, fields[2], key=key)
        elif kind == 5:
            self.maps[number] = dict(zip(MAP_FIELDS, fields, strict=True), items={})
        elif kind == 6:
            log_map["expires"] = fields[0]
        elif kind == 7:
            self.event(log_map, "map expired" if fields[1] else "map removed", log_map["revision"], fields[0])
            del self.maps[number]
        elif kind == 8:
            log_map["items"].update(zip(fields[0], map(row_fields, fields[1]), strict=True))
        elif kind == 9:
            for key in fields[0]:
                log_map["items"].pop(key, None)
        elif kind == 10:
            log_map.update(zip(MAP_FIELDS[4:], fields, strict=True))
        else:
            raise ValueError(f"an operation of unknown kind {kind}")

    def event(self, log_map: dict[str, Any], kind: str, revision: int, date: int, **more: Any) -> None:
        self.events.append({"map": log_map["sid"], "kind": kind, "revision": revision, "date": date, **more})
        if not kind.startswith("map"):
            log_map.update(revision=revision + 1, updated=max(log_map["updated"], date))


def row_fields(row: bytes) -> dict[str, Any]:
    return dict(zip(ROW_FIELDS, msgpack.unpackb(row), strict=True))
