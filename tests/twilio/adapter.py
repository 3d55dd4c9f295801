"""The public methods of ``Store`` and ``Map`` over the twilio package's own client, for whatever is driven by them.

What the REST interface lacks stays away (batches, events, merging, ``mutate``). Where it says less than the rules, a
further request tells: which of map and item is absent, what an item was before it was removed. What neither a form nor
JSON can carry, as a time to live that is text, is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

from mapitem import (
    DataTooLarge,
    InvalidBounds,
    InvalidData,
    InvalidKey,
    InvalidName,
    InvalidOrder,
    InvalidPageSize,
    InvalidPageToken,
    InvalidRevision,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    MapExists,
    MapItem,
    MapItemError,
    MapNotFound,
    Page,
    RevisionMismatch,
)

ERRORS: dict[int | None, type[MapItemError]] = {
    error.code: error
    for error in (
        *(DataTooLarge, InvalidBounds, InvalidData, InvalidKey, InvalidName, InvalidOrder, InvalidPageSize),
        *(InvalidPageToken, InvalidRevision, InvalidTTL, ItemExists, MapExists, RevisionMismatch),
    )
}
ERRORS[54206] = InvalidData  # Data that is null, or missing
ABSENT = 20404
_ANY = object()


def refusal(error: TwilioException) -> int | None:
    """The code of an error; for lists, for which the client raises an untyped one, that of the response."""
    if isinstance(error, TwilioRestException):
        return error.code
    return int(json.loads(error.args[1].text)["code"])


def segment(text: object, error: type[MapItemError]) -> str:
    """A key or name as it may stand in a URL. An empty one cannot: the request would be another."""
    if type(text) is not str or not text:
        raise error(f"{text!r} is none")
    return quote(sendable(text, error), safe="")


def sendable(text: object, error: type[MapItemError]) -> str:
    try:
        assert type(text) is str
        text.encode()
    except (AssertionError, UnicodeEncodeError):
        raise error(f"{text!r} is no text that UTF-8 can hold") from None
    return text


def seconds(ttl: object) -> object:
    if isinstance(ttl, timedelta):
        ttl = ttl // timedelta(seconds=1) if ttl % timedelta(seconds=1) == timedelta(0) else ttl.total_seconds()
    if isinstance(ttl, str):
        raise InvalidTTL("text is no time to live")
    return ttl


def packed(data: object) -> str:
    try:
        return json.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidData(str(error)) from None


def condition(if_match: object) -> str:
    # A header loses the space around it, and to the service -1 means "absent".
    if type(if_match) is not str or if_match in ("", "-1") or if_match != if_match.strip() or not if_match.isascii():
        raise InvalidRevision(f"{if_match!r} is no revision")
    return if_match


class ClientStore:
    """``Store``, through a client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.maps_resource = client.sync.v1.services("default").sync_maps

    def map(self, name: str, *, ttl: Any = None) -> ClientMap:
        try:
            return self.create_map(sendable(name, InvalidName), ttl=ttl)
        except MapExists:
            return self.open_map(name)

    def create_map(self, name: str | None = None, *, ttl: Any = None) -> ClientMap:
        if name is not None:
            sendable(name, InvalidName)
        try:
            given = {} if name is None else {"unique_name": name}
            return ClientMap(self, self.maps_resource.create(**given, ttl=seconds(ttl)))
        except TwilioException as error:
            raise ERRORS[refusal(error)](str(error)) from error

    def open_map(self, name_or_sid: str) -> ClientMap:
        try:
            return ClientMap(self, self.maps_resource(segment(name_or_sid, InvalidName)).fetch())
        except TwilioException as error:
            if refusal(error) == ABSENT:
                by_name = not name_or_sid.startswith("MP")
                raise MapNotFound(str(error), name=name_or_sid, by_name=by_name) from error
            raise ERRORS[refusal(error)](str(error)) from error

    def maps(self) -> Iterator[ClientMap]:
        return iter([ClientMap(self, each) for each in self.maps_resource.list()])


