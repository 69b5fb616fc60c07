"""matplotlib's SVG, fit for a page: no style attributes, no ids of its own, colours of the style sheet."""

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
    "svg.fonttype": "none",  # text stays text: searchable, read aloud, in the page's font
    "font.size": 10,
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


class Colour(StrEnum):
    """Stand-ins that `plot` replaces by the style sheet's variables."""

    INK = "#010101"
    MUTED = "#020202"
    LINE = "#030303"
    ONE = "#040404"
    TWO = "#050505"
    GOOD = "#060606"
    BAD = "#070707"


@dataclass(frozen=True)
class Plot:
    """A drawing with its name and what it says in words."""

    title: str
    text: str
    svg: Markup


def figure(width: float, height: float) -> Figure:
    """An empty figure with one pair of axes; inches at 72 units each."""
    colours = {
        "text.color": Colour.INK, "axes.labelcolor": Colour.MUTED, "axes.edgecolor": Colour.LINE,
        "xtick.color": Colour.LINE, "ytick.color": Colour.LINE, "grid.color": Colour.LINE,
        "xtick.labelcolor": Colour.MUTED, "ytick.labelcolor": Colour.MUTED,
    }  # fmt: skip
    with matplotlib.rc_context(_SETTINGS | {name: str(colour) for name, colour in colours.items()}):
        drawing = Figure(figsize=(width, height))
        drawing.subplots()
    return drawing


def plot(drawing: Figure, title: str, text: str) -> Plot:
    """The figure as inline SVG."""
    sink = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": title}):
        FigureCanvasSVG(drawing).print_svg(sink, metadata={"Date": None, "Creator": None})
    return Plot(title, text, Markup(_tidy(sink.getvalue(), re.sub(r"\W+", "-", title.lower()))))


def _tidy(data: bytes, prefix: str) -> str:
    root = ElementTree.fromstring(data)
    used = set(re.findall(r"#([\w.-]+)", data.decode()))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _restyle(element)
        _rename(element, used, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    for colour in Colour:
        text = text.replace(f'"{colour}"', f'"var(--{colour.name.lower()})"')
    return text


def _restyle(element: ElementTree.Element) -> None:
    """Declarations of a style attribute become attributes, which a strict content policy allows."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            name, value = "font-size", next(iter(re.findall(r"[\d.]+(?=px)", value)), "10")
        if name and name not in ("font-family", "white-space", "line-height"):
            element.set(name, value)
    if element.tag == f"{{{_SVG}}}text" and "fill" not in element.attrib:
        element.set("fill", Colour.INK)


def _rename(element: ElementTree.Element, used: set[str], prefix: str) -> None:
    """Ids are unique in the page, and there only where something refers to them."""
    name = element.attrib.pop("id", None)
    if name in used:
        element.set("id", f"{prefix}-{name}")
    for key, value in element.attrib.items():
        if "#" in value and not re.fullmatch(r"#[0-9a-f]{6}", value):
            element.set(key, value.replace("#", f"#{prefix}-"))
