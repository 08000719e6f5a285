"""How is a fitted or searched solver read from a file?"""

import json
from pathlib import Path
from typing import Any


def document(path: Path, form: str, version: int) -> dict[str, Any]:
    """Read a JSON document of one format and version.

    Raises:
        ValueError: It is no JSON, of another format, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON document: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != form:
        raise ValueError(f"{path} is no file of the format {form!r}.")
    if content.get("version") != version:
        raise ValueError(
            f"{path} has version {content.get('version')!r} of {form!r}; this installation reads "
            f"version {version}. Install the one that wrote it, or make the file again."
        )
    return content
