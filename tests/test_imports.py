"""Imports point one way: the method never needs the demo, and its files form no circle."""

import ast
import re
from pathlib import Path

import pytest

import masa

ROOT = Path(masa.__file__).resolve().parent
FORBIDDEN = {"gradio", "matplotlib", "demo", "app"}
TABLE = "masa.__main__"  # may name modules of demo, which it imports when their command is called

ROOMS = (
    "masa.errors",
    "masa.config",
    "masa.files",
    "masa.pictures",
    "masa.network",
    "masa.reference",
    "masa.machine",
    "masa.weights",
    "masa.predictor",
    "masa.measuring",
    "masa.training",
    "masa.bench",
    "masa",
    "masa.commands",
    "masa.__main__",
    "demo.settings",
    "demo.runs",
    "demo.figures",
    "demo.export",
    "demo.laboratory",
    "demo.page",
    "demo.commands",
    "demo.serve",
    "app",
)
"""Files and folders, bottom to top: each imports only those before it."""

FIGURE_2 = (
    "progress",
    "tiling",
    "fused",
    "layers",
    "encoder",
    "blocks",
    "matching",
    "dense",
    "transfer",
    "reading",
    "adaptation",
    "aggregation",
    "decoder",
    "model",
)
"""Files of the network, bottom to top, likewise."""


def name_of(path):
    """The module behind a file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    name_of(path): path
    for path in sorted(
        [*ROOT.rglob("*.py"), *ROOT.parent.glob("demo/**/*.py"), ROOT.parent / "app.py"]
    )
}
METHOD = [module for module in FILES if module.split(".")[0] == "masa"]


def room_of(module):
    """The room that a module lies in; ``None`` for one that gathers nothing, as ``demo``."""
    if module in ROOMS:
        return module
    rooms = [room for room in ROOMS if room != "masa" and module.startswith(f"{room}.")]
    return rooms[0] if rooms else None


def imports(tree, package):
    """Every module that a syntax tree imports, in functions too, with the names it takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def strings(tree):
    return (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is str)


def tree_of(module):
    return ast.parse(FILES[module].read_text())


def package_of(module):
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


def modules_of_ours(module):
    """Modules of this project that a module imports."""
    return {m for m in imports(tree_of(module), package_of(module)) if m in FILES}


@pytest.mark.parametrize("module", METHOD)
def test_the_method_needs_nothing_of_the_demo(module):
    tree = tree_of(module)
    used = {name.partition(".")[0] for name in imports(tree, package_of(module))}
    assert not used & FORBIDDEN
    # Nor by importlib or __import__: no string is such a module's name.
    named = {s for s in strings(tree) if s.partition(".")[0] in FORBIDDEN and s.isprintable()}
    named = {s for s in named if all(part.isidentifier() for part in s.split("."))}
    if module == TABLE:
        named = {s for s in named if not s.startswith("demo.")}
    assert not named


@pytest.mark.parametrize("module", [module for module in FILES if module != "demo"])
def test_rooms_import_one_way(module):
    own = room_of(module)
    assert own is not None, f"{module} lies in no room: add it to ROOMS"
    allowed = ROOMS[: ROOMS.index(own) + 1]
    # The package gathers what users import; only the demo's export names it as they do.
    if own != "masa" and module.startswith("masa"):
        allowed = [room for room in allowed if room != "masa"]
    wrong = {m for m in modules_of_ours(module) if room_of(m) not in (None, *allowed)}
    assert not wrong


def test_the_files_of_figure_2_import_one_way():
    names = [f"masa.network.{name}" for name in FIGURE_2]
    inside = {m for m in FILES if m.startswith("masa.network.")}
    assert inside == set(names)
    for position, name in enumerate(names):
        assert modules_of_ours(name) & inside <= set(names[:position]), name


def test_the_maps_of_the_package_name_every_part():
    """What a newcomer meets first: the docstrings of ``masa`` and of ``masa.network``."""
    unlisted = {"masa.errors", "masa.config", "masa.files", "masa.__main__"}
    rooms = [room for room in ROOMS if room.startswith("masa.") and room not in unlisted]
    named = [masa.__doc__.find(f":mod:`{room}`") for room in rooms]
    assert named[0] != -1
    assert named == sorted(named), "the map is not in the order of imports, or lacks a part"
    for name in FIGURE_2:
        assert re.search(rf"`(masa\.network\.)?{name}`", masa.network.__doc__), name


def test_no_circles():
    arrows = {module: modules_of_ours(module) - {module} for module in FILES}
    while arrows:
        free = {module for module, needed in arrows.items() if not needed & set(arrows)}
        assert free, f"a circle among {sorted(arrows)}"
        arrows = {module: needed for module, needed in arrows.items() if module not in free}


def test_the_checks_see_hidden_imports():
    """A test of these tests."""
    source = "def f():\n    from . import a\n    import matplotlib.pyplot as p\n    g('gradio')"
    tree = ast.parse(source)
    assert set(imports(tree, "masa")) == {"masa", "masa.a", "matplotlib.pyplot"}
    assert "gradio" in set(strings(tree))
