"""`ssl-zoo demo`: both stages on images and text that every machine has, in 2 to 6 minutes."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ssl_zoo.cli.start import begin


def demo(args: list[str]) -> None:
    """Entry point: `ssl-zoo demo [FOLDER] [--seed SEED]`."""
    parser = argparse.ArgumentParser("ssl-zoo demo", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    parser.add_argument("--seed", type=int, default=0, help="of pretraining (default: 0)")
    options = parser.parse_args(args)
    begin("demo", args)
    from ssl_zoo.cli import demo_parts
    from ssl_zoo.compose.composition import EXPECTED, explain

    try:
        demo_parts.run(options.folder, options.seed)
    except EXPECTED as error:
        if os.environ.get("SSL_ZOO_TRACEBACK"):
            raise
        sys.exit(f"ssl-zoo demo: {explain(error)}")
