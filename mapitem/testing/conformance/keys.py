"""K: what a key is, in which order keys stand, and what belongs to a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mapitem.errors import InvalidKey, InvalidName, MapNotFound
from mapitem.testing.conformance.kit import Section, check, shown

NASTY = (
    *("/", "..", "../m", ".", "?a=b", "#a", "%2F", "%00", "a+b", " ", " a", "a\n", "\0", "a\0", "a\0b", "\\", '"', "'"),
    *("__proto__", "MP00000000000000000000000000000000", "ß", "\x7f", "\u200b", "\ufeff", "\uffff", "\U0001f600"),
)
NO_KEYS = ("", "k" * 321, "\ud800", "a\udfff", None, 0, b"a", ("a",))
TWINS = (("\u00e9", "e\u0301"), ("a", "A"), ("a", "a "), ("\u212b", "\u00c5"), ("\uff41", "a"), ("ß", "ss"))


class Keys(Section):
    """K: keys and names."""

    @check()
    def test_take_keys_of_1_to_320(self) -> None:
        """K1: a key of 1 and one of 320 characters is taken, and told apart from one that ends otherwise."""
        for key in ("k", "k" * 319, "k" * 320, "k" * 319 + "l"):
            self.map.set(key, {})
            self.expect(self.map[key].key, key, f"key of the item under {len(key)} characters")
        self.expect(len(self.map), 4, "number of items")

    @check()
    def test_count_code_points(self) -> None:
        """K1: characters are code points, not bytes and not UTF-16 units: 320 astral ones are a key."""
        (key,) = self.accepted("\U0001f600" * 320)
        self.map.set(key, {})
        self.expect(self.keys(), [key], "keys")
        with self.refused(InvalidKey, "set with 321 astral characters"):
            self.map.set("\U0001f600" * 321, {})

    @check()
    def test_refuse_no_keys(self) -> None:
        """K1, L1: what is no key is InvalidKey for every verb, and nothing is written."""
        calls: dict[str, Callable[[Any], object]] = {
            "set": lambda key: self.map.set(key, {}),
            "create": lambda key: self.map.create(key, {}),
            "remove": lambda key: self.map.remove(key),
            "get": lambda key: self.map.get(key),
            "[]": lambda key: self.map[key],
        }
        if self.can.update:
            calls["update"] = lambda key: self.map.update(key, {})
        if self.can.mutate:
            calls["mutate"] = lambda key: self.map.mutate(key, lambda data: data)
        for key in NO_KEYS:
            for verb, call in calls.items():
                with self.refused(InvalidKey, f"{verb} with the key {shown(key)}"):
                    call(key)
        self.expect(len(self.map), 0, "number of items")

    @check()
    def test_take_every_character(self) -> None:
        """K2: any character may stand in a key, and is found by all ways of reading and removing."""
        keys = self.accepted(*NASTY)
        for number, key in enumerate(keys):
            self.map.set(key, {"n": number})
        for number, key in enumerate(keys):
            self.expect(key in self.map, True, f"{key!r} in map")
            self.expect_data(self.map[key].data, {"n": number}, f"data under {key!r}")
            self.expect(self.map[key].key, key, f"key of the item under {key!r}")
        self.expect(sorted(self.map), sorted(keys), "keys in the map")
        for key in keys:
            self.map.remove(key)
        self.expect(len(self.map), 0, "number of items when each was removed")

    @check()
    def test_keep_spellings_apart(self) -> None:
        """K3: keys are never normalised, folded or trimmed: two spellings are two keys."""
        for one, other in TWINS:
            if self.can.accepts_key(one) and self.can.accepts_key(other):
                self.map.set(one, {"which": one})
                self.map.set(other, {"which": other})
                for key in (one, other):
                    self.expect_data(self.map[key].data, {"which": key}, f"data under {key!a}")

    @check()
    def test_order_keys(self) -> None:
        """K4: keys stand in the order of their code points, whatever order they came in."""
        keys = self.accepted("b", "a", "Z", "ab", "10", "9", "a\0", "a-", "z", "é", "e\u0301", "ß", "\ud7ff", "\uffff")
        self.fill(*keys)
        self.expect(self.keys(), sorted(keys), "keys of range()")
        self.expect(list(self.map), sorted(keys), "keys of the iteration")

    @check("code_point_order")
    def test_order_astral_keys(self) -> None:
        """K4: characters above U+FFFF come behind all others, as in UTF-8 and not as in UTF-16."""
        keys = self.accepted("\U00010000", "\uffff", "\ue000", "\U0010ffff", "\uff5e", "a\U0001f600", "a\uffff")
        self.fill(*keys)
        self.expect(self.keys(), sorted(keys), "keys of range()")
        self.expect([item.key for item in self.map.range(order="desc")], sorted(keys)[::-1], "keys downwards")

    @check()
    def test_refuse_no_names(self) -> None:
        """K5: a name that is no key, or looks like a SID, is InvalidName."""
        for name in ("", "n" * 321, "\ud800", 7, "MP" + "0" * 32, "ZZ" + "aF" * 16):
            with self.refused(InvalidName, f"map with the name {shown(name)}"):
                self.store.map(name)
            if self.can.create_map:
                with self.refused(InvalidName, f"create_map with the name {shown(name)}"):
                    self.store.create_map(name)

    @check()
    def test_take_names(self) -> None:
        """K5, K3: a name is any key else, up to 320 characters, and kept as it is."""
        names = self.accepted("n" * 320, "MP" + "0" * 31, "mp" + "0" * 32, "MP" + "g" * 32, "a/../b", "é", "e\u0301")
        sids = {name: self.store.map(name).sid for name in names}
        self.expect(len(set(sids.values())), len(names), "number of maps")
        for name, sid in sids.items():
            self.expect(self.store.open_map(name).sid, sid, f"sid of the map {name!r}")
            self.expect(self.store.open_map(name).name, name, "name of the map")

    @check()
    def test_give_sids(self) -> None:
        """K6: a map has a sid of its own, MP and 32 digits of lower-case hex, which finds it."""
        maps = [self.store.map(name) for name in ("a", "b", "c")]
        for map_ in maps:
            self.expect_true(re.fullmatch("MP[0-9a-f]{32}", map_.sid), f"sid {map_.sid!r} is no sid")
            self.expect(self.store.open_map(map_.sid).name, map_.name, "name of the map that the sid opens")
        self.expect(len({map_.sid for map_ in maps}), 3, "number of sids")

    @check("remove_map")
    def test_not_follow_the_name(self) -> None:
        """K6: a handle belongs to its map: a new map of the same name has a new sid, and the old handle is dead."""
        self.fill("a")
        sid = self.map.sid
        self.map.remove_map()
        again = self.store.map("m")
        again.set("b", {})
        self.expect_true(again.sid != sid, "the new map has the sid of the old one")
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: self.map.get("b"),
            "len": lambda: len(self.map),
            "set": lambda: self.map.set("c", {}),
            "range": lambda: list(self.map.range()),
        }
        self.all_refused(MapNotFound, calls, "by the old handle")
        with self.refused(MapNotFound, "open_map with the old sid"):
            self.store.open_map(sid)
        self.expect(list(again), ["b"], "keys of the new map")
