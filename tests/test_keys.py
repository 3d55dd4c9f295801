"""Keys of items, names and sids of maps: which are allowed, how they compare, how long a handle lives (semantics K).

Ranges, prefixes and pages have tests of their own; here a key is only written, found again and listed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mapitem import Batch, InvalidKey, InvalidName, ItemAdded, Map, MapItem, MapNotFound, Store
from mapitem.testing import ManualClock

HEX32 = "0123456789abcdef0123456789abcdef"
COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"

keys = st.text(min_size=1, max_size=320)
one_map_for_all_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class Loud(str):
    """A ``str`` that claims to equal everything."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 7


class Name(StrEnum):
    """A ``str`` of another type, as an enumeration makes them."""

    A = "a"


def reopen(store: Store, make_store: Callable[..., Store], backing: str, **options: Any) -> Store:
    """What a restart leaves: a file is closed and opened again; a store in memory, which has none, stays."""
    if backing == "memory":
        return store
    store.close()
    return make_store(**options)


WRITES: dict[str, Callable[[Map, Any], object]] = {
    "create": lambda map_, key: map_.create(key, {}),
    "set": lambda map_, key: map_.set(key, {}),
    "update": lambda map_, key: map_.update(key, {}),
    "mutate": lambda map_, key: map_.mutate(key, lambda data: data),
    "remove": lambda map_, key: map_.remove(key),
    "set_item_ttl": lambda map_, key: map_.set_item_ttl(key, 1),
}

BATCH_WRITES: dict[str, Callable[[Batch, Map, Any], object]] = {
    "create": lambda batch, map_, key: batch.create(map_, key, {}),
    "set": lambda batch, map_, key: batch.set(map_, key, {}),
    "update": lambda batch, map_, key: batch.update(map_, key, {}),
    "remove": lambda batch, map_, key: batch.remove(map_, key),
    "set_item_ttl": lambda batch, map_, key: batch.set_item_ttl(map_, key, 1),
}

NO_KEYS: list[Any] = [
    pytest.param("", id="empty"),
    pytest.param("k" * 321, id="321 characters"),
    pytest.param("😀" * 321, id="321 characters above U+FFFF"),
    pytest.param(None, id="None"),
    pytest.param(1, id="int"),
    pytest.param(True, id="bool"),
    pytest.param(1.0, id="float"),
    pytest.param(b"k", id="bytes"),
    pytest.param(bytearray(b"k"), id="bytearray, unhashable"),
    pytest.param(("k",), id="tuple"),
    pytest.param(["k"], id="list, unhashable"),
    pytest.param(object(), id="object"),
    pytest.param(Loud("k"), id="a str subclass that lies"),
    pytest.param(Name.A, id="a str enumeration"),
    pytest.param("\ud800", id="first high surrogate"),
    pytest.param("\udbff", id="last high surrogate"),
    pytest.param("\udc00", id="first low surrogate"),
    pytest.param("\udfff", id="last low surrogate"),
    pytest.param("a\udc80b", id="surrogate inside, as os.fsdecode makes them"),
    pytest.param("\ud83d\ude00", id="a pair of surrogates, which Python does not join"),
]


# ---------------------------------------------------------------- K1, K2: what a key is


@pytest.mark.parametrize("key", ["k", "k" * 320, "😀" * 320, "é" * 320, "\x00"], ids=ascii)
def test_write_keys_of_1_to_320_code_points(map_: Map, key: str) -> None:
    """K1: 1 and 320 characters are keys, counted in code points, whatever UTF-8 or UTF-16 would take for them."""
    assert map_.create(key, {"n": 1}).key == key
    assert key in map_
    assert map_[key].data == {"n": 1}
    assert map_.update(key, {"n": 2}).key == key
    assert map_.mutate(key, lambda data: {"n": 3}).key == key  # type: ignore[union-attr]
    assert map_.set_item_ttl(key, 5).key == key
    assert map_.remove(key).key == key
    assert key not in map_


@pytest.mark.parametrize("key", NO_KEYS)
def test_write_what_is_no_key(map_: Map, key: Any) -> None:
    """K1, K2: every verb refuses what is no key with ``InvalidKey``, and nothing is written."""
    for write in WRITES.values():
        with pytest.raises(InvalidKey):
            write(map_, key)
    assert map_.revision == "0"
    assert list(map_) == []


