"""Small C programs, compiled where they run: what must be exact and cheap cannot be Python."""

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loadstair.errors import LoadstairError
from loadstair.xdg import base_folder

NATIVE: Final = Path(__file__).parent / "native"
COMPILERS: Final = ("cc", "gcc", "clang")
FLAGS: Final = ("-std=gnu11", "-O2", "-pthread", f"-I{NATIVE}")
LIBRARIES: Final = ("-lm",)
COMPILE_S_MAX: Final = 120.0


def built(source: str | Path) -> Path | None:
    """The program of this C file (a name is one of `native/`), compiled unless that was done before.

    None where it cannot be: no C compiler, or no Linux. Raises LoadstairError when compiling fails or the cache folder
    cannot be written. Programs are named by what they were made from, so a new version never runs an old one.
    """
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None or platform.system() != "Linux":
        return None
    path = NATIVE / source
    program = cache_folder(os.environ) / f"{path.stem}-{_fingerprint(path)}"
    if not _is_there(program):
        _compile(compiler, path, program)
    return program


def cache_folder(environment: Mapping[str, str]) -> Path:
    return base_folder(environment, "XDG_CACHE_HOME", ".cache") / "loadstair"


def _is_there(program: Path) -> bool:
    """False for one in a folder that may not be looked into: making it there tells why."""
    try:
        return program.exists()
    except OSError:
        return False


def _fingerprint(source: Path) -> str:
    """Of everything that goes into the program: the file, all headers, the flags, the machine and its C library."""
    digest = hashlib.sha256(" ".join((*FLAGS[:-1], *LIBRARIES, platform.machine(), *platform.libc_ver())).encode())
    for path in (source, *sorted(NATIVE.glob("*.h"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, source: Path, program: Path) -> None:
    """Under another name first: who runs it meanwhile, or compiles it too, sees all of it or nothing."""
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{program.name}.", dir=program.parent)
        os.close(handle)
    except OSError as error:
        raise LoadstairError(
            f"{program.parent}: cannot keep a compiled program here: {error.strerror}; "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    unfinished = Path(name)
    try:
        command = [compiler, *FLAGS, "-o", name, str(source), *LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S_MAX, check=False)
        if done.returncode != 0:
            raise LoadstairError(f"{source.name}: {compiler} could not compile it: {_first_error(done.stderr)}")
        unfinished.chmod(0o755)
        unfinished.replace(program)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadstairError(f"{source.name}: {compiler} could not compile it: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "it said nothing")
