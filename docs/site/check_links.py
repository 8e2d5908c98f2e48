#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Names every link of a site's pages to a file or a heading that is not there, and exits with 1 if there is one.

  check_links.py SITE
"""
import pathlib
import re
import sys
import urllib.parse


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    site = pathlib.Path(sys.argv[1]).resolve()
    text = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    headings = {page: set(re.findall(r'\b(?:id|name)="([^"]+)"', page_text)) for page, page_text in text.items()}
    count, dead = 0, []
    for page, page_text in sorted(text.items()):
        if site / "api" in page.parents or page.name == "404.html":  # Doxygen checks its own
            continue
        for link in re.findall(r'(?:href|src)="([^"]+)"', page_text):
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            count += 1
            target = (page.parent / urllib.parse.unquote(url.path)).resolve() if url.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (url.fragment and target in headings and url.fragment not in headings[target]):
                dead.append(f"{page.relative_to(site)}: {link}")
    print("\n".join(dead + [f"{count} links, {len(dead)} of them dead"]))
    return 1 if dead or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
