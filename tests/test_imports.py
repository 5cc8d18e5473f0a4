"""Imports point one way: the method never needs the demo, and its files form no circle."""

import ast
from pathlib import Path

import pytest

import masa

ROOT = Path(masa.__file__).resolve().parent
FORBIDDEN = {"gradio", "matplotlib", "demo", "app"}
TABLE = "masa.__main__"  # may name modules of demo, which it imports when their command is called


def name_of(path):
    """The module behind a file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
LIBRARY = [m for m in FILES if not m.startswith("masa.commands") and m not in (TABLE, "masa")]
# Figure 2 of the paper, bottom to top.
CORE = ["config", "progress", "tiling", "layers", "encoder", "matching", "transfer"]
CORE += ["adaptation", "aggregation", "decoder", "model"]


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


def modules_of_masa(module):
    """Modules of masa that a module imports."""
    return {m for m in imports(tree_of(module), package_of(module)) if m in FILES}


@pytest.mark.parametrize("module", FILES)
def test_nothing_of_the_demo(module):
    tree = tree_of(module)
    used = {name.partition(".")[0] for name in imports(tree, package_of(module))}
    assert not used & FORBIDDEN
    # Nor by importlib or __import__: no string is such a module's name.
    named = {s for s in strings(tree) if s.partition(".")[0] in FORBIDDEN and s.isprintable()}
    named = {s for s in named if all(part.isidentifier() for part in s.split("."))}
    if module == TABLE:
        named = {s for s in named if not s.startswith("demo.")}
    assert not named


@pytest.mark.parametrize("module", LIBRARY)
def test_libraries_know_nothing_of_the_command_line(module):
    above = {m for m in modules_of_masa(module) if m == TABLE or m.startswith("masa.commands")}
    assert not above
    assert "masa" not in modules_of_masa(module)  # the package itself gathers, it is not a part


def test_the_method_s_files_point_one_way():
    """Each file of figure 2 imports only files before it."""
    for position, name in enumerate(CORE):
        found = {m.removeprefix("masa.") for m in modules_of_masa(f"masa.{name}")}
        assert found <= set(CORE[:position]), name


def test_training_and_measuring_sit_on_top():
    on_top = {
        f"masa.{name}"
        for name in (
            "train",
            "evaluate",
            "data",
            "losses",
            "shifts",
            "ladder",
            "robustness",
            "bench",
        )
    }
    below = [*CORE, "cost", "canvas", "predictor", "weights", "device", "images", "metrics"]
    for name in below:
        assert not modules_of_masa(f"masa.{name}") & on_top, name


def test_no_circles():
    arrows = {module: modules_of_masa(module) - {module} for module in FILES}
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
