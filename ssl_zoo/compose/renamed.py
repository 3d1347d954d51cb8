"""What keys and parts were called in earlier versions: an old word is answered with the new one."""

from __future__ import annotations

from collections.abc import Collection

ARGUMENTS = {"hidden": "width", "rows": "layout", "causal": "order", "directions": "orders"}
PARTS = {
    "ssl_zoo.backbones.vision.TimmCNN": "ssl_zoo.backbones.cnn.TimmCNN",
    "ssl_zoo.views.recipes.View": "ssl_zoo.views.view.View",
}


def new_argument(old: str, takes: Collection[str]) -> str | None:
    """What an argument is called now, among those that a part takes; None if it is not an old name."""
    found = ARGUMENTS.get(old)
    return found if found in takes else None