@pytest.mark.parametrize("key", NO_KEYS)
def test_batch_what_is_no_key(store: Store, map_: Map, key: Any) -> None:
    """K1, K2: so does every verb of a batch, at the call (W7), and no trace of the call is left in the batch."""
    with store.batch() as batch:
        for write in BATCH_WRITES.values():
            with pytest.raises(InvalidKey):
                write(batch, map_, key)
    assert batch.results == []
    assert map_.revision == "0"


@pytest.mark.parametrize("key", NO_KEYS)
def test_read_what_is_no_key(map_: Map, key: Any) -> None:
    """K1, K2: reading by what is no key raises ``InvalidKey``, also where items are; ``in`` says no (L1)."""
    map_.set("k", {})
    map_.set("a", {})
    with pytest.raises(InvalidKey):
        map_[key]
    with pytest.raises(InvalidKey):
        map_.get(key)
    with pytest.raises(InvalidKey):
        map_.get(key, None)
    assert (key in map_) is False


def test_invalid_key_is_a_value_error_of_the_service(map_: Map) -> None:
    """K1: ``InvalidKey`` is a ``ValueError`` with the service's status and code (X)."""
    with pytest.raises(ValueError, match=r".") as caught:
        map_.set("", {})
    assert (type(caught.value), caught.value.status, caught.value.code) == (InvalidKey, 400, 54209)  # type: ignore[attr-defined]


ODD_KEYS = [
    "/", "a/b", "//", ".", "..", "../..", "\x00", "a\x00", "a\x00b", " ", "  ", "\t", "\n", "a\n", "\r\n",
    "%2e%2e", "%00", "?", "#", "&=", '"', "'", "\\", "*", "$", "[0]", "-1", "0", "None", "MP" + HEX32,
    "😀", "👩\u200d👧", "\u202e", "\u2028", "\x7f", "\x80", "\x85", "\ud7ff", "\ue000", "\ufdd0",
    "\ufeff", "\ufffd", "\uffff", "\U00010000", "\U0010ffff",
]  # fmt: skip