class ClientMap:
    """``Map``, through a client: bound to the map's sid."""

    def __init__(self, store: ClientStore, instance: Any) -> None:
        self._store = store
        self.sid: str = instance.sid
        self.name: str | None = instance.unique_name
        self._map = store.maps_resource(self.sid)

    def __repr__(self) -> str:
        return f"<ClientMap {self.name!r} {self.sid}>"

    # ------------------------------------------------------------ what the map is

    def _fetched(self) -> Any:
        try:
            return self._map.fetch()
        except TwilioRestException as error:
            raise MapNotFound(str(error), name=self.sid) from error

    @property
    def revision(self) -> str:
        return str(self._fetched().revision)

    @property
    def date_created(self) -> datetime:
        date: datetime = self._fetched().date_created
        return date

    @property
    def date_updated(self) -> datetime:
        date: datetime = self._fetched().date_updated
        return date

    @property
    def date_expires(self) -> datetime | None:
        date: datetime | None = self._fetched().date_expires
        return date

    @property
    def created_by(self) -> str:
        return str(self._fetched().created_by)

    def _told(self, error: TwilioException, key: str = "") -> MapItemError:
        """The error of the rules that the client's stands for."""
        code = refusal(error)
        if code == ABSENT:
            self._fetched()
            return ItemNotFound(str(error), key=key)
        return ERRORS[code](str(error))

    # ------------------------------------------------------------ writing

    def create(self, key: str, data: Any, *, ttl: Any = None, collection_ttl: Any = None) -> MapItem:
        sendable(key, InvalidKey)
        try:
            created = self._map.sync_map_items.create(
                key=key, data=packed(data), item_ttl=seconds(ttl), collection_ttl=seconds(collection_ttl)
            )
        except TwilioException as error:
            raise self._told(error, key) from error
        return item_of(created)

    def set(self, key: str, data: Any, *, ttl: Any = None, collection_ttl: Any = None, if_match: Any = _ANY) -> MapItem:
        if if_match is None:
            if_match = _ANY
        segment(key, InvalidKey)
        given = {"data": packed(data), "item_ttl": seconds(ttl), "collection_ttl": seconds(collection_ttl)}
        while if_match is _ANY:
            try:
                return self.create(key, data, ttl=ttl, collection_ttl=collection_ttl)
            except ItemExists:
                try:
                    return self._update(key, given, None)
                except ItemNotFound:
                    continue  # somebody removed it in between
        return self._update(key, given, condition(if_match))

    def set_item_ttl(self, key: str, ttl: Any, *, if_match: str | None = None) -> MapItem:
        segment(key, InvalidKey)
        if ttl is None:
            raise InvalidTTL("ttl must be given")
        return self._update(key, {"item_ttl": seconds(ttl)}, None if if_match is None else condition(if_match))

    def _update(self, key: str, given: dict[str, Any], if_match: str | None) -> MapItem:
        given = {name: value for name, value in given.items() if value is not None}
        if if_match is not None:
            given["if_match"] = if_match
        try:
            return item_of(self._map.sync_map_items(segment(key, InvalidKey)).update(**given))
        except TwilioException as error:
            raise self._told(error, key) from error

    def remove(self, key: str, *, if_match: str | None = None) -> MapItem:
        wanted = None if if_match is None else condition(if_match)
        while True:
            try:
                before = self._map.sync_map_items(segment(key, InvalidKey)).fetch()
            except TwilioRestException as error:
                before = None
                if error.status != 404:
                    raise self._told(error, key) from error
            if_match = before.revision if before is not None and wanted in (None, "*") else wanted
            try:
                self._delete(key, if_match)
            except RevisionMismatch:
                if wanted in (None, "*"):
                    continue  # somebody wrote it in between
                raise
            return item_of(before)

    def _delete(self, key: str, if_match: str | None) -> None:
        # Past the client's own delete(if_match=…), which sends no condition.
        domain = self._store.client.sync
        url = domain.absolute_url(f"v1/Services/default/Maps/{self.sid}/Items/{segment(key, InvalidKey)}")
        response = domain.twilio.request("DELETE", url, headers={} if if_match is None else {"If-Match": if_match})
        if response.status_code != 204:
            body = json.loads(response.text)
            raise self._told(TwilioRestException(response.status_code, url, body["message"], body["code"]), key)

    def set_ttl(self, ttl: Any) -> None:
        if ttl is None:
            raise InvalidTTL("ttl must be given")
        try:
            self._map.update(ttl=seconds(ttl))
        except TwilioException as error:
            raise self._told(error) from error

    def remove_map(self) -> None:
        try:
            self._map.delete()
        except TwilioException as error:
            raise self._told(error) from error

    # ------------------------------------------------------------ reading

    def __getitem__(self, key: str) -> MapItem:
        try:
            return item_of(self._map.sync_map_items(segment(key, InvalidKey)).fetch())
        except TwilioException as error:
            raise self._told(error, key) from error

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except ItemNotFound:
            return default

    def __contains__(self, key: object) -> bool:
        try:
            return self.get(key) is not None  # type: ignore[arg-type]
        except InvalidKey:
            self._fetched()
            return False

    def __len__(self) -> int:
        return len(list(self.range()))

    def __bool__(self) -> bool:
        return self.page(page_size=1).items != ()

    def __iter__(self) -> Iterator[str]:
        return iter([item.key for item in self.range()])

    def __reversed__(self) -> Iterator[str]:
        return iter([item.key for item in self.range(order="desc")])

    def range(
        self, from_: Any = None, *, bounds: Any = "inclusive", order: Any = "asc", limit: Any = None
    ) -> Iterator[MapItem]:
        given = self._listing(from_, bounds, order)
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ValueError("limit must be a whole number of at least 0")
        try:
            found = [item_of(each) for each in self._map.sync_map_items.list(**given, limit=limit, page_size=100)]
        except TwilioException as error:
            raise self._told(error) from error
        # To the client, a limit of 0 is none.
        return iter(found[:limit] if limit is not None else found)

    @staticmethod
    def _listing(from_: Any, bounds: Any, order: Any) -> dict[str, Any]:
        given = {"bounds": str(bounds), "order": str(order)}
        return given if from_ is None else given | {"from_": sendable(from_, InvalidKey)}

    def page(
        self,
        *,
        page_size: Any = 50,
        from_: Any = None,
        bounds: Any = "inclusive",
        order: Any = "asc",
        page_token: Any = None,
    ) -> Page:
        if type(page_size) is not int:
            raise InvalidPageSize("page_size must be a whole number")
        given = {} if page_token is not None else self._listing(from_, bounds, order)
        if page_token is not None:
            # The service takes the rest of a listing beside a token, and does not look at it.
            if (from_, bounds, order) != (None, "inclusive", "asc"):
                raise InvalidPageToken("a page token carries its listing")
            given["page_token"] = sendable(page_token, InvalidPageToken)
        try:
            page = self._map.sync_map_items.page(**given, page_size=page_size)
            items = tuple(map(item_of, page))
        except TwilioException as error:
            raise self._told(error) from error
        return Page(items, token_of(page.next_page_url), token_of(page.previous_page_url))


def item_of(instance: Any) -> MapItem:
    return MapItem(
        key=instance.key,
        data=instance.data,
        revision=instance.revision,
        date_created=instance.date_created,
        date_updated=instance.date_updated,
        date_expires=instance.date_expires,
        created_by=instance.created_by,
    )


def token_of(url: str | None) -> str | None:
    return None if url is None else parse_qs(urlsplit(url).query)["PageToken"][0]
