"""L: single items, ranges, walks and pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from mapitem.errors import (
    InvalidBounds,
    InvalidKey,
    InvalidOrder,
    InvalidPageSize,
    InvalidPageToken,
    ItemNotFound,
    MapNotFound,
)
from mapitem.testing.conformance.kit import Section, check, keys_of, look

BRANCHES = ("a", "ab", "abc", "b", "ba", "c", "ca", "d")
PLACES = ("", "0", "a", "aa", "ab", "abb", "b", "bb", "c", "d", "dd", "z", "k" * 321)


def listed(keys: Any, listing: dict[str, Any]) -> list[str]:
    """L2: what filtering and sorting would give."""
    down = listing.get("order") == "desc"
    found = sorted(keys, reverse=down)
    place = listing.get("from_")
    if place is not None:
        found = [key for key in found if (key <= place if down else key >= place)]
        found = [key for key in found if listing.get("bounds") != "exclusive" or key != place]
    return [key for key in found if key.startswith(listing.get("prefix", ""))]


class Reading(Section):
    """L: reading."""

    @check()
    def test_get(self) -> None:
        """L1: map[key] is the item or ItemNotFound, a KeyError; get gives a default; in and len tell what is there."""
        item = self.map.set("a", {"n": 1})
        self.expect((look(self.map["a"]), look(self.map.get("a"))), (look(item), look(item)), "map['a'] and get('a')")
        self.expect((self.map.get("b"), self.map.get("b", "default")), (None, "default"), "get of an absent key")
        self.expect(("a" in self.map, "b" in self.map, len(self.map)), (True, False, 1), "in, in and len")
        with self.refused(ItemNotFound, "map['b']"):
            self.map["b"]
        with self.refused(KeyError, "map['b']"):
            self.map["b"]
        self.map.remove("a")
        self.expect((self.map.get("a"), "a" in self.map, len(self.map)), (None, False, 0), "get, in, len when removed")

    @check()
    def test_ask_for_no_key(self) -> None:
        """L1: for what cannot be a key, in says False, where get and [] raise."""
        self.fill("a")
        for key in ("", "k" * 321, "\ud800", None, 5, ("a",), b"a"):
            self.expect(key in self.map, False, f"{str(key)[:9]!a} in map")

    @check()
    def test_iterate(self) -> None:
        """L1, L5: iteration goes over the keys in order."""
        self.fill("c", "a", "b")
        self.expect(list(self.map), ["a", "b", "c"], "keys of the iteration")
        self.expect(list(self.store.map("empty")), [], "keys of an empty map")

    @check("mapping")
    def test_be_a_mapping(self) -> None:
        """L1: a map is a read-only Mapping of keys to items, and true if not empty."""
        self.fill("b", "a")
        self.expect_true(isinstance(self.map, Mapping), "the map is no collections.abc.Mapping")
        self.expect(list(self.map.keys()), ["a", "b"], "keys()")
        self.expect(keys_of(self.map.values()), ["a", "b"], "keys of values()")
        self.expect([(key, item.key) for key, item in self.map.items()], [("a", "a"), ("b", "b")], "items()")
        self.expect((bool(self.map), bool(self.store.map("empty"))), (True, False), "bool of a full and an empty map")
        with self.refused(TypeError, "map['a'] = {}"):
            self.map["a"] = {}
        with self.refused(TypeError, "del map['a']"):
            del self.map["a"]

    @check("mapping")
    def test_compare_handles(self) -> None:
        """L1: handles are equal, and hash, by store and sid."""
        again, other = self.store.map("m"), self.store.map("other")
        self.expect((self.map == again, hash(self.map) == hash(again)), (True, True), "== and hash of two handles")
        self.expect((self.map == other, self.map != other), (False, True), "== and != of handles on two maps")
        elsewhere = self.bench.make_store().map("m")
        self.expect(self.map == elsewhere, False, "== of handles in two stores")

    @check()
    def test_range(self) -> None:
        """L2: from_ is a place that need not exist; asc gives the keys from there on, desc those to there."""
        self.fill(*BRANCHES)
        for place, bounds, order in product((None, *PLACES), ("inclusive", "exclusive"), ("asc", "desc")):
            listing = {"from_": place, "bounds": bounds, "order": order}
            shown = {name: value for name, value in listing.items() if value not in (None, "inclusive", "asc")}
            self.expect(keys_of(self.map.range(**shown)), listed(BRANCHES, listing), f"keys of range(**{shown})")

    @check("prefix")
    def test_range_of_prefix(self) -> None:
        """L2: prefix keeps to keys that start with it, and goes together with all else."""
        keys = self.accepted(*BRANCHES, "a/", "a\uffff", "a\U0010ffff", "ab\U0010ffff", "aé", "b\0")
        self.fill(*keys)
        for prefix, order in product(("", "a", "ab", "abc", "abcd", "b", "x"), ("asc", "desc")):
            listing: dict[str, Any] = {"prefix": prefix, "order": order}
            self.expect(keys_of(self.map.range(**listing)), listed(keys, listing), f"keys of range(**{listing})")
            for place, bounds in product(("", "a", "ab", "abd", "b", "z"), ("inclusive", "exclusive")):
                more = listing | {"from_": place, "bounds": bounds}
                self.expect(keys_of(self.map.range(**more)), listed(keys, more), f"keys of range(**{more})")

    @check("prefix")
    def test_take_prefix_as_it_is(self) -> None:
        """L2, K3: a prefix is no pattern: nothing in it stands for something else, and case counts."""
        keys = self.accepted("%", "%a", "_", "a%b", "a_b", "aXb", "A", "a", "*", "[a]", "\\", "\0", "\0a")
        self.fill(*keys)
        for prefix in ("%", "_", "a%", "a_", "A", "*", "[", "\\", "\0"):
            self.expect(keys_of(self.map.range(prefix=prefix)), listed(keys, {"prefix": prefix}), f"keys of {prefix!r}")

    @check("limit")
    def test_range_to_limit(self) -> None:
        """L2: limit ends a range after so many items."""
        self.fill(*BRANCHES)
        for limit in (0, 1, 3, len(BRANCHES), 1000):
            found = keys_of(self.map.range(from_="ab", bounds="exclusive", limit=limit))
            self.expect(found, ["abc", "b", "ba", "c", "ca", "d"][:limit], f"keys of a range with limit={limit}")
        wrong: tuple[Any, ...] = (-1, 1.0, "1")
        for limit in wrong:
            with self.refused(ValueError, f"range with limit={limit!r}"):
                self.map.range(limit=limit)

    @check("prefix", "limit")
    def test_limit_what_has_the_prefix(self) -> None:
        """L2: a limit counts what the prefix and the place leave, whatever comes before it."""
        self.fill(*BRANCHES)
        for prefix, order, limit in product(("a", "ab", "b", "c"), ("asc", "desc"), (0, 1, 2)):
            listing: dict[str, Any] = {"prefix": prefix, "order": order}
            found = keys_of(self.map.range(**listing, limit=limit))
            self.expect(found, listed(BRANCHES, listing)[:limit], f"keys of range(**{listing | {'limit': limit}})")

    @check()
    def test_range_gives_whole_items(self) -> None:
        """L2, L5: a range gives the items that [] gives, as an iterator."""
        self.fill("a", "b")
        walk = self.map.range()
        self.expect_true(isinstance(walk, Iterator), f"range() gives no iterator but {type(walk).__name__}")
        self.expect([look(item) for item in walk], [look(self.map[key]) for key in "ab"], "items of range()")

    @check()
    def test_refuse_bad_ranges(self) -> None:
        """L2: bad arguments raise at the call, not at the first step."""
        self.fill("a")
        wrong: list[tuple[dict[str, Any], type[Exception]]] = [
            ({"order": "up"}, InvalidOrder),
            ({"order": None}, InvalidOrder),
            ({"bounds": "open"}, InvalidBounds),
            ({"from_": 5}, InvalidKey),
            ({"from_": "\ud800"}, InvalidKey),
        ]
        if self.can.prefix:
            wrong += [({"prefix": b"a"}, InvalidKey), ({"prefix": "\udfff"}, InvalidKey)]
        for listing, error in wrong:
            with self.refused(error, f"range(**{listing}), before its first step"):
                self.map.range(**listing)

    @check()
    def test_walk_while_written(self) -> None:
        """L3: a walk never raises, repeats a key or breaks order; what is there all the time comes exactly once."""
        for order in ("asc", "desc"):
            names = [f"{number:03}" for number in range(0, 200, 2)]
            for key in names:
                self.map.set(key, {})
            walk, seen = self.map.range(order=order), list[str]()
            there = set(names)
            for step in range(100):
                try:
                    seen.append(next(walk).key)
                except StopIteration:
                    break
                place = 101 + step if order == "asc" else 99 - step
                self.map.set(f"{place:03}", {})
                for key in (names[(7 * step + 50) % 100], seen[-1]):
                    if key in self.map and step % 3 == 0:
                        self.map.remove(key)
                        there.discard(key)
                there &= set(self.map)
            seen += keys_of(walk)
            self.expect(seen, sorted(set(seen), reverse=order == "desc"), f"keys of a walk, {order}")
            self.expect(sorted(there - set(seen)), [], f"keys that were there all the time and did not come, {order}")

    @check("remove_map", "strict_walks")
    def test_walk_on_when_the_map_is_gone(self) -> None:
        """S2, L3: a walk raises MapNotFound at its next step once the map is gone."""
        self.fill("a", "b", "c")
        walk = self.map.range()
        next(walk)
        self.map.remove_map()
        with self.refused(MapNotFound, "the next step of a walk in a map that is gone"):
            next(walk)

    # ------------------------------------------------------------ pages

    def _pages(self, page_size: int, **listing: Any) -> list[Any]:
        """All pages of a listing, forwards."""
        pages = [self.map.page(page_size=page_size, **listing)]
        while (token := pages[-1].next_page_token) is not None:
            pages.append(self.map.page(page_size=page_size, page_token=token))
            if len(pages) > 100:
                raise AssertionError(f"the listing {listing} does not end")
        return pages

    @check("pages")
    def test_turn_pages(self) -> None:
        """L4, L5: pages are the range, cut into pieces; one that ends exactly at the end has no next token."""
        self.fill(*BRANCHES)
        listings: list[dict[str, Any]] = [{}, {"order": "desc"}, {"from_": "ab"}, {"from_": "bb", "order": "desc"}]
        listings.append({"from_": "ab", "bounds": "exclusive"})
        listings.append({"from_": "z"})
        if self.can.prefix:
            listings += [{"prefix": "a"}, {"prefix": "a", "order": "desc", "from_": "ab"}, {"prefix": "x"}]
        for listing, size in product(listings, (1, 2, 3, 4, 8, 50)):
            wanted = listed(BRANCHES, listing)
            cut = [wanted[start : start + size] for start in range(0, len(wanted), size)] or [[]]
            got = [keys_of(page.items) for page in self._pages(size, **listing)]
            self.expect(got, cut, f"pages of {size} of the listing {listing}")

    @check("pages")
    def test_choose_page_size(self) -> None:
        """L4: a page has 50 items unless another size from 1 to 1000 is asked for; others are InvalidPageSize."""
        for number in range(60):
            self.map.set(f"{number:02}", {})
        most = self.can.items_per_page
        self.expect(len(self.map.page().items), min(50, most), "number of items of a page")
        self.expect(len(self.map.page(page_size=1000).items), min(60, most), "number of items with page_size=1000")
        for size in (0, -1, 1001, 1.0, "1", None):
            with self.refused(InvalidPageSize, f"page with page_size={size!r}"):
                self.map.page(page_size=size)

    @check("pages")
    def test_anchor_tokens_at_keys(self) -> None:
        """L4, L3: tokens are anchored at keys: what is written between two pages neither repeats nor hides an item."""
        cases: dict[str, list[tuple[str, str, list[str]]]] = {
            "asc": [
                *(("add", "a", ["f", "h"]), ("add", "c", ["f", "h"]), ("add", "e", ["e", "f", "h"])),
                *(("remove", "b", ["f", "h"]), ("remove", "d", ["f", "h"]), ("remove", "f", ["h"])),
            ],
            "desc": [
                *(("add", "z", ["d", "b"]), ("add", "g", ["d", "b"]), ("add", "e", ["e", "d", "b"])),
                *(("remove", "h", ["d", "b"]), ("remove", "f", ["d", "b"]), ("remove", "d", ["b"])),
            ],
        }
        every = [(order, *case) for order, some in cases.items() for case in some]
        for order, write, key, wanted in every:
            map_ = self.store.map(f"{order} {write} {key}")
            for each in "bdfh":
                map_.set(each, {})
            page = map_.page(page_size=2, order=order)
            if write == "add":
                map_.set(key, {})
            else:
                map_.remove(key)
            got = keys_of(map_.page(page_token=page.next_page_token).items)
            what = f"keys behind {keys_of(page.items)} of b, d, f, h in the order {order}, after {write} {key}"
            self.expect(got, wanted, what)

    @check("pages")
    def test_carry_the_listing_in_tokens(self) -> None:
        """L4: a token carries its whole listing; with it only page_size may be given, else InvalidPageToken."""
        self.fill(*BRANCHES)
        token = self.map.page(page_size=2, order="desc").next_page_token
        more: list[dict[str, Any]] = [{"from_": "a"}, {"order": "desc"}, {"bounds": "exclusive"}]
        if self.can.prefix:
            more.append({"prefix": "a"})
        for arguments in more:
            with self.refused(InvalidPageToken, f"page with a token and {arguments}"):
                self.map.page(page_token=token, **arguments)
        found = keys_of(self.map.page(page_token=token, page_size=3).items)
        self.expect(found, ["c", "ba", "b"], "keys of a page of another size")

    @check("pages")
    def test_put_tokens_into_urls(self) -> None:
        """L4: tokens are text that a URL can hold as it is."""
        keys = self.accepted("a", "é", "\U0001f600", "k" * 320, "a/b?c#d", "\0")
        self.fill(*keys, "z")
        for page in self._pages(1):
            if page.next_page_token is not None:
                self.expect_true(re.fullmatch("[A-Za-z0-9._~-]+", page.next_page_token), f"{page.next_page_token!r}")

    @check("pages", "sealed_tokens")
    def test_refuse_altered_tokens(self) -> None:
        """L4: an altered or foreign token is InvalidPageToken."""
        self.fill("a", "b", "c")
        token = self.map.page(page_size=1).next_page_token
        places = range(0, len(token), max(1, len(token) // 16))
        altered = [token[:place] + ("B" if token[place] == "A" else "A") + token[place + 1 :] for place in places]
        other = self.store.map("other")
        for key in "abc":
            other.set(key, {})
        altered += [token[:-1], token[1:], token + "A", "", "A", 5, other.page(page_size=1).next_page_token]
        for bad in altered:
            with self.refused(InvalidPageToken, f"page with the token {bad!r} where {token!r} was given"):
                self.map.page(page_token=bad)

    @check("pages", "remove_map", "sealed_tokens")
    def test_refuse_tokens_of_the_map_before(self) -> None:
        """L4, K6: a token of a map that had the same name is foreign."""
        self.fill("a", "b")
        token = self.map.page(page_size=1).next_page_token
        self.map.remove_map()
        again = self.store.map("m")
        again.set("b", {})
        with self.refused(InvalidPageToken, "page with a token of the map that had the name before"):
            again.page(page_token=token)

    @check("pages", "durable")
    def test_keep_tokens_over_a_restart(self) -> None:
        """L4: tokens outlive a restart."""
        self.fill("a", "b", "c")
        token = self.map.page(page_size=1).next_page_token
        self.expect(keys_of(self.reopened_map().page(page_token=token).items), ["b", "c"], "keys after a restart")

    @check("pages", "previous_pages")
    def test_turn_pages_back(self) -> None:
        """L4: the first page has no previous one; the way back has the same pages, and ends where the listing began."""
        self.fill(*BRANCHES)
        listings: list[dict[str, Any]] = [{}, {"order": "desc"}, {"from_": "ab", "bounds": "exclusive"}]
        for listing, size in product(listings, (1, 2, 3)):
            pages = self._pages(size, **listing)
            self.expect(pages[0].previous_page_token, None, f"previous_page_token of the first page of {listing}")
            back = [pages[-1]]
            while (token := back[-1].previous_page_token) is not None:
                back.append(self.map.page(page_size=size, page_token=token))
                if len(back) > 100:
                    raise AssertionError(f"the way back through the listing {listing} does not end")
            got, wanted = ([keys_of(page.items) for page in way] for way in (back[::-1], pages))
            self.expect(got, wanted, f"pages of {size} of the listing {listing} on the way back")

    @check("pages", "item_ttl", "clock")
    def test_leave_expired_items_out_of_pages(self) -> None:
        """L4, T3: expired items take no room in a page, and leave no token behind."""
        for key in "abd":
            self.map.set(key, {}, ttl=10)
        self.fill("c")
        self.clock.advance(10)
        page = self.map.page(page_size=1)
        self.expect((keys_of(page.items), page.next_page_token), (["c"], None), "keys and next token of a page")
