"""Which values threads share: what they are made of, and how they are merged. Declared once in every process.

A shared value is a JSON document, stored as its text: it outlives the classes that it was made from, and every flow
that declares it can read it, whatever other state it has. The model says what the document may be after each merge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, JsonValue, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from superstep.checkpointer.shared.channel import reducer_of
from superstep.checkpointer.shared.folding import ABSENT, Reducer
from superstep.checkpointer.shared.parts import described
from superstep.runtime.faults import ConfigError, SharedOutdated, SharedUnknown, UpdateInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.checkpointer.shared.channel import ReducedChannel

__all__ = ["Shared", "declaration", "shared", "usable_place"]

_LONGEST = 1000  # bytes of a name or a key; an index holds about 2,700 of both
_SCALARS = frozenset({"decimal", "date", "time", "datetime", "timedelta", "uuid", "bytes"})
_declared: dict[str, Shared] = {}


def shared(
    name: str,
    *,
    reducer: type[ReducedChannel] | Reducer | Callable[[Any, Any], Any],
    model: Any = JsonValue,
    default: Any = ABSENT,
    version: int = 1,
    upgrade: Callable[[Any, int], Any] | None = None,
) -> Shared:
    """Declare values that all threads share, for `Step.shared` and `Step.reduce`. Do it where a module is imported.

    Declaring a name again is allowed for the same code, such as a module that is imported a second time.

    Args:
        name: what the values are called; each has a key of its own besides.
        reducer: how updates are merged: `append()`, `merge()`, … or a pure function of value and update.
        model: a pydantic model, or any type that pydantic knows. Values are read as that. What comes out of a merge is
            validated by it, and refused if it does not fit.
        default: what a value is before its first update; without one, reading it gives `None`.
        version: of the model. Raise it when stored values do not fit the model any more.
        upgrade: makes plain data of an older version, which is its second argument, data of this version. Pure.

    Raises:
        ConfigError: the name is declared otherwise, pydantic does not know the model, or the default does not fit it.
    """
    usable_place(name, "-")
    made = Shared(name, reducer_of(reducer), _adapter(name, model), version, upgrade, _named(model))
    if default is not ABSENT:
        try:
            made.default = made.text_of(default)
        except (ValidationError, PydanticSerializationError) as e:
            raise ConfigError(f"The default of shared value {name!r} does not fit its model {made.model}: {e}") from e
    known = _declared.get(name)
    if known is not None and known.said != made.said:
        raise ConfigError(
            f"Shared value {name!r} is declared twice, and not alike: {known.said} and {made.said}. Declare it once, "
            f"in a module that both import."
        )
    _declared[name] = made
    return made


def declaration(name: str) -> Shared:
    """What was declared by a name.

    Raises:
        SharedUnknown: nothing.
    """
    if name not in _declared:
        there = ", ".join(map(repr, sorted(_declared))) or "none"
        raise SharedUnknown(
            f"No shared value {name!r} is declared in this process (declared: {there}). Call shared({name!r}, "
            f"reducer=…) in a module that every process imports that runs the graph."
        )
    return _declared[name]


@dataclass(slots=True)
class Shared:
    """A declaration.

    Attributes:
        name: of the values.
        reducer: merges updates.
        adapter: pydantic's, of the model.
        version: of the model.
        upgrade: see `shared`.
        model: its name.
        default: the document that a value is before its first update, if any.
    """

    name: str
    reducer: Reducer
    adapter: TypeAdapter[Any]
    version: int
    upgrade: Callable[[Any, int], Any] | None
    model: str
    default: str | None = None

    @property
    def said(self) -> tuple[Any, ...]:
        """What was declared, equal for the same code."""
        upgrade = None if self.upgrade is None else described(self.upgrade)
        return str(self.reducer), self.model, self.default, self.version, upgrade

    def place(self, key: str) -> str:
        """What errors call a value."""
        return f"shared value {self.name!r} of key {key!r}"

    # -- updates -------------------------------------------------------------------------------------------------

    def update(self, key: str, update: Any) -> str:
        """The document of an update, as far as it can be told to be a good one before it is merged.

        Raises:
            UpdateInvalid: it cannot be merged, or the model refuses it, whatever the value is.
            ConfigError: name or key cannot be one.
        """
        usable_place(self.name, key)
        try:
            text = self._text_of_update(update)
        except PydanticSerializationError as e:
            raise self.refused(key, f"an update is no JSON document ({e})") from e
        except ValidationError as e:
            raise self.refused(key, f"its model {self.model} refuses an update: {_said(_errors(e))}") from e
        plain = self.plain(text)
        alone = self.reducer.alone(plain, self.place(key))
        if alone is not ABSENT:
            self._refuse_wrong(key, plain, alone)
        return text

    def _text_of_update(self, update: Any) -> str:
        if self.is_scalar:  # by its model, as the value is
            return self.adapter.dump_json(self.adapter.validate_python(update)).decode()
        if isinstance(update, BaseModel):  # what it has not set is not written
            return update.model_dump_json(by_alias=False, round_trip=True, exclude_unset=True)
        return _text(update)

    @property
    def is_scalar(self) -> bool:
        """Whether the model is one value whose JSON is a text: reducers are given the value itself, not that text."""
        return self.adapter.core_schema.get("type") in _SCALARS

    def plain(self, text: str) -> Any:
        """What reducers are given of a document."""
        return self._validated(text) if self.is_scalar else from_json(text)

    def _refuse_wrong(self, key: str, update: Any, alone: Any) -> None:
        try:
            self.text_of(alone)
        except ValidationError as e:
            own = [error for error in _errors(e) if self.reducer.brings(update, error["loc"])]
            if own:
                raise self.refused(key, f"its model {self.model} refuses an update: {_said(own)}") from e

    def refused(self, key: str, why: str) -> UpdateInvalid:
        """The error for an update."""
        place = self.place(key)
        return UpdateInvalid(
            f"{place[:1].upper()}{place[1:]}: {why}. Nothing of it was stored. Correct what is written, or the model.",
            place=place,
            reducer=str(self.reducer),
        )

    # -- values --------------------------------------------------------------------------------------------------

    def value(self, key: str, text: str | None, form: int) -> Any:
        """What a task is given for a stored document, `None` for no document.

        Raises:
            SharedOutdated: it does not fit the model.
        """
        text = self.default if text is None else self._upgraded(key, text, form)
        if text is None:
            return None
        try:
            return self._validated(text)
        except ValidationError as e:
            self._outdated(key, f"does not fit its model {self.model}: {_said(_errors(e))}", e)

    def before(self, key: str, text: str | None, form: int) -> Any:
        """What updates are merged into: plain data, or `ABSENT`.

        Raises:
            SharedOutdated: the document is of another version, and cannot be upgraded.
        """
        text = self.default if text is None else self._upgraded(key, text, form)
        return ABSENT if text is None else self.plain(text)

    def after(self, key: str, before: Any, plain: Any) -> str | None:
        """The document to store of what came out of a merge; `None` if there is still no value.

        Raises:
            UpdateInvalid: the model refuses it.
            SharedOutdated: it refuses what was there before, too.
        """
        if plain is ABSENT:
            return None
        try:
            return self.text_of(plain)
        except ValidationError as e:
            if before is not ABSENT:
                self.value(key, self._before_text(before), self.version)
            why = f"its model {self.model} refuses what an update would make of it: {_said(_errors(e))}"
            raise self.refused(key, why) from e
        except PydanticSerializationError as e:
            raise self.refused(key, f"what its model {self.model} makes of it is no JSON document ({e})") from e

    def _before_text(self, before: Any) -> str:
        return self.adapter.dump_json(before).decode() if self.is_scalar else _text(before)

    def text_of(self, plain: Any) -> str:
        """The document of a value, by its model."""
        made = self.adapter.validate_python(plain) if self.is_scalar else self._validated(_text(plain))
        return self.adapter.dump_json(made, by_alias=False, round_trip=True).decode()

    def _validated(self, text: str) -> Any:
        return self.adapter.validate_json(text, by_name=True, by_alias=True)

    def _upgraded(self, key: str, text: str, form: int) -> str:
        if form == self.version:
            return text
        if form > self.version or self.upgrade is None:
            self._outdated(key, f"was stored by version {form} of its declaration, and this one is {self.version}")
        try:
            return _text(self.upgrade(from_json(text), form))
        except Exception as e:  # noqa: BLE001 - whatever an upgrade of a user's raises
            self._outdated(key, f"could not be upgraded from version {form} to {self.version}", e)

    def _outdated(self, key: str, what: str, why: Exception | None = None) -> NoReturn:
        place = self.place(key)
        raise SharedOutdated(
            f"{place[:1].upper()}{place[1:]} {what}. Nothing was changed. Declare it with a greater version= and an "
            f"upgrade= that makes stored data fit the model; a process with an older declaration has to be updated.",
            name=self.name,
            key=key,
        ) from why


def usable_place(name: str, key: str) -> None:
    """Refuse what cannot be the name or the key of a value.

    Raises:
        ConfigError: it is no text, empty, too long, or nothing that PostgreSQL can store.
    """
    for what, text in (("name", name), ("key", key)):
        if not isinstance(text, str) or not text or "\0" in text:
            raise ConfigError(f"The {what} of a shared value must be a text without NUL, and not empty; not {text!r}.")
        try:
            size = len(text.encode())
        except UnicodeEncodeError as e:
            raise ConfigError(f"The {what} of a shared value must be text that has a form in UTF-8.") from e
        if size > _LONGEST:
            raise ConfigError(f"The {what} of a shared value may have {_LONGEST} bytes; one has {size}.")


def _adapter(name: str, model: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(model)
    except PydanticUserError as e:
        raise ConfigError(f"The model of shared value {name!r} is nothing that pydantic knows: {e}") from e


def _text(plain: Any) -> str:
    return to_json(plain, by_alias=False, round_trip=True, bytes_mode="base64", inf_nan_mode="constants").decode()


def _errors(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_context=False, include_input=False))


def _said(errors: list[Any]) -> str:
    """What is wrong, and where: without the values, which are not for messages."""
    told = [f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['msg']}" for error in errors[:3]]
    return "; ".join([*told, *(["…"] if len(errors) > 3 else [])])


def _named(model: Any) -> str:
    module, name = getattr(model, "__module__", ""), getattr(model, "__qualname__", "")
    return f"{module}.{name}" if isinstance(model, type) and module and name else repr(model)
