"""W and C: the verbs, and what makes them conditional."""

from __future__ import annotations

from mapitem.errors import ItemNotFound
from mapitem.testing.conformance.kit import Section, check


class Writes(Section):
    """W: each verb does all of what it says, or raises and does nothing."""

    @check()
    def test_remove_item(self) -> None:
        """W5: remove takes the item away and returns it."""
        self.fill("a")
        self.expect_data(self.map.remove("a").data, {"n": 0}, "data of what remove('a') returned")
        self.expect("a" in self.map, False, "'a' in map afterwards")
        with self.refused(ItemNotFound, "remove('a') once more"):
            self.map.remove("a")
