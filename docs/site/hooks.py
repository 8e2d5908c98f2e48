# SPDX-License-Identifier: MIT
"""What MkDocs does not do: pages from beside docs/, links out of docs/ to files of the repository, which become text on the site, and
a search that works where the site is read from a folder."""
import glob
import json
import os
import posixpath
import re

from mkdocs.structure.files import File

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BESIDE = ["bench/README.md", "bench/results/zen4.md", "bench/results/zen5.md", "examples/assets/README.md"]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?(?=\))")
CODE = re.compile(r"(^```.*?^```)", re.S | re.M)


def place(source, link):
    """The file of the repository that a page links, and where it is on the site."""
    here = posixpath.dirname(source if source in BESIDE else posixpath.join("docs", source))
    target = posixpath.normpath(posixpath.join(here, link))
    if target == "README.md":
        return target, "index.md"
    if target in BESIDE:
        return target, target
    if target.startswith("docs/"):
        return target, target.removeprefix("docs/")
    return target, f"source/{target}.txt"


def on_files(files, config):
    def add(path, source):
        file = File(path, ROOT, config["site_dir"], config["use_directory_urls"])
        file.abs_src_path = source
        files.append(file)

    for file in list(files):
        if (file.src_path.startswith("site" + os.sep) and not file.src_path.endswith(".css")) or file.src_path.endswith(".py"):
            files.remove(file)
    for path in BESIDE:
        add(path, os.path.join(ROOT, path))
    linked = {}
    for file in files.documentation_pages():
        with open(file.abs_src_path, encoding="utf-8") as page:
            for link, _ in LINK.findall(CODE.sub("", page.read())):
                target, path = place(file.src_path, link)
                if path.startswith("source/"):
                    linked[path] = os.path.join(ROOT, target)
    for path, source in linked.items():
        add(path, source)
    if reference := os.environ.get("LOWBIT_REFERENCE"):  # docs/site/build copies the rest of it
        add("api/index.html", os.path.join(reference, "index.html"))
    return files


def on_page_markdown(markdown, page, config, files):
    source = page.file.src_path.replace(os.sep, "/")

    def on_site(match):
        return posixpath.relpath(place(source, match[1])[1], posixpath.dirname(source) or ".") + (match[2] or "")

    return "".join(part if part.startswith("```") else LINK.sub(on_site, part) for part in CODE.split(markdown))


# A page of a folder may neither fetch an index nor start a worker from a file.  The theme takes both from __search where it is there.
SEARCH = "search/search.js"


def on_post_page(output, page, config):
    bundle = re.search(r'<script src="([./]*)assets/javascripts/bundle', output)
    return output[: bundle.start()] + f'<script src="{bundle[1]}{SEARCH}"></script>\n' + output[bundle.start() :]


def on_post_build(config):
    site = config["site_dir"]
    with open(os.path.join(site, "search", "search_index.json"), encoding="utf-8") as file:
        index = file.read()
    [path] = glob.glob(os.path.join(site, "assets", "javascripts", "workers", "search.*.js"))
    with open(path, encoding="utf-8") as file:
        worker = file.read()
    with open(os.path.join(site, SEARCH), "w", encoding="utf-8") as file:
        file.write(f"var __search = {{ index: Promise.resolve({index}),\n"
                   f"  worker: URL.createObjectURL(new Blob([{json.dumps(worker)}], {{ type: 'text/javascript' }})) }}\n")