def test_write_every_odd_character(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """K2: slashes, dots, NUL, spaces, quotes, emoji, non-characters and what looks like a SID are keys like others."""
    for number, key in enumerate(ODD_KEYS):
        map_.create(key, {"n": number})
    map_ = reopen(store, make_store, backing).map("m")
    assert len(map_) == len(ODD_KEYS)
    assert set(map_) == set(ODD_KEYS)
    for number, key in enumerate(ODD_KEYS):
        assert (map_[key].key, map_[key].data) == (key, {"n": number})
        map_.remove(key)
    assert len(map_) == 0


@one_map_for_all_examples
@given(written=st.lists(keys, unique=True, max_size=8), absent=keys)
def test_find_any_key(map_: Map, written: list[str], absent: str) -> None:
    """K1, K2: any text of 1 to 320 characters that UTF-8 can hold is a key, found as it was written and no other."""
    for key in list(map_):
        map_.remove(key)
    for number, key in enumerate(written):
        map_.create(key, {"n": number})
    assert set(map_) == set(written)
    assert [map_[key].data["n"] for key in written] == list(range(len(written)))
    assert (absent in map_) is (absent in written)


def test_find_keys_after_restart(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """K2: each code point that UTF-8 can hold survives in a key: the first and the last of every block of 4096."""
    points = [point for start in range(0, 0x110000, 0x1000) for point in (start, start + 0xFFF)]
    wanted = [chr(point) for point in points if not 0xD800 <= point <= 0xDFFF]
    map_ = store.map("m")
    with store.batch() as batch:
        for key in wanted:
            batch.create(map_, key, {})
    assert list(reopen(store, make_store, backing).map("m")) == sorted(wanted)


# ---------------------------------------------------------------- K3, K4: identity and order


LOOKALIKES = [
    pytest.param(COMPOSED, DECOMPOSED, id="composed and decomposed"),
    pytest.param("\u212b", "\u00c5", id="angstrom sign and letter"),
    pytest.param("\ufb01", "fi", id="ligature"),
    pytest.param("\uac00", "\u1100\u1161", id="hangul"),
    pytest.param("\uff21", "A", id="full width"),
    pytest.param("A", "a", id="case"),
    pytest.param("ß", "ss", id="case folding"),
    pytest.param(" a", "a", id="leading space"),
    pytest.param("a ", "a", id="trailing space"),
    pytest.param("a\n", "a", id="trailing newline"),
    pytest.param("a\u200b", "a", id="zero width space"),
    pytest.param("a\x00", "a", id="trailing NUL"),
    pytest.param("\ufeffa", "a", id="byte order mark"),
]


@pytest.mark.parametrize(("one", "other"), LOOKALIKES)
def test_keep_lookalike_keys_apart(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str, one: str, other: str
) -> None:
    """K3: keys that look the same, or that normalising would join, are two keys, also after a restart."""
    map_.create(one, {"n": 1})
    assert other not in map_
    map_.create(other, {"n": 2})
    map_ = reopen(store, make_store, backing).map("m")
    assert [map_[one].data["n"], map_[other].data["n"], len(map_)] == [1, 2, 2]


@given(text=st.text(min_size=1, max_size=20))
@example(text="\u1e9b\u0323")
def test_keep_normal_forms_apart(text: str) -> None:
    """K3: the four normal forms of a text are as many keys as they are strings."""
    forms = [text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD"))]
    with Store(clock=ManualClock()) as store:
        map_ = store.map("m")
        for form in forms:
            map_.set(form, {"form": form})
        assert set(map_) == set(forms)
        assert all(map_[form].data == {"form": form} for form in forms)


def test_order_keys_above_the_basic_plane(map_: Map) -> None:
    """K4: U+FFFF comes before U+10000, though UTF-16 would put its surrogates first; NUL and prefixes come first."""
    ordered = ["\x00", "\x00\x00", " ", "0", "10", "9", "A", "Z", "a", "a\x00", "aa", "z", "é", "\ud7ff", "\ue000"]
    ordered += ["\uffff", "\U00010000", "😀", "\U0010ffff"]
    for key in ordered[::-2] + ordered[1::2]:
        map_.set(key, {})
    assert list(map_) == ordered
    assert [item.key for item in map_.range()] == ordered
    assert [item.key for item in map_.range(order="desc")] == ordered[::-1]
    assert [item.key for item in map_.page(page_size=100).items] == ordered


@given(
    st.lists(
        st.text(alphabet="a\x00\x7f\x80é\ud7ff\ue000\uffff\U00010000\U0010ffff", min_size=1, max_size=3), min_size=8
    )
)
def test_order_keys_by_code_point(written: list[str]) -> None:
    """K4: the order is by code point, which is the order of the UTF-8 bytes and of Python's ``str``."""
    with Store(clock=ManualClock()) as store:
        map_ = store.map("m")
        for key in written:
            map_.set(key, {})
        assert list(map_) == sorted(set(written))
        assert list(map_) == sorted(set(written), key=lambda key: key.encode())
        assert list(map_) == sorted(set(written), key=lambda key: [ord(character) for character in key])


# ---------------------------------------------------------------- K5: names of maps


GOOD_NAMES = [
    pytest.param("m", id="1 character"),
    pytest.param("m" * 320, id="320 characters"),
    pytest.param("😀" * 320, id="320 characters above U+FFFF"),
    pytest.param("../a/b", id="path"),
    pytest.param("\x00", id="NUL"),
    pytest.param(" ", id="space"),
    pytest.param("MP" + HEX32[:-1], id="31 digits"),
    pytest.param("MP" + HEX32 + "0", id="33 digits"),
    pytest.param("MP" + HEX32[:-1] + "g", id="no hex digit"),
    pytest.param("Mp" + HEX32, id="one capital"),
    pytest.param("mp" + HEX32, id="no capital"),
    pytest.param("M" + HEX32, id="a single letter"),
    pytest.param("MPX" + HEX32, id="three letters"),
    pytest.param("M1" + HEX32, id="a digit for a letter"),
    pytest.param("ÀÉ" + HEX32, id="capitals that are not ASCII"),
    pytest.param("MP" + "\u0661" * 32, id="digits that are not ASCII"),
    pytest.param("MP" + HEX32 + "\n", id="a newline behind"),
    pytest.param(" MP" + HEX32, id="a space before"),
]

BAD_NAMES = [
    *(key for key in NO_KEYS if key.id != "None"),  # to create_map None is no name, and is tried apart
    pytest.param("MP" + HEX32, id="sid"),
    pytest.param("MP" + HEX32.upper(), id="sid with capital digits"),
    pytest.param("AA" + "f" * 32, id="sid of something else"),
    pytest.param("ZZ" + "F" * 31 + "0", id="last of the prefixes"),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_open_map_by_any_allowed_name(store: Store, make_store: Callable[..., Store], backing: str, name: str) -> None:
    """K5: a name obeys K1 and K2 and is kept as given, and what only resembles a SID is a name."""
    map_ = store.create_map(name)
    assert map_.name == name
    assert store.map(name).sid == map_.sid
    store = reopen(store, make_store, backing)
    assert store.open_map(name).sid == map_.sid
    assert [each.name for each in store.maps()] == [name]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_refuse_what_is_no_name(store: Store, name: Any) -> None:
    """K5: what K1 or K2 forbid, or what looks like a SID, is ``InvalidName``, and no map comes to be."""
    with pytest.raises(InvalidName):
        store.map(name)
    with pytest.raises(InvalidName):
        store.create_map(name)
    assert list(store.maps()) == []


def test_refuse_none_as_a_name(store: Store) -> None:
    """K5: ``None`` is no name: ``map`` and ``open_map`` refuse it, and to ``create_map`` it means a map without one."""
    with pytest.raises(InvalidName):
        store.map(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidName):
        store.open_map(None)  # type: ignore[arg-type]
    assert store.create_map(None).name is None


def test_invalid_name_is_a_value_error_of_the_service(store: Store) -> None:
    """K5: ``InvalidName`` is a ``ValueError``, no ``InvalidKey``, and has the service's status and code (X)."""
    with pytest.raises(ValueError, match=r".") as caught:
        store.map("MP" + HEX32)
    error: Any = caught.value
    assert (type(error), error.status, error.code) == (InvalidName, 400, 54302)
    assert not isinstance(error, InvalidKey)


@pytest.mark.parametrize(("one", "other"), LOOKALIKES)
def test_keep_lookalike_names_apart(
    store: Store, make_store: Callable[..., Store], backing: str, one: str, other: str
) -> None:
    """K5: names obey K3: two texts are two maps, also after a restart."""
    sids = {one: store.map(one).sid, other: store.map(other).sid}
    assert len(set(sids.values())) == 2
    store = reopen(store, make_store, backing)
    assert {map_.name: map_.sid for map_ in store.maps()} == sids


# ---------------------------------------------------------------- K6: sids, and how long a handle lives


def test_give_every_map_a_sid(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """K6: a map has ``MP`` and 32 lower-case hex digits, its own, the same through every handle and after a restart."""
    sids = [store.map(f"m{number}").sid for number in range(50)] + [store.create_map().sid for _ in range(50)]
    assert len(set(sids)) == 100
    assert all(re.fullmatch(r"MP[0-9a-f]{32}", sid) for sid in sids)
    store = reopen(store, make_store, backing)
    assert [store.map(f"m{number}").sid for number in range(50)] == sids[:50]
    assert [store.open_map(sid).sid for sid in sids] == sids


def test_never_use_a_sid_again(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """K6: a name taken again after removal, also across a restart, gets a sid that no map had before."""
    seen = set()
    for _ in range(20):
        map_ = store.map("m")
        assert map_.sid not in seen
        seen.add(map_.sid)
        map_.remove_map()
        store = reopen(store, make_store, backing)
        for sid in seen:
            with pytest.raises(MapNotFound):
                store.open_map(sid)


ON_A_HANDLE: dict[str, Callable[[Map], object]] = {
    "[]": lambda map_: map_["k"],
    "get": lambda map_: map_.get("k"),
    "in": lambda map_: "k" in map_,
    "len": len,
    "bool": bool,
    "iteration": list,
    "keys": lambda map_: list(map_.keys()),
    "values": lambda map_: list(map_.values()),
    "items": lambda map_: list(map_.items()),
    "range": lambda map_: list(map_.range()),
    "page": lambda map_: map_.page(),
    "reversed": lambda map_: list(reversed(map_)),
    "changes": lambda map_: list(map_.changes()),
    "on": lambda map_: map_.on(ItemAdded, print),
    "create": lambda map_: map_.create("new", {}),
    "set": lambda map_: map_.set("k", {}),
    "update": lambda map_: map_.update("k", {}),
    "mutate": lambda map_: map_.mutate("k", lambda data: data),
    "remove": lambda map_: map_.remove("k"),
    "set_item_ttl": lambda map_: map_.set_item_ttl("k", 1),
    "set_ttl": lambda map_: map_.set_ttl(1),
    "purge": lambda map_: map_.purge(),
    "remove_map": lambda map_: map_.remove_map(),
    "revision": lambda map_: map_.revision,
    "date_created": lambda map_: map_.date_created,
    "date_updated": lambda map_: map_.date_updated,
    "date_expires": lambda map_: map_.date_expires,
    "created_by": lambda map_: map_.created_by,
}


def end_by_removal(store: Store, map_: Map, clock: ManualClock) -> None:
    map_.remove_map()


def end_by_expiry(store: Store, map_: Map, clock: ManualClock) -> None:
    map_.set_ttl(10)
    clock.advance(10)


def end_by_purge(store: Store, map_: Map, clock: ManualClock) -> None:
    end_by_expiry(store, map_, clock)
    store.purge()


ENDS = [end_by_removal, end_by_expiry, end_by_purge]


@pytest.mark.parametrize("successor", [False, True], ids=["name free", "name taken again"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("use", ON_A_HANDLE)
def test_use_a_handle_whose_map_ended(
    store: Store, map_: Map, clock: ManualClock, use: str, end: Callable[..., None], successor: bool
) -> None:
    """K6: after removal or expiry every use of the handle raises ``MapNotFound``, also if a new map bears the name."""
    map_.set("k", {"n": 1})
    end(store, map_, clock)
    if successor:
        heir = store.create_map("m")
        heir.set("k", {"n": 2})
    with pytest.raises(MapNotFound):
        ON_A_HANDLE[use](map_)
    if successor:
        assert (heir.revision, heir["k"].data) == ("1", {"n": 2})


@pytest.mark.parametrize("end", ENDS)
def test_name_a_map_that_ended(store: Store, map_: Map, clock: ManualClock, end: Callable[..., None]) -> None:
    """K6: of a handle whose map ended, sid, name and repr still answer (S2), and a successor's handle differs."""
    sid = map_.sid
    end(store, map_, clock)
    heir = store.map("m")
    assert (map_.sid, map_.name) == (sid, "m")
    assert sid in repr(map_) or "'m'" in repr(map_)
    assert heir.sid != sid
    assert heir != map_


@pytest.mark.parametrize("end", ENDS)
def test_batch_on_a_map_that_ended(store: Store, map_: Map, clock: ManualClock, end: Callable[..., None]) -> None:
    """K6: a batch is refused with ``MapNotFound`` when it is applied, and its writes to other maps do not happen."""
    other = store.map("other")
    end(store, map_, clock)
    store.map("m")

    def write_to_both() -> None:
        with store.batch() as batch:
            batch.set(other, "k", {})
            batch.set(map_, "k", {})

    with pytest.raises(MapNotFound):
        write_to_both()
    assert len(other) == 0


@pytest.mark.parametrize("end", ENDS)
def test_walk_on_when_the_map_ends(store: Store, map_: Map, clock: ManualClock, end: Callable[..., None]) -> None:
    """K6: a walk under way raises ``MapNotFound`` at its next step, though a new map bears the name (S2)."""
    for number in range(300):
        map_.set(f"{number:03}", {})
    walks: list[Any] = [iter(map_), map_.range(), map_.range(order="desc"), iter(map_.values())]
    for walk in walks:
        next(walk)
    end(store, map_, clock)
    store.map("m").set("zzz", {})
    for walk in walks:
        with pytest.raises(MapNotFound):
            next(walk)


def test_use_two_handles_of_one_map(store: Store) -> None:
    """K6: a handle belongs to its map: two handles of one map see one state, and another map's end leaves it alone."""
    first, second = store.map("m"), store.map("m")
    other = store.map("other")
    first.set("k", {"n": 1})
    other.remove_map()
    store.map("other").set("k", {"n": 2})
    assert isinstance(second["k"], MapItem)
    assert second["k"].data == {"n": 1}


def test_use_a_handle_when_an_expired_map_is_there_again(store: Store, map_: Map, clock: ManualClock) -> None:
    """K6: an end by expiry that nothing made final is judged anew (T3): the clock goes back, the handle lives."""
    map_.set("k", {"n": 1})
    map_.set_ttl(10)
    clock.advance(10)
    with pytest.raises(MapNotFound):
        map_.get("k")
    clock.advance(-1)
    assert map_["k"].data == {"n": 1}
