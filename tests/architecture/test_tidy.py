"""The style guide, enforced: sizes, names, first lines, and what the engine may know."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from clary.model.kinds import nouns
from clary.model.service import Services

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
BANNED_NAMES = {"utils", "helpers", "common", "misc", "manager", "base"}
# The kernel's folders must work for every kind, so they may name none.
KINDLESS = ("engine", "reconcile", "gateway", "wire", "store")
# Nouns of the API that are plain words of the kernel as well.
WORDS = {
    "Action",
    "Context",
    "Job",
    "Image",
    "App",
    "Model",
    "Domain",
    "Space",
    "Hub",
    "Project",
    "Device",
    "Algorithm",
}


@cache
def sources(folder: str = "clary") -> tuple[Path, ...]:
    return tuple(sorted((ROOT / folder).rglob("*.py")))


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sources():
        yield path, ast.parse(path.read_text())


def where(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_module_opens_with_one_sentence() -> None:
    missing = [where(path) for path, tree in trees() if not ast.get_docstring(tree)]
    assert missing == []


def test_files_and_functions_stay_small() -> None:
    large: list[str] = []
    for path, tree in trees():
        if path.read_text().count("\n") > FILE_LINES_MAX:
            large.append(where(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= FUNCTION_LINES_MAX:
                    large.append(f"{where(path, node.lineno)} {node.name}")
    assert large == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [where(path) for path in sources() if path.stem in BANNED_NAMES] == []


def test_no_exception_is_swallowed() -> None:
    swallowed: list[str] = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or (
                    isinstance(node.type, ast.Name)
                    and node.type.id in ("Exception", "BaseException")
                )
                if broad and all(isinstance(one, ast.Pass) for one in node.body):
                    swallowed.append(where(path, node.lineno))
    assert swallowed == []


def test_the_kernel_names_no_kind() -> None:
    """A special case lives with its kind."""
    service = Services().get("sagemaker")
    assert service is not None
    pattern = re.compile(rf"[\"']({'|'.join(set(nouns(service)) - WORDS)})[\"']")
    found = [
        f"{where(path, number)}: {line.strip()}"
        for folder in KINDLESS
        for path in sources(f"clary/{folder}")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_a_kind_lives_in_the_file_of_its_name() -> None:
    from botocore import xform_name

    misplaced: list[str] = []
    for path in sources("clary/resources"):
        for found in re.finditer(r'= Resource\(\s*"(\w+)"', path.read_text()):
            if path.stem != xform_name(found.group(1)):
                misplaced.append(f"{where(path)}: {found.group(1)}")
    assert misplaced == []


def test_tests_do_not_sleep_for_luck() -> None:
    """A wait has a condition: sleep may stand only inside a loop."""
    lucky: list[str] = []
    for path in sources("tests"):
        if "scripts" in path.parts:
            continue  # programs that tests run, which may take their time
        tree = ast.parse(path.read_text())
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.While | ast.For)]
        inside = {id(child) for loop in loops for child in ast.walk(loop)}
        for node in ast.walk(tree):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if named and node.func.attr == "sleep" and id(node) not in inside:
                target = node.func.value
                if isinstance(target, ast.Name) and target.id == "time":
                    lucky.append(where(path, node.lineno))
    assert lucky == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout knows what is tracked")
def test_nothing_generated_is_tracked() -> None:
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    generated = [name for name in run.stdout.split() if name.endswith((".pyc", ".db", ".tar.gz"))]
    assert generated == []
