"""The documents: what they name exists, links lead somewhere, and the map of the code is right."""

import re
import subprocess

import pytest
from serving import ROOT
from test_imports import ROOMS

import masa.network
from masa.pictures.degradation import PRESETS

PAGES = {
    "README.md",
    "assets/README.md",
    "demo/API.md",
    "demo/HOSTING.md",
    "masa/BENCHMARKS.md",
    "masa/TRAINING.md",
    "weights/README.md",
}
PATH = re.compile(r"`((?:masa|demo|tests|assets|weights)/[\w./-]*|[\w-]+\.(?:py|txt|toml))`")
"""A file or folder in backticks; a name with a placeholder in capitals is none."""


def text_of(page):
    return (ROOT / page).read_text("utf-8")


def paths_in(text):
    return [path for path in PATH.findall(text) if "NAME" not in path]


def section(title):
    """The part of the README below a heading of the map."""
    (_, text) = text_of("README.md").split(f"\n### {title}\n")
    return re.split(r"\n##+ ", text)[0]


def test_all_pages_are_checked():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.md"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    pages = {page for page in listed.stdout.split("\0") if page and not page.startswith("tests/")}
    assert pages == PAGES


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_paths_that_a_page_names_exist(page):
    missing = {path for path in paths_in(text_of(page)) if not (ROOT / path).exists()}
    # A page may also name what lies beside it.
    assert not {path for path in missing if not (ROOT / page).parent.joinpath(path).exists()}


def anchor(heading):
    """What a heading is addressed by."""
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    text = text_of(page)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if link.startswith("https://"):
            continue
        name, _, place = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if place:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert place in map(anchor, headings), link


def test_the_readme_links_to_all_pages():
    links = set(re.findall(r"\]\(([^)\s#]+\.md)\)", text_of("README.md")))
    assert links == PAGES - {"README.md"}


def test_the_readme_has_the_network_s_own_map_of_figure_2():
    rows = re.findall(r"^(\w.*?)  +:mod:`([\w.]+)`$", masa.network.__doc__, re.MULTILINE)
    own = [module.replace(".", "/") + ".py" for _, module in rows]
    table, _, _ = section("Boxes of the paper's figure 2").partition("\nThese files")
    assert len(own) > 5 and paths_in(table) == own


@pytest.mark.parametrize("title", ["The path of a request", "The path of a training sample"])
def test_paths_name_files_row_by_row(title):
    rows = [row for row in section(title).splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 5
    assert all((ROOT / path).is_file() for row in rows for path in paths_in(row))
    assert all(paths_in(row) for row in rows)


def test_the_readme_has_the_rooms_in_their_order():
    named = [
        path.removesuffix(".py").strip("/").replace("/", ".")
        for row in section("Rooms").splitlines()
        for path in paths_in(row)
        if row.startswith("| `")
    ]
    assert named == [room for room in ROOMS if room in named]
    folders = {room for room in ROOMS if (ROOT / room.replace(".", "/")).is_dir()} - {"masa"}
    assert folders <= set(named)


def test_the_checks_find_paths():
    """A test of these tests."""
    assert paths_in("`masa/a.py` and `demo/b/`, not `weights/NAME.json`, `app.py`.") == [
        "masa/a.py",
        "demo/b/",
        "app.py",
    ]
    assert anchor("What the page keeps, and for how long") == "what-the-page-keeps-and-for-how-long"


def test_the_readme_has_the_scores_of_the_card():
    """By preset: with the nearest reference, without one, and bicubic."""

    def scores(text):
        rows = re.findall(r"^\| ([^|:]+)[^|]* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
        return {name.strip(): numbers for name, *numbers in rows}

    (_, card) = text_of("weights/README.md").split("<!-- masa-photo -->")
    (_, readme) = text_of("README.md").split("## What it does not do")
    told = scores(readme)
    assert told == scores(card.split("<!-- end of masa-photo -->")[0])
    assert set(told) == set(PRESETS)
