"""What vendors and servers of models say in the body of an error: their codes, and where they have none, their phrases.

Codes decide first. A phrase is the last resort, and only for two things that servers say with a status that means
something else, too long an input and a credit that is used up: without them a fallback that was configured for just
that would never be asked. A message may quote the input, so a phrase has to name the server's own figures or fields
where it can, and is looked for only where the status allows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

__all__ = ["CODES", "PHRASES", "Action", "Phrase", "code_verdict", "phrase_verdict", "words"]


class Action(Enum):
    """What to do after a failure."""

    RETRY = "retry"  # may pass: this deployment again, then another
    MOVE_ON = "move on"  # this deployment cannot; another may
    STOP = "stop"  # the request or our configuration is wrong: no other deployment is asked
    CONTEXT = "context"  # the input is too long for this model
    CONTENT = "content"  # the model refused the content


_TOO_LONG = (Action.CONTEXT, "input too long")
_REFUSED = (Action.CONTENT, "content refused")
_USED_UP = (Action.MOVE_ON, "quota used up")  # it does not come back within any pause worth waiting for

# Error codes that say more than the status they come with (400, 403 or 429).
CODES: Mapping[str, tuple[Action, str]] = {
    "context_length_exceeded": _TOO_LONG,  # OpenAI, Azure, Groq, Cerebras
    "exceed_context_size_error": _TOO_LONG,  # llama.cpp
    "model_context_window_exceeded": _TOO_LONG,  # z.ai
    "request_too_large": _TOO_LONG,  # Anthropic
    "request_body_too_large_after_decoding": _TOO_LONG,  # OpenAI
    "content_filter": _REFUSED,
    "content_policy_violation": _REFUSED,
    "insufficient_quota": _USED_UP,  # OpenAI
    "billing_hard_limit_reached": _USED_UP,
    "billing_not_active": _USED_UP,
    "billing_error": _USED_UP,  # Anthropic
    "enforced_spend_limit_reached": _USED_UP,
    "contract_spend_limit_reached": _USED_UP,
    "model_not_found": (Action.MOVE_ON, "model not found"),
}


class Phrase(NamedTuple):
    """Words of an error's message that say what no code of it does.

    Attributes:
        server: whose words.
        pattern: matched anywhere in the message, in any case.
        verdict: what they mean.
        source: where they are documented, else the file of the server that says them.
    """

    server: str
    pattern: re.Pattern[str]
    verdict: tuple[Action, str]
    source: str


def _says(server: str, pattern: str, verdict: tuple[Action, str], source: str) -> Phrase:
    return Phrase(server, re.compile(pattern, re.IGNORECASE), verdict, source)


PHRASES: tuple[Phrase, ...] = (
    _says(
        "Anthropic",
        r"prompt is too long: [\d,]+ tokens|input length and `max_tokens` exceed context limit",
        _TOO_LONG,
        "docs.anthropic.com/en/docs/build-with-claude/context-windows",
    ),
    _says("Anthropic", r"credit balance is too low", _USED_UP, "docs.anthropic.com/en/api/errors"),
    _says(
        "vLLM, DeepSeek, OpenRouter, OpenAI",
        r"maximum context length (?:is|of) [\d,]+",
        _TOO_LONG,
        "vllm/renderers/params.py; api-docs.deepseek.com; openrouter.ai/docs/api/reference/errors-and-debugging",
    ),
    _says(
        "vLLM",
        r"(?:prompt|decoder prompt) \(length [\d,]+\) is longer than the maximum model length",
        _TOO_LONG,
        "vllm/v1/engine/input_processor.py",
    ),
    _says(
        "SGLang, Together",
        r"longer than the model'?s context length|exceeds the model'?s maximum context length",
        _TOO_LONG,
        "sglang/srt/managers/tokenizer_manager.py",
    ),
    _says(
        "llama.cpp",
        r"exceeds? the available context size",
        _TOO_LONG,
        "llama.cpp/tools/server/server-context.cpp",
    ),
    # Its code for this, 3051, also says that a model takes no images.
    _says(
        "Mistral",
        r"too large for model with [\d,]+ maximum context length",
        _TOO_LONG,
        "docs.mistral.ai/resources/known-limitations",
    ),
    _says(
        "Gemini",
        r"input token count (?:\([\d,]+\) )?exceeds the maximum number of tokens",
        _TOO_LONG,
        "ai.google.dev/gemini-api/docs/troubleshooting",
    ),
    _says(
        "TGI",
        r"`?inputs`? tokens \+ `?max_new_tokens`? must be <=|`?inputs`? must have less than [\d,]+ tokens",
        _TOO_LONG,
        "text-generation-inference/router/src/validation.rs",
    ),
    _says("xAI", r"maximum prompt length is [\d,]+", _TOO_LONG, "docs.x.ai/docs/models"),
    _says("Groq", r"reduce the length of the messages", _TOO_LONG, "console.groq.com/docs/errors"),
    _says("Bedrock", r"input is too long for requested model", _TOO_LONG, "repost.aws, Bedrock validation exceptions"),
    _says("Ollama", r"prompt too long; exceeded (?:max )?context length", _TOO_LONG, "ollama/server/routes.go"),
    _says("LM Studio", r"is greater than the context length", _TOO_LONG, "lmstudio.ai/docs"),
    _says(
        "OpenAI", r"exceeds the context window of this model", _TOO_LONG, "platform.openai.com/docs/guides/error-codes"
    ),
    _says(
        "OpenRouter",
        r"insufficient credits|requires more credits|key limit exceeded",
        _USED_UP,
        "openrouter.ai/docs/api/reference/limits",
    ),
    _says("DeepSeek", r"insufficient balance", _USED_UP, "api-docs.deepseek.com/quick_start/error_codes"),
    _says(
        "xAI",
        r"used all available credits|doesn't have any credits",
        _USED_UP,
        "docs.x.ai/docs/key-information/debugging",
    ),
)

# Statuses that servers say these things under. Nobody says them with a 401, a 404 or a 503.
_VAGUE = frozenset({400, 402, 403, 413, 422, 429, 500})
_READ = 4096  # characters of a message; what quotes its input comes first with the reason


def code_verdict(error: Exception) -> tuple[Action, str] | None:
    """What the codes of an error say, if they say more than its status."""
    for word in words(error):
        if word in CODES:
            return CODES[word]
    body = _body(error)
    if isinstance(body, Mapping):
        if body.get("param") == "input_tokens":  # vLLM, whose code is the status
            return _TOO_LONG
        if _out_for_the_day(body):
            return _USED_UP
    return None


def phrase_verdict(error: Exception, status: int | None) -> tuple[Action, str] | None:
    """What the message of an error says, where `status` is too vague to tell; `None` stands for an unknown one."""
    if status is not None and status not in _VAGUE:
        return None
    message = (_message(_body(error)) or _message(vars(error)))[:_READ]
    return next((each.verdict for each in PHRASES if each.pattern.search(message)), None) if message else None


def words(error: Exception) -> list[str]:
    """Machine-readable words of an error, the most specific first; numbers as text."""
    body = _body(error)
    said = body if isinstance(body, Mapping) else {}
    found = [getattr(error, name, None) or said.get(name) for name in ("code", "error_code", "type")]
    return [str(word) for word in found if isinstance(word, str | int) and not isinstance(word, bool)]


def _body(error: Exception) -> Any:
    """The error object of a response, however its server wraps it.

    OpenAI's SDK takes `{"error": …}` off, Anthropic's leaves it on, Gemini sends a list, SGLang no wrapping and TGI
    only a text. Of an answer with status 200 that holds an error, LangChain raises the object itself.
    """
    body = getattr(error, "body", None)
    if body is None and len(error.args) == 1 and isinstance(error.args[0], Mapping):
        body = error.args[0]
    for _ in range(3):
        if isinstance(body, list) and body:
            body = body[0]
        if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping | str):
            body = body["error"]
    return body


def _message(body: Any) -> str:
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail")
    return body if isinstance(body, str) else ""


def _out_for_the_day(body: Mapping[Any, Any]) -> bool:
    """Whether it is Gemini's error of a quota that is counted by the day, not by the minute."""
    details = body.get("details")
    found = (
        [each.get("violations") for each in details if isinstance(each, Mapping)] if isinstance(details, list) else []
    )
    quotas = [quota for each in found if isinstance(each, list) for quota in each if isinstance(quota, Mapping)]
    return any("PerDay" in str(quota.get("quotaId")) for quota in quotas)
