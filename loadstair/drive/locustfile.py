"""Where the locustfiles are: packaged in an installed wheel, beside the package in a checkout."""

from importlib.util import find_spec
from pathlib import Path

import loadstair
from loadstair.errors import LoadError


def locustfile(name: str = "chat.py") -> Path:
    """Raises LoadError."""
    spec = find_spec("loadstair.locustfiles")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    folders.append(Path(loadstair.__file__).resolve().parent.parent / "locustfiles")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise LoadError(f"{name}: no such locustfile in {', '.join(map(str, folders))}: the installation is incomplete")
