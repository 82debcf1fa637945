"""The user's folders, as the XDG base directory specification has them."""

from collections.abc import Mapping
from pathlib import Path


def base_folder(environment: Mapping[str, str], variable: str, below_home: str) -> Path:
    """What `variable` names, or the folder `below_home` that the specification gives it; a relative one counts as none.

    For a user without a home folder (a container's, say, that no passwd entry knows) that is one below /.
    """
    given = Path(environment.get(variable, ""))
    return given if given.is_absolute() else _home() / below_home


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
