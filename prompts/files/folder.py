"""A folder of prompt files: which of its files are prompts, what each is called, what each may include."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from superstep.prompts.files.documents import has_front_matter, included, read_document
from superstep.prompts.files.drafts import Draft, draft
from superstep.prompts.rendering.templates import Piece
from superstep.runtime.faults import PromptInvalid, PromptNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FOLDER", "read_prompts"]

FOLDER = Path("prompts")
_KINDS = (".toml", ".md")


def read_prompts(paths: Iterable[Path]) -> list[Draft]:
    """Read prompt files.

    Args:
        paths: Folders, searched with all that is below them, and single files. A prompt is called by its path below the
            folder, without the suffix. The folder of a single file is `prompts/` if the file is in there, else its own.

    Returns:
        The prompts by name: every TOML file, and every Markdown file that has front matter.

    Raises:
        PromptNotFound: A path does not exist, or there is no prompt in any.
        PromptInvalid: Prompts are wrong. The message has a line for each of them.
    """
    found: dict[str, Draft] = {}
    problems = []
    paths = list(paths)
    for file, folder in _files(paths).values():
        try:
            made = _read(file, folder)
        except PromptInvalid as error:
            problems.append(str(error))
            continue
        if made.name in found:
            problems.append(f"{file}: {found[made.name].file} has the name {made.name!r} already. Rename one.")
        found[made.name] = made
    if problems:
        raise PromptInvalid("\n".join(problems))
    if not found:
        searched = ", ".join(str(path) for path in paths)
        raise PromptNotFound(f"There is no prompt in {searched}: no .toml file, and no .md file with front matter.")
    return [found[name] for name in sorted(found)]


def _files(paths: Iterable[Path]) -> dict[Path, tuple[Path, Path]]:
    """Every prompt file with its folder, by its real path so that each is there once."""
    found: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix in _KINDS and each.is_file())
            prompts = [each for each in inside if each.suffix != ".md" or has_front_matter(_text(each))]
            found.update({each.resolve(): (each, path) for each in prompts})
        elif not path.exists():
            raise PromptNotFound(f"There is no file or folder {path}. Give the folder that your prompts are in.")
        elif path.suffix not in _KINDS or (path.suffix == ".md" and not has_front_matter(_text(path))):
            raise PromptInvalid(f"{path}: a prompt is a .toml file, or a .md file whose first line is three dashes.")
        else:
            real = path.resolve()
            found[real] = (path, FOLDER if real.is_relative_to(FOLDER.resolve()) else path.parent)
    return found


def _read(file: Path, folder: Path) -> Draft:
    document = read_document(_text(file), str(file), markdown=file.suffix == ".md")
    below = (file.parent.resolve() / file.name).relative_to(folder.resolve())
    name = below.with_suffix("").as_posix()
    return draft(document, name, lambda wanted: _included(folder, wanted))


def _included(folder: Path, name: str) -> Piece | None:
    """A file of the folder to include, without its front matter. Nothing outside of the folder is ever read."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return None
    text, line = included(_text(path), str(path))
    return Piece(text, str(path), name, line)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptInvalid(f"{path}: cannot be read: {type(error).__name__}. It must be a UTF-8 text file.") from error
