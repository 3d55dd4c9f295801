"""The rivals in memory: cachetools, and Redis as a server of its own and as the double that tests use."""

from __future__ import annotations

import shutil
import subprocess
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from msgpack import packb, unpackb

from benchmarks.engines.base import BATCH, Data, Engine, Skip, batches


class TTLCache(Engine):
    """cachetools.TTLCache of packed bytes, large enough for everything; no order."""

    packages = ("cachetools",)

    def open(self) -> None:
        import cachetools

        self.cache: Any = cachetools.TTLCache(maxsize=10**9, ttl=86_400, timer=lambda: self.now())
        if self.now is time.time:
            self.cache = cachetools.TTLCache(maxsize=10**9, ttl=86_400, timer=time.time)

    def put(self, key: str, data: Data) -> None:
        self.cache[key] = packb(data)

    def get(self, key: str) -> Data | None:
        packed = self.cache.get(key)
        return None if packed is None else unpackb(packed)

    def peek(self, key: str) -> object:
        return self.cache.get(key)

    def has(self, key: str) -> bool:
        return key in self.cache

    def delete(self, key: str) -> None:
        del self.cache[key]

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        self.cache.update((key, packb(data)) for key, data in pairs)

    def put_timed(self, key: str, data: Data, ttl: int) -> None:
        assert ttl == 86_400, "a TTLCache has one time to live"
        self.cache[key] = packb(data)

    def reap(self) -> object:
        return self.cache.expire()


class RedisClient(Engine):
    """A hash of data and a sorted set of keys, by redis-py's calls."""

    @abstractmethod
    def connect(self) -> Any:
        """A client."""

    def open(self) -> None:
        self.client = self.connect()

    def close(self) -> None:
        self.client.close()

    def put(self, key: str, data: Data) -> None:
        pipe = self.client.pipeline()
        pipe.hset("data", key, packb(data)).zadd("keys", {key: 0}).execute()

    def get(self, key: str) -> Data | None:
        packed = self.client.hget("data", key)
        return None if packed is None else unpackb(packed)

    def peek(self, key: str) -> object:
        return self.client.hget("data", key)

    def has(self, key: str) -> bool:
        return bool(self.client.hexists("data", key))

    def delete(self, key: str) -> None:
        self.client.pipeline().hdel("data", key).zrem("keys", key).execute()

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        for some in batches(pairs):
            pipe = self.client.pipeline()
            pipe.hset("data", mapping={key: packb(data) for key, data in some})
            pipe.zadd("keys", {key: 0 for key, _ in some}).execute()

    def _pairs(self, keys: list[bytes]) -> list[tuple[str, Data]]:
        if not keys:
            return []
        rows = self.client.hmget("data", keys)
        return [(key.decode(), unpackb(packed)) for key, packed in zip(keys, rows, strict=True)]

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        return self._pairs(self.client.zrangebylex("keys", f"[{start}", "+", 0, count))

    def range_down(self, start: str, count: int) -> list[tuple[str, Data]]:
        return self._pairs(self.client.zrevrangebylex("keys", f"[{start}", "-", 0, count))

    def range_keys(self, start: str, count: int) -> list[Any]:
        return [key.decode() for key in self.client.zrangebylex("keys", f"[{start}", "+", 0, count)]

    def scan(self) -> Iterator[tuple[str, Data]]:
        place = "-"
        while keys := self.client.zrangebylex("keys", place, "+", 0, BATCH):
            yield from self._pairs(keys)
            place = f"({keys[-1].decode()}"


class Redis(RedisClient):
    """A server over a unix socket, with hiredis; nothing is persisted."""

    packages = ("redis",)
    durability = "the server's memory"
    clock = "wall"

    @classmethod
    def version(cls) -> str:
        if shutil.which("redis-server") is None:
            raise Skip("no redis-server on the path")
        return super().version()

    def connect(self) -> Any:
        import redis

        socket = self.folder / "redis.sock"
        self.server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        client = redis.Redis(unix_socket_path=str(socket))
        for _ in range(200):
            try:
                client.ping()
                return client
            except redis.ConnectionError:
                time.sleep(0.02)
        raise Skip("redis-server did not answer")

    def close(self) -> None:
        super().close()
        self.server.terminate()
        self.server.wait()


class FakeRedis(RedisClient):
    """The same calls to fakeredis, in the process."""

    packages = ("fakeredis",)

    def connect(self) -> Any:
        import fakeredis

        return fakeredis.FakeRedis()
