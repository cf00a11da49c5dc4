"""`Prompt`: one version of a prompt, as a LangChain runnable that turns variables into messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import Runnable

from superstep.prompts.model.content import REQUIRED, Content
from superstep.prompts.model.variables import bind
from superstep.prompts.rendering.templates import Piece, sandbox, template, what_failed
from superstep.runtime.faults import PromptInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2 import Template
    from langchain_core.runnables import RunnableConfig

    from superstep.prompts.model.content import Message

__all__ = ["Prompt", "VersionedPromptValue", "load_prompt"]

_SPEAKERS: Mapping[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


class VersionedPromptValue(ChatPromptValue):
    """Rendered messages that know where they come from.

    Attributes:
        prompt: `NAME@VERSION`, for the records of the call they are used in.
    """

    prompt: str

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """No: LangChain's loader would make its own class of it, without the version."""
        return False


class Prompt(Runnable[Mapping[str, Any], VersionedPromptValue]):
    """One version of a prompt. It never changes, and may be shared by threads.

    `invoke` and `ainvoke` take a mapping of the declared variables and return a `VersionedPromptValue`, so
    `prompt | model` works. Values of variables are printed into the templates, never parsed as templates, whatever they
    contain. Equal values give equal messages: mappings are printed, and iterated over, in the order of their keys.

    Attributes:
        name: of the prompt.
        version: its number.
        digest: SHA-256 of the content, hexadecimal.
        content: what it says.
        description: for people; empty for a prompt that was read in a super-step, which reads only what can matter.
        title: `NAME@VERSION`.
    """

    name: str

    def __init__(self, name: str, version: int, content: Content, *, digest: str = "", description: str = "") -> None:
        """Compile the templates.

        Args:
            name: of the prompt.
            version: its number.
            content: what it says.
            digest: of the content, if it is known already.
            description: for people.

        Raises:
            PromptInvalid: A template does not compile.
        """
        self.name = name
        self.version = version
        self.content = content
        self.digest = digest or content.digest
        self.description = description
        self.title = f"{name}@{version}"
        engine = sandbox()

        def compiled(text: str, part: str) -> Template:
            return template(engine, Piece(text, f"Prompt {self.title}", part), self._included)

        self._spoken = [(each, compiled(each.content, each.role)) for each in content.messages]
        self._shown = [(compiled(each.input, "example"), compiled(each.output, "example")) for each in content.examples]

    def _included(self, name: str) -> Piece | None:
        text = self.content.includes.get(name)
        return None if text is None else Piece(text, f"Prompt {self.title}", name)

    @property
    def route(self) -> str | None:
        """The model route that this version is meant for, if any: `chat_model(prompt.route or "fast")`."""
        return self.content.route

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Arguments for the model, read-only: `model.bind(**prompt.parameters)`."""
        return MappingProxyType(dict(self.content.parameters))

    @property
    def input_variables(self) -> list[str]:
        """Names of the variables that must be given, in order."""
        return sorted(name for name, each in self.content.variables.items() if each.default is REQUIRED)

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """What traces call a use of it.

        Not its bare name: LangGraph takes a run that is called like its node for the node itself, and would stream the
        rendered messages as the node's output.
        """
        return super().get_name(suffix, name=name or self.title)

    def invoke(
        self,
        input: Mapping[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> VersionedPromptValue:
        """Render.

        Args:
            input: The variables by name; those with a default may be left out.
            config: LangChain's.
            **kwargs: ignored, as LangChain's own prompts do.

        Raises:
            PromptInvalid: Variables are missing, unexpected or of the wrong type (all of them are named), or a template
                fails on them. No value is shown.
        """
        return self._call_with_config(self._render, input, config, run_type="prompt")

    async def ainvoke(
        self,
        input: Mapping[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> VersionedPromptValue:
        """See `invoke`."""
        return await self._acall_with_config(self._arender, input, config, run_type="prompt")

    async def _arender(self, given: Mapping[str, Any]) -> VersionedPromptValue:
        return self._render(given)

    def _render(self, given: Mapping[str, Any]) -> VersionedPromptValue:
        if not isinstance(given, Mapping):
            raise PromptInvalid(f"Prompt {self.title} takes a mapping of its variables, not {type(given).__name__}.")
        values, problems = bind(self.content.variables, given)
        if problems:
            raise PromptInvalid(f"Prompt {self.title} cannot be rendered: {'; '.join(problems)}.")
        messages = [said for message, template in self._spoken for said in self._say(message, template, values)]
        return VersionedPromptValue(messages=messages, prompt=self.title)

    def _say(self, message: Message, template: Template, values: dict[str, Any]) -> Iterator[BaseMessage]:
        if message.role == "placeholder":
            yield from values[message.name or ""] or ()
        elif message.role == "examples":
            for at, (asked, answered) in enumerate(self._shown, start=1):
                yield HumanMessage(self._text(asked, values, f"example {at}"))
                yield AIMessage(self._text(answered, values, f"example {at}"))
        else:
            yield _SPEAKERS[message.role](self._text(template, values, f"the {message.role} message"))

    def _text(self, template: Template, values: dict[str, Any], where: str) -> str:
        try:
            return template.render(values)
        except Exception as error:  # templates can fail in any way that Python can
            raise PromptInvalid(f"Prompt {self.title}, {where}: {what_failed(error)}.") from error


@lru_cache(maxsize=512)
def load_prompt(name: str, version: int, digest: str, content: str) -> Prompt:
    """The prompt of a row of the database, compiled once for as long as it is in use.

    Args:
        name: of the prompt.
        version: its number.
        digest: of its content.
        content: as JSON text.

    Raises:
        PromptInvalid: The row is not one that `runtime prompts add` of this release makes.
    """
    return Prompt(name, version, Content.load(json.loads(content), f"{name}@{version}"), digest=digest)
