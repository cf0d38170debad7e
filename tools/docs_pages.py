"""A hook of mkdocs: the top-level documents are pages of the site, and links to them lead there.

README.md, ARCHITECTURE.md and the others stay the one place of what they say. In their text, and in
that of the pages under docs/, a link is written as the repository has it (`../ARCHITECTURE.md`,
`docs/cli.md`), and is followed here; mkdocs then checks it like any other.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
}
# [text](target#anchor), where the target is a file of the repository.
LINK = re.compile(r"\]\((?!\w+:|#|//)([^)#\s]+)((?:#[^)\s]*)?)\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the top-level documents."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source == "LICENSE":
            text = f"# Licence\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turns links between files of the repository into links between pages."""
    here = page.file.src_uri
    source = {page: name for name, page in PAGES.items()}.get(here, f"docs/{here}")

    def follow(link: re.Match[str]) -> str:
        target, anchor = link.groups()
        named = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        to = PAGES.get(named) or named.removeprefix("docs/")
        relative = posixpath.relpath(to, posixpath.dirname(here) or ".")
        return f"]({relative}{anchor})"

    # Code is no prose: what stands between fences is left as it is.
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)
    return "".join(p if p.startswith("```") else LINK.sub(follow, p) for p in parts)
