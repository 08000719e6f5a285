"""Is everything here that a server is made of? One clear line where it is not."""

import importlib.util

_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "greenlet")


class MissingExtraError(ValueError, ImportError):
    """Packages of the extra ``serve`` are not installed."""


def require() -> None:
    """Raise unless the packages of the extra ``serve`` are installed.

    Raises:
        MissingExtraError: Some are not; the message names them.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"a server needs {', '.join(missing)}, which is not installed; "
            "run: pip install 'unison[serve]'"
        )
