"""WordLlama: averages 256-dimensional token vectors of a large language model.

Light rather than sharp: about 0.1 ms a text on one core, good enough to rank short passages of one domain. No key, no
network, weights inside the installed package.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superstep.providers.embeddings.vectors import blank, unit
from superstep.runtime.faults import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WordLlamaEmbedder"]


class WordLlamaEmbedder:
    """Safe to share by threads and event loops. The weights (19 MB) are loaded at the first call."""

    dimensions = 256

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Any = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector for each text, in order, computed off the event loop.

        A pure function of each text: its neighbours in the call do not change a bit of it, so that a search repeated
        later sends the very same arguments. A text without any token (empty) has the fixed vector (1, 0, 0, …).

        Raises:
            ProviderUnavailable: The package `wordllama` or its weights are missing.
        """
        if not texts:
            return []
        return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[list[float]]:
        # The tokenizer's padding is set per call on a shared object, so calls take turns. They are short.
        with self._lock:
            if self._model is None:
                self._model = _load(self.dimensions)
            # One text at a time: in a batch, padding changes the order of the sums and with it the last bits.
            return [
                unit(self._model.embed([text])[0].tolist()) if text.strip() else blank(self.dimensions)
                for text in texts
            ]


def _load(dimensions: int) -> Any:
    # On import the package calls logging.basicConfig(level=INFO), which would set up the whole program's logging.
    # basicConfig does nothing when the root logger has a handler, so it gets one for that moment.
    guard = logging.NullHandler()
    logging.root.addHandler(guard)
    try:
        import wordllama

        return wordllama.WordLlama.load(
            dim=dimensions,
            cache_dir=Path(wordllama.__file__).parent,  # where the wheel keeps its weights
            disable_download=True,
        )
    except (ImportError, FileNotFoundError) as error:
        raise ProviderUnavailable(
            "The embedding model cannot be loaded: the package wordllama or its weights are missing. "
            "Install it with `pip install --force-reinstall wordllama`."
        ) from error
    finally:
        logging.root.removeHandler(guard)
