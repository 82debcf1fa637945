"""What the environment of Locust's processes has and lacks."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PACKAGE_ROOT: Final = str(Path(__file__).resolve().parent.parent.parent)


def locust_env(env: Mapping[str, str], *, kept: str | None = None) -> dict[str, str]:
    """Without the user's LOCUST_* settings, which would change what is measured, save the one that is `kept`; with this
    package where Python looks for it, and output that is not held back."""
    cleaned = {name: value for name, value in env.items() if name == kept or not name.startswith("LOCUST_")}
    path = cleaned.get("PYTHONPATH")
    cleaned["PYTHONPATH"] = f"{PACKAGE_ROOT}{os.pathsep}{path}" if path else PACKAGE_ROOT
    cleaned["PYTHONUNBUFFERED"] = "1"
    return cleaned
