"""What tells an address from a path. It brings nothing along, so that composing a command may ask."""

from __future__ import annotations

import re

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


def is_address(text: object) -> bool:
    """Whether a text names its protocol: s3://bucket/name does, and a path of this machine does not."""
    return isinstance(text, str) and SCHEME.match(text) is not None
