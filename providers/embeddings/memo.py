"""Texts embedded once: a bounded memory in front of any embedder."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import OrderedDict
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING

from superstep.providers.embeddings.vectors import blank

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from superstep.providers.embeddings.embedder import Embedder

__all__ = ["MemoisedEmbedder"]

# Texts. At 1,536 dimensions they take 25 MB.
LIMIT = 2048


class MemoisedEmbedder:
    """Asks another embedder only for what it does not know, and only once for what is asked at the same time.

    So a super-step that runs again, because its facts have moved or its node raised, pays for no embedding twice, and
    searches with the very same vector: providers' vectors for one text differ in their last bits from call to call.
    The memory is the process's; it holds the last 2,048 texts. Safe to share by threads and event loops.
    """

    def __init__(self, inner: Embedder, *, batch_size: int = 128) -> None:
        """`inner` gets no more than `batch_size` texts in one call."""
        self._inner = inner
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._known: OrderedDict[str, array[float]] = OrderedDict()  # 8 bytes a number; a list takes 32
        self._in_flight: dict[str, Future[array[float] | None]] = {}

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._inner.dimensions

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector for each text, in order.

        A text without any content (empty, blank) has the fixed vector (1, 0, 0, …) and is not sent anywhere.

        Raises:
            ProviderExhausted: The provider did not answer, see `providers.embeddings.remote`.
            ProviderUnavailable: A package, its weights or the key are missing.
            ConfigError: The vectors have other dimensions than configured.
        """
        found: dict[str, Sequence[float]] = {text: blank(self.dimensions) for text in texts if not text.strip()}
        while missing := [text for text in dict.fromkeys(texts) if text not in found]:
            found.update(await self._found(missing))
        return [list(found[text]) for text in texts]

    async def _found(self, texts: list[str]) -> dict[str, array[float]]:
        """The vectors of these texts, less those that another caller was asking for and gave up."""
        found: dict[str, array[float]] = {}
        mine: dict[str, Future[array[float] | None]] = {}
        others: dict[str, Future[array[float] | None]] = {}
        with self._lock:
            for text in texts:
                if text in self._known:
                    self._known.move_to_end(text)
                    found[text] = self._known[text]
                elif text in self._in_flight:
                    others[text] = self._in_flight[text]
                else:
                    mine[text] = self._in_flight[text] = _uncancellable()
        if mine:
            found.update(await self._ask(mine))
        for text, future in others.items():
            vector = await asyncio.wrap_future(future)
            if vector is not None:
                found[text] = vector
        return found

    async def _ask(self, mine: dict[str, Future[array[float] | None]]) -> dict[str, array[float]]:
        """Batch by batch, each kept as soon as it is there: a later one may fail."""
        found: dict[str, array[float]] = {}
        open_ = dict(mine)
        try:
            while open_:
                batch = list(islice(open_, self._batch_size))
                answer = await self._inner.embed(batch)
                vectors = {text: array("d", vector) for text, vector in zip(batch, answer, strict=True)}
                self._answered(batch, vectors)
                for text in batch:
                    open_.pop(text).set_result(vectors[text])
                found.update(vectors)
        except Exception as error:
            self._answered(open_, {})
            for future in open_.values():
                future.set_exception(error)
            raise
        except BaseException:
            self._answered(open_, {})
            for future in open_.values():
                future.set_result(None)  # this caller was cancelled; those that wait ask again
            raise
        return found

    def _answered(self, mine: Iterable[str], vectors: dict[str, array[float]]) -> None:
        with self._lock:
            for text in mine:
                del self._in_flight[text]
            self._known.update(vectors)
            while len(self._known) > LIMIT:
                self._known.popitem(last=False)


def _uncancellable() -> Future[array[float] | None]:
    """A future that no single waiter's cancellation cancels for the others."""
    future: Future[array[float] | None] = Future()
    future.set_running_or_notify_cancel()
    return future
