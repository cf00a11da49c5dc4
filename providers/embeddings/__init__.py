"""Text to vectors: on this machine, or by OpenAI and servers that speak its protocol.

- `registry`: the embedders of the process by name, as `settings` reads them from `[embeddings.<name>]`;
- `embedder`: what all of them promise. `vectors`: of texts without content, and of length 1;
- `memo`: remembers vectors, and asks once for what is asked at the same time;
- `wordllama`, `minilm`: computed on this machine;
- `remote`: asked over HTTP, in batches, with retries.
"""

from __future__ import annotations

from superstep.providers.embeddings.embedder import Embedder
from superstep.providers.embeddings.registry import configure_embeddings, configure_embeddings_by_default, embedder

__all__ = ["Embedder", "configure_embeddings", "configure_embeddings_by_default", "embedder"]
