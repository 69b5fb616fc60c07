"""Hooks of the documentation site: pages from the repository's root, and links that work on GitHub and on the site."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository's root, and the names of their pages on the site."""
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
LOADED = re.compile(r"<(?:script|img|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
"""Tags by which a page loads something from another host."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's files to the site."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the site's pages; a link to a file that is not on the site becomes plain text."""
    uri = page.file.src_uri
    source = next((name for name, target in PAGES.items() if target == uri), f"docs/{uri}")

    def rewrite(match: re.Match[str]) -> str:
        text, (path, mark, anchor) = match[1], match[2].partition("#")
        if not path or "://" in path:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        on_site = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else "")
        if not on_site or not files.get_file_from_path(on_site):
            return text
        return f"[{text}]({posixpath.relpath(on_site, posixpath.dirname(uri) or '.')}{mark}{anchor})"

    return LINK.sub(rewrite, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Raise PluginError if a page loads anything from another host: the site must work offline."""
    for path in Path(config.site_dir).rglob("*.html"):
        if found := LOADED.search(path.read_text()):
            raise PluginError(f"{path} loads from another host: {found[0]}")
