"""The entry point through which ``hypothesis`` learns of mapitem's types when it is imported.

Beside the package and not in it: whoever has mapitem installed and imports ``hypothesis`` runs ``register``, and must
not pay for mapitem's import, nor have it imported before a measurement of coverage begins. The strategies themselves
are imported when somebody asks for one of the types, who then has imported mapitem already.
"""

from __future__ import annotations


def register() -> None:
    """Let ``st.from_type`` resolve mapitem's types. What a user registers for one of them goes first."""
    from hypothesis.strategies._internal import types

    # How Hypothesis's own extras stay lazy; it has no public name. Should it go, what follows is public and not lazy.
    resolvers = getattr(types, "_global_extra_lookup", None)
    if isinstance(resolvers, dict):
        resolvers["mapitem"] = resolve
    else:
        register_eagerly()


def register_eagerly() -> None:
    """The same by the documented way, which has to import mapitem."""
    from hypothesis import strategies as st

    import mapitem

    events = mapitem.Event, mapitem.ItemAdded, mapitem.ItemUpdated, mapitem.ItemRemoved, mapitem.MapRemoved
    for kind in (mapitem.MapItem, mapitem.Page, mapitem.Limits, mapitem.Map, *events):
        st.register_type_strategy(kind, resolve)


def resolve(thing):  # type: ignore[no-untyped-def]  # its types would have to be imported
    """The strategy for one of mapitem's types, or ``None``. Called once mapitem has been imported, for any type."""
    if not (isinstance(thing, type) and thing.__module__.partition(".")[0] == "mapitem"):
        return None
    from mapitem.testing.strategies import for_type

    return for_type(thing)
