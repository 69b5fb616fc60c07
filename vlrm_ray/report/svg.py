"""Conversion of matplotlib figures to inline SVG for the page.

The SVG has no style attributes, which the page's content security policy forbids, no ids that clash with other plots,
and takes its colors from the style sheet.
"""

import io
import re
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_SETTINGS = {
    "svg.fonttype": "none",  # keep text as text: searchable, readable by screen readers, in the page's font
    "font.size": 10.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.8,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "figure.constrained_layout.use": True,
}


class Color(StrEnum):
    """Placeholder colors, which `to_plot` replaces by the style sheet's variables of the same names."""

    INK = "#010101"
    MUTED = "#020202"
    LINE = "#030303"
    PRIMARY = "#040404"
    SECONDARY = "#050505"
    GOOD = "#060606"
    BAD = "#070707"


@dataclass(frozen=True)
class Plot:
    """A plot of the page.

    Attributes:
        title: caption.
        text: text alternative, with the most important values.
        svg: the drawing as inline SVG.
    """

    title: str
    text: str
    svg: Markup


def figure(width: float, height: float) -> Figure:
    """An empty figure with one pair of axes; sizes in inches of 72 SVG units."""
    colors = {
        "text.color": Color.INK, "axes.labelcolor": Color.MUTED, "axes.edgecolor": Color.LINE,
        "xtick.color": Color.LINE, "ytick.color": Color.LINE, "grid.color": Color.LINE,
        "xtick.labelcolor": Color.MUTED, "ytick.labelcolor": Color.MUTED,
    }  # fmt: skip
    with matplotlib.rc_context(_SETTINGS | {name: str(color) for name, color in colors.items()}):
        drawing = Figure(figsize=(width, height))
        drawing.subplots()
    return drawing


def to_plot(drawing: Figure, title: str, text: str) -> Plot:
    """Convert a figure to inline SVG; equal figures give equal bytes."""
    sink = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": title}):
        FigureCanvasSVG(drawing).print_svg(sink, metadata={"Date": None, "Creator": None})
    return Plot(title, text, Markup(_clean(sink.getvalue(), re.sub(r"\W+", "-", title.lower()))))


def _clean(data: bytes, prefix: str) -> str:
    """The SVG without metadata and styles, with prefixed ids and the style sheet's colors."""
    root = ElementTree.fromstring(data)
    referenced = set(re.findall(r"#([\w.-]+)", data.decode()))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _style_to_attributes(element)
        _prefix_ids(element, referenced, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    for color in Color:
        text = text.replace(f'"{color}"', f'"var(--{color.name.lower()})"')
    return text


def _style_to_attributes(element: ElementTree.Element) -> None:
    """Convert the declarations of a style attribute to attributes of their own."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            name, value = "font-size", next(iter(re.findall(r"[\d.]+(?=px)", value)), "10")
        if name and name not in ("font-family", "white-space", "line-height"):
            element.set(name, value)
    if element.tag == f"{{{_SVG}}}text" and "fill" not in element.attrib:
        element.set("fill", Color.INK)


def _prefix_ids(element: ElementTree.Element, referenced: set[str], prefix: str) -> None:
    """Remove ids that nothing refers to, and make the others and the references to them unique in the page."""
    name = element.attrib.pop("id", None)
    if name in referenced:
        element.set("id", f"{prefix}-{name}")
    for key, value in element.attrib.items():
        if "#" in value and not re.fullmatch(r"#[0-9a-f]{6}", value):
            element.set(key, value.replace("#", f"#{prefix}-"))
