"""No text drives a terminal, and every word reaches a command as it was."""

import json
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superstep.runtime.settings.shown import safe, safe_json, shell_word

DRIVES = {"\u061c", "\u200e", "\u200f", "\u2028", "\u2029"} | set(
    map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
)
# Any text, with what makes trouble more often than chance would have it.
nasty = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]), st.sampled_from(sorted(DRIVES) + list("\x1b\x9b\x07\r\n\t'\"\\$`!"))
    )
)


def drives(text: str, *, but: str) -> list[str]:
    return [c for c in text if (unicodedata.category(c) == "Cc" or c in DRIVES) and c not in but]


@given(nasty)
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    assert drives(safe(text), but="\t\n") == []
    assert safe(safe(text)) == safe(text)


@given(st.recursive(nasty, lambda inner: st.lists(inner) | st.dictionaries(nasty, inner), max_leaves=5))
def test_json_means_the_same_and_is_safe(value: object) -> None:
    text = safe_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert drives(text, but="\n") == []
    assert json.loads(text) == value


@settings(max_examples=5, deadline=None)
@given(st.lists(nasty.filter(lambda text: "\0" not in text), min_size=50, max_size=80))
def test_a_shell_reads_the_word_that_was_meant(words: list[str]) -> None:
    quoted = [shell_word(word) for word in words]
    assert drives("".join(quoted), but="") == []
    script = "printf '%s\\0' " + " ".join(quoted)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/bin:/usr/bin"}
    )
    assert done.stdout.decode().split("\0")[:-1] == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nb", "a\nb"), ("\x1b]0;x\x07", "\\x1b]0;x\\x07"), ("\x9b31m", "\\u009b31m"), ("tab\there", "tab\there")],
)
def test_what_is_shown_instead(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize(
    ("word", "quoted"),
    [("t", "t"), ("a b", "'a b'"), ("$(x)", "'$(x)'"), ("a\x1b'", "$'a\\x1b\\''"), ("\x9b", "$'\\u009b'")],
)
def test_words_for_a_shell(word: str, quoted: str) -> None:
    assert shell_word(word) == quoted
