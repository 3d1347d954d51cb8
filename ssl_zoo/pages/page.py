"""One self-contained HTML file: text, tables and Vega-Lite charts, and nothing that is fetched.

The script that draws charts (Vega, Vega-Lite, vega-embed) is the one that vl-convert carries. Colours are
variables of `page.css`, for light and dark; charts are drawn again when the reader changes between them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# The Vega-Lite that the script below and the pictures of `docs/` are drawn by.
VEGA_LITE = "6.4"


@functools.cache
def charting_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, safe inside a <script> element."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", "<\\/script")


def embedded(value: Any) -> Markup:
    """A JSON value for use inside a <script> element: no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def environment() -> Environment:
    """Jinja2 over `ssl_zoo/pages/templates`: everything is escaped, and a missing name is an error."""
    made = Environment(
        loader=PackageLoader("ssl_zoo.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters["embedded"] = embedded
    return made


def render(
    template: str, charts: Mapping[str, dict[str, Any]] | None = None, script_file: str = "", **values: Any
) -> str:
    """A page from a template that extends `page.html`.

    Args:
        charts: id of an element of the page -> Vega-Lite specification to draw there. Data go inline, in
            `data.values`; a specification needs no colours of text, axes and background: the theme has them.
        script_file: the file beside the page that holds `charting_script`; empty writes it into the page.
        values: what the template shows. `page.html` wants `title`.
    """
    folder = files("ssl_zoo.pages") / "templates"
    return (
        environment()
        .get_template(template)
        .render(
            charts=dict(charts or {}),
            charting=Markup(charting_script()) if charts and not script_file else "",
            script_file=script_file,
            style=Markup((folder / "page.css").read_text(encoding="utf-8")),
            script=Markup((folder / "page.js").read_text(encoding="utf-8")),
            **values,
        )
    )


def picture(chart: Mapping[str, Any]) -> str:
    """The SVG of a chart, for a README; drawn on white."""
    config = {"background": "white", "font": "sans-serif", "legend": {"labelLimit": 400}}
    return vl_convert.vegalite_to_svg({**chart, "config": {**config, **chart.get("config", {})}}, VEGA_LITE)
