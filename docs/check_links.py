"""Checks that every relative link and image of the Markdown files leads to a file, and every anchor to a heading."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
CODE = re.compile(r"```.*?```", re.S)


def main() -> int:
    broken = []
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in LINK.findall(CODE.sub("", page.read_text())):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    print("\n".join(broken) if broken else f"links of {len(pages)} pages lead somewhere")
    return 1 if broken else 0


def anchors(page: Path) -> set[str]:
    """Heading anchors as GitHub makes them."""
    text = CODE.sub("", page.read_text())
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in HEADING.findall(text)
    }


if __name__ == "__main__":
    sys.exit(main())
