"""JSON files with a digest of what they say, so that a damaged one is not taken for another."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basiscli import atomic
from basiscli.errors import BadInput

DIGEST = "sha256"


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object and its digest, whole or not at all."""
    atomic.write_text(path, json.dumps({**content, DIGEST: _digest(content)}, indent=1))


def read(path: Path) -> dict[str, Any]:
    """Return a JSON object that `write` wrote, or one without a digest of an older version.

    Raises OSError if there is none, BadInput if it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        said = content.pop(DIGEST, None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadInput(f"{path}: is damaged (no JSON object)") from error
    if said not in (None, _digest(content)):
        raise BadInput(f"{path}: is damaged (its contents differ from their digest)")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
