"""LiteLLM's side of `routing`, run by path with the Python of LiteLLM's own environment: `litellm_side.py URL`.

Reads the name of a contender a line, makes one call, and answers with a JSON line: milliseconds from the request to the
answer, and milliseconds of CPU including what is done afterwards. Imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "ping"}]
SETTLING = 0.005  # seconds between two calls, for what a call leaves to be done after its answer


async def main(url: str) -> None:
    """Serve until standard input ends."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the table of prices in the package, not one from the network
    import litellm
    import openai

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    deployment = {"model": f"openai/{MODEL}", "api_key": "none", "api_base": url}
    models = [{"model_name": "fast", "litellm_params": dict(deployment)} for _ in range(2)]
    router = litellm.Router(model_list=models, num_retries=2)

    async def call(name: str) -> Any:
        if name == "bare":
            return await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        return await router.acompletion(model="fast", messages=MESSAGES)

    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        cpu, began = time.process_time(), time.perf_counter()
        answer = await call(line.decode().strip())
        ms = (time.perf_counter() - began) * 1000
        assert answer.choices[0].message.content == "pong"
        await asyncio.sleep(SETTLING)
        print(json.dumps([ms, (time.process_time() - cpu) * 1000]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
