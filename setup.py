"""The package's long description: the README, without the relative links that only its repository can follow."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
CODE = re.compile(r"(^```.*?^```$|``.+?``|`[^`\n]+`)", re.MULTILINE | re.DOTALL)  # blocks and words
RELATIVE = r"(?![a-zA-Z][a-zA-Z0-9+.-]*:|#|/)"  # neither an address nor a heading of the same page
PICTURE = re.compile(rf"!\[([^\]]*)\]\({RELATIVE}([^)\s]+)[^)]*\)")
LINK = re.compile(rf"(?<!!)\[((?:[^\[\]]|!?\[[^\]]*\](?:\([^)]*\))?)*)\]\({RELATIVE}([^)\s]+)[^)]*\)")
SOURCE = re.compile(rf"(<(?:img|source)\b[^>]*?\b(?:src|srcset)=)([\"']){RELATIVE}([^\"']+)\2([^>]*>)")


def absolute(text: str, source: str | None, tag: str) -> str:
    """Return Markdown whose relative links and pictures are those of a tag at the repository's address.

    Without an address the links become their text, and the pictures what they show in words.
    """
    page, raw = (f"{source.rstrip('/')}/{kind}/{tag}/" for kind in ("blob", "raw")) if source else ("", "")

    def convert(prose: str) -> str:
        prose = PICTURE.sub(rf"![\1]({raw}\2)" if source else r"\1", prose)
        prose = SOURCE.sub(rf"\1\2{raw}\3\2\4" if source else "", prose)
        return LINK.sub(rf"[\1]({page}\2)" if source else r"\1", prose)

    words: list[str] = []

    def hide(found: re.Match) -> str:
        words.append(found[0])
        return f"\0{len(words) - 1}\0"

    return re.sub(r"\0(\d+)\0", lambda found: words[int(found[1])], convert(CODE.sub(hide, text)))


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=absolute(readme, project["urls"].get("Source"), f"v{project['version']}"),
        long_description_content_type="text/markdown",
    )
