"""What `docker build .` would see: the files that .dockerignore leaves, and the Dockerfile's instructions."""

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath

from tests.deploy.compose_file import ROOT


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str


def instructions() -> list[Instruction]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines).splitlines()
    split = (line.split(maxsplit=1) for line in joined if line.strip())
    return [Instruction(name.upper(), rest) for name, rest in split]


def copied_from_context() -> list[str]:
    """Sources of all COPY instructions that do not copy from another stage."""
    copies = [entry.text.split() for entry in instructions() if entry.name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


@cache
def context() -> frozenset[PurePosixPath]:
    """Every file that is sent to the builder, relative to the root."""
    rules = ignore_rules()
    found = set()
    for folder, folders, files in os.walk(ROOT):
        at = PurePosixPath(Path(folder).relative_to(ROOT).as_posix())
        # No rule takes back what lies deeper in a folder that is left out, so it need not be looked into.
        folders[:] = [name for name in folders if not ignored(at / name, rules)]
        found |= {at / name for name in files if not ignored(at / name, rules)}
    return frozenset(found)


def ignore_rules() -> list[str]:
    lines = (line.strip() for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def ignored(path: PurePosixPath, rules: list[str]) -> bool:
    """The last rule that matches the path or a folder above it decides; `!` takes back.

    Source: Docker's reference of .dockerignore.
    """
    result = False
    for rule in rules:
        pattern = rule.removeprefix("!").strip("/")
        if any(_matches(part, pattern) for part in (path, *path.parents)):
            result = not rule.startswith("!")
    return result


def _matches(path: PurePosixPath, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(path.name, pattern.removeprefix("**/"))
    return len(path.parts) == len(PurePosixPath(pattern).parts) and fnmatchcase(str(path), pattern)
