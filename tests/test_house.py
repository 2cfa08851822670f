"""Who may import whom, and what an import costs: the floors of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGES = {"DiffRec": "DiffRec", "L-DiffRec": "L_DiffRec", "T-DiffRec": "T_DiffRec",
            "baselines": "baselines"}  # fmt: skip
BELOW = {
    "DiffRec": {"DiffRec"},
    "L_DiffRec": {"DiffRec", "L_DiffRec"},
    "T_DiffRec": {"DiffRec", "L_DiffRec", "T_DiffRec"},
    "baselines": {"DiffRec", "T_DiffRec", "baselines"},  # which lend the weights of recency
}
ENGINE = ("DiffRec.engine", "DiffRec.interactions", "DiffRec.data_utils", "DiffRec.evaluate_utils")


def modules() -> dict[str, Path]:
    """Every module of the packages by its import name."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in (REPOSITORY / folder).rglob("*.py"):
            parts = [package, *path.relative_to(REPOSITORY / folder).with_suffix("").parts]
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def imported_by(name: str) -> set[str]:
    """The modules of ours that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return {module for module in found if module.split(".")[0] in BELOW}


def room(name: str) -> str:
    """The package's part that a module is in, as DiffRec.models."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_goes_up(name):
    package = name.split(".")[0]
    for other in imported_by(name):
        assert other.split(".")[0] in BELOW[package], f"{name} imports {other}"
        assert other.rpartition(".")[2] not in ("main", "inference") or other.startswith(
            "DiffRec.engine"
        ), f"{name} imports a command, {other}"
        if room(name).endswith(".models") and package != "baselines":
            assert room(other).endswith(".models"), f"{name} imports {other}"
        if name.startswith(ENGINE):
            allowed = (*ENGINE, "DiffRec.models")
            assert other.startswith(allowed), f"{name} imports {other}"


def test_nothing_imports_in_a_circle():
    """At import time; what only types need is not counted."""
    done, path = set(), []

    def visit(name: str) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        tree = ast.parse(MODULES[name].read_text())
        names = set()
        for node in tree.body:  # not those inside functions or TYPE_CHECKING
            if isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    names.add(inner if inner in MODULES else node.module)
        for other in sorted(names & set(MODULES)):
            if other not in BELOW or name.split(".")[0] != other:  # a package's own front door
                visit(other)
        path.pop()
        done.add(name)

    for name in sorted(MODULES):
        visit(name)


def test_an_import_takes_no_library_that_only_some_work_needs():
    """pandas, scikit-learn, pyarrow, DuckDB and matplotlib take up to a second each; and scipy,
    which DiffRec itself needs for matrices alone, a tenth."""
    code = (
        "import sys, DiffRec; assert 'scipy' not in sys.modules; "
        "import L_DiffRec, T_DiffRec, baselines; "
        "print(sorted({'pandas', 'sklearn', 'pyarrow', 'duckdb', 'matplotlib', 'implicit', "
        "'scipy.stats'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
