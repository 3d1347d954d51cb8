"""One self-contained HTML file: text, tables and Vega-Lite charts, and nothing that is fetched.

The script that draws charts (Vega, Vega-Lite, vega-embed) is the one that vl-convert carries. Colours are
variables of `page.css`, for light and dark; charts are drawn again when the reader changes between them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# The version of Vega-Lite that draws the charts of pages and the pictures of `docs/`.
VEGA_LITE = "6.4"


def drawing() -> Any:
    """The package that draws charts, and carries their script.

    Raises:
        ImportError: it is not installed; says what installs it.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise ImportError("pages and charts need vl-convert: pip install 'ssl-zoo[pages]'") from error
    return vl_convert


@functools.cache
def charting_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, safe inside a <script> element."""
    bundle = drawing().javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", "<\\/script")


def embedded(value: Any) -> Markup:
    """A JSON value for use inside a <script> element: no text in it can end the element.

    Raises:
        ValueError: it holds NaN or an infinity.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def environment() -> Environment:
    """Jinja2 over `ssl_zoo/pages/templates`: everything is escaped, and a missing name is an error."""
    made = Environment(
        loader=PackageLoader("ssl_zoo.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters["embedded"] = embedded
    return made


def policy(scripts: Iterable[str]) -> str:
    """The content security policy of a page that holds these scripts, and runs no other.

    The policy names them by their hashes, so that text which slips through the escaping stays text. One of
    them loads the file that draws charts, which 'strict-dynamic' allows, from disk as from a server. Styles
    may be inline: Vega's tooltips bring some, and bars and shades are widths and colours of single elements.
    """
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in digests)
    return (
        f"default-src 'none'; script-src 'strict-dynamic' {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def asset(name: str) -> str:
    """The text of a file of `ssl_zoo/pages/templates`."""
    return (files("ssl_zoo.pages") / "templates" / name).read_text(encoding="utf-8")


def render(
    template: str,
    charts: Mapping[str, dict[str, Any]] | None = None,
    script_file: str = "",
    scripts: Sequence[str] = (),
    **values: Any,
) -> str:
    """A page from a template that extends `page.html`.

    Args:
        charts: id of an element of the page -> Vega-Lite specification to draw there. Data go inline, in
            `data.values`; a specification needs no colours of text, axes and background: the theme has them.
        script_file: the file beside the page that holds `charting_script`; empty writes it into the page.
        scripts: files of `ssl_zoo/pages/templates` that the page runs besides `page.js`.
        values: what the template shows. `page.html` wants `title`.

    Raises:
        jinja2.UndefinedError: the template shows a value that is not given.
    """
    own = [asset("page.js").replace("CHARTING_FILE", json.dumps(script_file)), *map(asset, scripts)]
    if charts and not script_file:
        own.insert(0, charting_script())
    return (
        environment()
        .get_template(template)
        .render(
            charts=dict(charts or {}),
            policy=Markup(policy(own)),
            scripts=list(map(Markup, own)),
            style=Markup(asset("page.css")),
            **values,
        )
    )


def picture(chart: Mapping[str, Any]) -> str:
    """The SVG of a chart on a white ground, for a Markdown page."""
    config = {
        "background": "white",
        "font": "sans-serif",
        "legend": {"labelLimit": 400},
        # A reader's font may be wider than the one with which names at the right are measured here.
        "padding": {"left": 5, "top": 5, "right": 45, "bottom": 5},
    }
    return drawing().vegalite_to_svg({**chart, "config": {**config, **chart.get("config", {})}}, VEGA_LITE)
