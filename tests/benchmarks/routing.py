"""What routing costs: a routed call beside the bare model, and LiteLLM's Router beside the bare SDK, call by call.

All ask one server, which is another process, in turn. LiteLLM lives in an environment of its own, so that its
dependencies do not decide ours, and is told over a pipe to make one call at a time, which it times itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from importlib.metadata import distributions, version
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from langchain_openai import ChatOpenAI
from packaging.requirements import Requirement

from superstep.providers import RoutedChatModel
from superstep.providers.catalog.parse import parse_models
from superstep.providers.chat.service import Service
from tests.benchmarks import litellm_side
from tests.benchmarks.peers import environment
from tests.benchmarks.section import Section
from tests.benchmarks.tables import rotated, table
from tests.support.vendors import vendor_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.benchmarks.setting import Place

    Timed = tuple[float, float]  # milliseconds until the answer, milliseconds of CPU in all
    Contender = Callable[[], Awaitable[Timed]]

__all__ = ["run"]

LITELLM = "1.109.1"  # pinned: 1.107.0 was a compromised release

BARE, ROUTED = "ChatOpenAI", "routed"
SDK, ROUTER = "openai SDK", "LiteLLM Router"
PAIRS = ((ROUTED, BARE), (ROUTER, SDK))


async def run(place: Place) -> Section:
    """The section."""
    calls = place.size(1000, 20)
    python = environment(f"litellm-{LITELLM}", _install_litellm)
    with vendor_process("--keep-alive", "--quiet") as vendor:
        async with _ours(vendor.openai_url) as ours, _theirs(python, vendor.openai_url) as theirs:
            ms, cpu = await _measure({**ours, **theirs}, calls)
    return Section(_section(ms, cpu, calls))


async def _measure(
    contenders: dict[str, Contender], calls: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    ms: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    warming = max(10, calls // 10)
    for turn in range(-warming, calls):
        for name in rotated(list(contenders), turn):
            took, worked = await contenders[name]()
            if turn >= 0:
                ms[name].append(took)
                cpu[name].append(worked)
    return ms, cpu


def _section(ms: dict[str, list[float]], cpu: dict[str, list[float]], calls: int) -> str:
    over = {
        name: (
            median(a - b for a, b in zip(ms[name], ms[bare], strict=True)),
            _p95(ms[name]) - _p95(ms[bare]),
            median(cpu[name]) - median(cpu[bare]),
        )
        for name, bare in PAIRS
    }
    rows = [
        [name, median(ms[name]), _p95(ms[name]), median(cpu[name]), *(over.get(name) or ("", "", ""))]
        for pair in PAIRS
        for name in reversed(pair)
    ]
    head = ["call", "ms, p50", "p95", "CPU ms", "over its bare call: ms, p50", "p95", "CPU ms"]
    return (
        f"## Routing\n\n{calls:,} calls each, one at a time, the contenders in turn, outside any super-step, against "
        f"one server on loopback that answers at once. A route of two deployments; LiteLLM {LITELLM} with its "
        f"defaults, on the same openai SDK ({version('openai')}). Over its bare call: p50 is the median of the "
        f"differences of neighbouring calls, p95 the difference of both p95. CPU is that of the calling process, with "
        f"what it does after the answer. Routed / LiteLLM: {over[ROUTED][0] / over[ROUTER][0]:.2f} of the time over "
        f"the bare call, {over[ROUTED][2] / over[ROUTER][2]:.2f} of the CPU.\n\n" + table(head, rows)
    )


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


@asynccontextmanager
async def _ours(url: str) -> AsyncIterator[dict[str, Contender]]:
    model = litellm_side.MODEL
    deployment = {"provider": "openai-compatible", "model": model, "base_url": url}
    tables = {"fast": {"deployments": [deployment, deployment]}}
    service = Service(parse_models(tables, {}, {}, place=lambda path: ".".join(map(str, path))))
    routed = RoutedChatModel(route="fast", service=service)
    bare = ChatOpenAI(model=model, api_key="none", base_url=url, max_retries=0)

    def contender(asked: Any) -> Contender:
        async def call() -> Timed:
            cpu, began = time.process_time(), time.perf_counter()
            answer = await asked.ainvoke(litellm_side.MESSAGES)
            ms = (time.perf_counter() - began) * 1000
            assert answer.text == "pong"
            await asyncio.sleep(litellm_side.SETTLING)
            return ms, (time.process_time() - cpu) * 1000

        return call

    try:
        yield {BARE: contender(bare), ROUTED: contender(routed)}
    finally:
        await service.clients.aclose()


@asynccontextmanager
async def _theirs(python: Path, url: str) -> AsyncIterator[dict[str, Contender]]:
    side = await asyncio.create_subprocess_exec(
        python,
        litellm_side.__file__,
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert side.stdin is not None
    assert side.stdout is not None
    asked, said = side.stdin, side.stdout

    def contender(name: str) -> Contender:
        async def call() -> Timed:
            asked.write(f"{name}\n".encode())
            ms, cpu = json.loads(await said.readline())
            return ms, cpu

        return call

    try:
        yield {SDK: contender("bare"), ROUTER: contender("router")}
    finally:
        asked.close()
        await side.wait()


def _install_litellm(pip: Callable[..., object], site: Path) -> None:
    """With its own requirements, less certifi: it wants one that not every index has yet, and nothing speaks TLS."""
    pip("--no-deps", f"litellm=={LITELLM}")
    [found] = distributions(name="litellm", path=[str(site)])
    needed = [each for each in map(Requirement, found.requires or ()) if each.name not in ("certifi", "openai")]
    wanted = [
        str(each).partition(";")[0] for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})
    ]
    pip(*wanted, "certifi", f"openai=={version('openai')}")
