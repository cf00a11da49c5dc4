"""The webhook: signed, to public addresses only, never redirected."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from superstep.checkpointer import current_step
from superstep.checkpointer.effects.handlers import handler_of
from superstep.checkpointer.effects.webhook import _is_public
from superstep.effects import Effect, GiveUp, verify_webhook, webhook
from superstep.runtime.faults import ConfigError
from tests.support.effects import become, outbox, working
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver

SECRET = "whsec_" + base64.b64encode(b"a secret of enough bytes").decode()
EFFECT = Effect("e1" * 16, "hook", {"cents": 5, "to": "ä"}, "acc-1", "t-1", 2)


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    with HTTPServer() as server:
        yield server


async def deliver(url: str, **more: Any) -> None:
    webhook("hook", url, **{"secret": SECRET, "allow_http": True, "allow_private": True, **more})
    made = handler_of("hook")
    assert made is not None
    await made.deliver(EFFECT)


def request_of(receiver: HTTPServer) -> Request:
    ((request, _),) = receiver.log
    return request


async def test_what_is_posted_is_signed(receiver: HTTPServer) -> None:
    receiver.expect_request("/in", method="POST").respond_with_data(status=204)
    await deliver(receiver.url_for("/in"))
    request = request_of(receiver)
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert request.get_json() == {
        "type": "hook", "id": EFFECT.id, "key": "acc-1", "thread_id": "t-1", "data": {"cents": 5, "to": "ä"},
    }  # fmt: skip
    assert headers["webhook-id"] == EFFECT.id
    assert verify_webhook(SECRET, headers, request.data)
    assert not verify_webhook(SECRET, headers, request.data + b" ")
    assert not verify_webhook(SECRET, {**headers, "webhook-id": "other"}, request.data)
    assert not verify_webhook("A" * 32, headers, request.data)
    old = str(int(time.time()) - 301)
    assert not verify_webhook(SECRET, {**headers, "webhook-timestamp": old}, request.data)
    for odd in ("9" * 400, "9" * 5000, "-1", "1e9", ""):
        assert not verify_webhook(SECRET, {**headers, "webhook-timestamp": odd}, request.data)
    assert not verify_webhook(SECRET, {}, request.data)


async def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verify_webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers, b'{"test": 2432232314}', tolerance=1e12)


async def test_a_redirect_is_a_failure(receiver: HTTPServer) -> None:
    receiver.expect_request("/in").respond_with_response(Response(status=307, headers={"Location": "/else"}))
    receiver.expect_request("/else").respond_with_data("taken")
    with pytest.raises(Exception, match="answered 307"):
        await deliver(receiver.url_for("/in"))
    assert [request.path for request, _ in receiver.log] == ["/in"]


async def test_gone_is_given_up_at_once(receiver: HTTPServer) -> None:
    receiver.expect_request("/in").respond_with_data(status=410)
    with pytest.raises(GiveUp):
        await deliver(receiver.url_for("/in"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "169.254.169.254", "10.1.2.3", "0.0.0.0"]
)
async def test_addresses_that_are_not_public_are_refused(receiver: HTTPServer, host: str) -> None:
    receiver.expect_request("/in").respond_with_data("taken")
    with pytest.raises(GiveUp, match="not public"):
        await deliver(f"http://{host}:{receiver.port}/in", allow_private=False)
    assert receiver.log == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True), ("::ffff:93.184.215.14", True),
        ("::ffff:10.0.0.1", False), ("::ffff:127.0.0.1", False), ("64:ff9b::a00:1", False), ("2002:7f00:1::", False),
        ("224.0.0.1", False), ("ff02::1", False), ("100.64.0.1", False), ("192.168.0.1", False), ("fe80::1", False),
        ("fd00::1", False), ("::", False), ("255.255.255.255", False), ("::127.0.0.1", False), ("fec0::1", False),
        ("::ffff:0:127.0.0.1", False), ("64:ff9b:1::7f00:1", False),
    ],
)  # fmt: skip
def test_what_is_public(address: str, public: bool) -> None:
    import ipaddress

    assert _is_public(ipaddress.ip_address(address)) is public


class Names:
    """A resolver that gives other addresses each time it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self, raising=False)

    async def __call__(self, host: Any, port: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.replace(".", "").isdigit():
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port))]
        self.asked.append(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self._answers.pop(0), port))]


async def test_the_connection_is_made_to_the_address_that_was_checked(
    receiver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once: what it would say the second time is never asked for."""
    names = Names(monkeypatch, "127.0.0.1", "192.0.2.1")
    receiver.expect_request("/in").respond_with_data("taken")
    await deliver(f"http://hooks.example:{receiver.port}/in")
    assert names.asked == ["hooks.example"]
    assert request_of(receiver).headers["Host"] == f"hooks.example:{receiver.port}"


async def test_certificates_are_checked_against_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    ca = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.configure_trust(ours)
    ca.issue_cert("hooks.example").configure_cert(theirs)
    with HTTPServer(ssl_context=theirs) as receiver:
        receiver.expect_request("/in").respond_with_data("taken")
        Names(monkeypatch, "127.0.0.1", "127.0.0.1")
        await deliver(f"https://hooks.example:{receiver.port}/in", verify=ours, allow_http=False)
        assert len(receiver.log) == 1
        with pytest.raises(Exception, match="certificate verify failed"):
            await deliver_to_another_name(receiver, ours)
        assert len(receiver.log) == 1


async def deliver_to_another_name(receiver: HTTPServer, trust: Any) -> None:
    await deliver(f"https://other.example:{receiver.port}/in", verify=trust)


async def test_an_effect_of_a_flow_arrives_and_the_secret_is_told_nowhere(
    saver: TransactionalSaver,
    thread: RunnableConfig,
    receiver: HTTPServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    receiver.expect_ordered_request("/in").respond_with_data(status=500)
    receiver.expect_ordered_request("/in").respond_with_data("taken")
    webhook(
        "hook", receiver.url_for("/in"), secret_env="HOOK_SECRET", allow_http=True, allow_private=True, backoff=0.001
    )

    async def emits(_: Any) -> Any:
        current_step().emit("hook", {"n": 1})
        return {}

    async with working(saver):
        await chain(saver, emits).ainvoke({}, thread)
        await become(saver, "delivered")
    (stored,) = await outbox(saver)
    assert stored.attempts == 2
    assert [request.headers["webhook-id"] for request, _ in receiver.log] == [stored.id] * 2
    key = SECRET.removeprefix("whsec_")
    assert key not in caplog.text
    assert key not in repr(handler_of("hook"))


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://example.org/in", {"allow_http": False}), ("ftp://example.org", {}), ("https:///in", {}),
        ("https://u:p@example.org/in", {}), ("https://example.org/in", {"secret": "short"}),
        ("https://example.org/in", {"secret": None}), ("https://example.org/in", {"secret_env": "X"}),
        ("https://example.org/in", {"secret": "!" * 40}),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_when_it_is_declared(url: str, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        webhook("hook", url, **{"secret": SECRET, "allow_http": True, **more})
    assert "p@" not in str(refused.value)


async def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_SECRET"):
        await deliver("https://example.org/in", secret=None, secret_env="NO_SUCH_SECRET")
