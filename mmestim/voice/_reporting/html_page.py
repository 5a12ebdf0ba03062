"""The HTML page of a report: one self-contained file, rendered from the templates beside this module."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from .printable import printable


def render_page(context: Mapping[str, Any], filters: Mapping[str, Callable[..., str]]) -> Iterator[bytes]:
    """Render the page piece by piece, so that its pictures and sound are never all in memory.

    Parameters
    ----------
    context : dict of str to object
        Variables of the template ``report.html.j2``.
    filters : dict of str to callable
        Filters of the templates, by name.

    Returns
    -------
    iterator of bytes
        Pieces of the page in UTF-8.
    """
    # Imported late, because only writing a report needs Jinja.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("mmestim.voice._reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_as_printable,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    script = _read_template("report.js")
    page = environment.get_template("report.html.j2").generate(
        context,
        style=Markup(_read_template("report.css")),
        script=Markup(script),
        security_policy=_security_policy(script),
    )
    return (piece.encode() for piece in page)


def _as_printable(value: Any) -> Any:
    """Escape control characters in a value that a template writes; HTML that a macro has made is left as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _read_template(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _security_policy(script: str) -> str:
    """Forbid the page to load anything and to run any other script, whatever a file name contains."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
