"""What README promises exists, and what is in git belongs there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
README = PROJECT / "README.md"
LARGEST = 25 * 1024 * 1024
PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[A-Za-z0-9._]+")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def test_readme_names_only_targets_that_make_has() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = named_in_readme(r"\bmake ([a-z][a-z-]*)")
    assert {"app", "test"} <= targets
    assert named <= targets


def test_readme_names_only_commands_that_sts_has() -> None:
    unknown = [
        words for words in sorted(named_in_readme(r"\bsts ((?:[a-z]+\b ?){1,2})")) if not has_help(words.split())
    ]
    assert unknown == []


def test_an_unknown_command_is_seen() -> None:
    needs_command_line()
    assert not has_help(["frobnicate"])
    assert has_help(["doctor"])


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_plain_pins(name: str) -> None:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in packages if not PIN.fullmatch(line)] == []
    names = [line.split("==")[0].lower() for line in packages]
    assert names == sorted(names)


def test_no_large_file_is_in_git() -> None:
    assert [str(path) for path in kept_files() if (PROJECT / path).stat().st_size > LARGEST] == []


def test_no_path_of_this_machine_is_in_git() -> None:
    told = [
        f"{path}: {found.decode()}"
        for path in kept_files()
        for found in machine_paths((PROJECT / path).read_bytes(), own_places())
    ]
    assert told == []


def test_a_path_of_this_machine_is_seen() -> None:
    own = [str(PROJECT), str(Path.home())]
    for place in [PROJECT / "cache", Path("/home") / "ann" / "data", Path("/Users") / "ann" / "x"]:
        assert machine_paths(f"load('{place}')".encode(), own), place
    assert machine_paths(b"docs/decisions, cache/demo, https://example.org/home/", own) == []


def named_in_readme(pattern: str) -> set[str]:
    """What a pattern's group catches in README's code, the fenced and the inline."""
    if not README.is_file():
        pytest.skip("there is no README.md yet")
    code = "\n".join(CODE.findall(README.read_text(encoding="utf-8")))
    return {found.strip() for found in re.findall(pattern, code)}


def has_help(words: list[str]) -> bool:
    """Whether `sts WORDS --help` answers; further words may be arguments, which --help does not look at."""
    needs_command_line()
    command = [sys.executable, "-m", "sts_core", *words, "--help"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, check=False).returncode == 0


def needs_command_line() -> None:
    if not (PROJECT / "sts_core" / "__main__.py").is_file():
        pytest.skip("there is no command line yet")


def kept_files() -> list[Path]:
    """What is in git or would be added to it, relative to the project."""
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in sorted(set(listed.split("\0"))) if name and (PROJECT / name).is_file()]


def own_places() -> list[str]:
    """This machine's own folders: the project, what lies beside it, the home folder."""
    places = {PROJECT, Path.home()}
    if PROJECT.parent not in (Path("/"), Path(tempfile.gettempdir())):
        places |= {place for place in PROJECT.parent.iterdir() if place.is_dir()}
    return [str(place) for place in places if len(place.parts) > 1]


def machine_paths(content: bytes, own: list[str]) -> list[bytes]:
    """The paths in a file that mean something on one machine only: the given ones, and anybody's home folder."""
    # A place as short as /app is also a plain word, so there something must follow below it.
    starts = [re.escape(place.encode()) + (rb"(?![\w-])" if place.count("/") > 1 else rb"/") for place in own]
    anywhere = b"|".join([*starts, rb"/(?:home|Users)/[\w.-]+"])
    return re.findall(rb"(?<![\w./:-])(?:" + anywhere + rb")[\w./-]*", content)
