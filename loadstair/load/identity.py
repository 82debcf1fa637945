"""What a worker on another host must have in common with the master: otherwise it would measure something else."""

import hashlib
import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import loadstair

SAME: Final = {
    "loadstair": "Loadstair",
    "sources": "Loadstair's source files, by their digest",
    "locustfile": "the locustfile, by its digest",
    "python": "Python",
    "locust": "Locust",
    "openai": "the openai package",
}
"""Keys of an identity that must agree, in words."""
DIGEST_DIGITS: Final = 12


def identity(locustfiles: Iterable[str]) -> dict[str, Any]:
    """Of this process: what must agree, and where it runs."""
    return {
        "loadstair": loadstair.__version__,
        "sources": _digest(_sources()),
        "locustfile": _digest((Path(name).name, Path(name)) for name in locustfiles),
        "python": platform.python_version(),
        "locust": importlib.metadata.version("locust"),
        "openai": importlib.metadata.version("openai"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """A part of a sentence for each that does not agree: the worker's, then the master's."""
    return [
        f"{words}: {theirs.get(key, 'none')} on the worker, {ours[key]} on the master"
        for key, words in SAME.items()
        if theirs.get(key) != ours[key]
    ]


def _sources() -> Iterator[tuple[str, Path]]:
    """Also the words that prompts are made of. Locustfiles lie elsewhere in a checkout than in an installed wheel."""
    package = Path(loadstair.__file__).parent
    for path in sorted([*package.rglob("*.py"), *package.glob("load/text/*.txt")]):
        name = path.relative_to(package).as_posix()
        if not name.startswith("locustfiles/"):
            yield name, path


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, path in files:
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:DIGEST_DIGITS]
