"""Reads the rules of the house off a source tree: who imports whom, how long a function is, what a documented signature says.

Each check takes a tree and gives one line a fault, so that tests/test_architecture.py can hold both the real tree and a small one
with planted faults to the same rules. Imports inside functions and under TYPE_CHECKING count like all others.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One module's import of another of the same package."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}, imports {self.target}"


class Tree:
    """A package's files, parsed. A folder's front door, its `__init__.py`, goes by the folder's own name."""

    def __init__(self, folder: Path) -> None:
        self.package = folder.name
        self.modules: dict[str, ast.Module] = {}
        self.doors: set[str] = set()
        for path in sorted(folder.rglob("*.py")):
            parts = (self.package, *path.relative_to(folder).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts = parts[:-1]
                self.doors.add(".".join(parts))
            self.modules[".".join(parts)] = ast.parse(path.read_text("utf-8"))

    @cached_property
    def imports(self) -> list[Import]:
        """Each import of one of the tree's modules by another."""
        found = []
        for name, module in self.modules.items():
            for node in ast.walk(module):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    targets = self._targets(name, node) & self.modules.keys() - {name}
                    found += [Import(name, target, node.lineno) for target in sorted(targets)]
        return found

    def _targets(self, name: str, node: ast.Import | ast.ImportFrom) -> set[str]:
        """The modules that a statement in the module `name` asks for."""
        if isinstance(node, ast.Import):
            return {alias.name for alias in node.names}
        folder = name.split(".") if name in self.doors else name.split(".")[:-1]
        start = folder[: len(folder) - node.level + 1] if node.level else []
        base = ".".join([*start, *([node.module] if node.module else [])])
        public = self._public(base) if base in self.doors else set()
        return {
            dotted if (dotted := f"{base}.{alias.name}") in self.modules and alias.name not in public else base
            for alias in node.names
        }

    def _public(self, door: str) -> set[str]:
        """What a front door gives out by name, in `__all__`."""
        for node in self.modules[door].body:
            if isinstance(node, ast.Assign) and any(
                isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets
            ):
                return set(ast.literal_eval(node.value))
        return set()

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Each function and method, with the name of its module."""
        for name, module in self.modules.items():
            yield from ((name, node) for node in ast.walk(module) if isinstance(node, Function))


def below(name: str, folder: str) -> str:
    """What of `folder` the module `name` belongs to: a file or a folder in it; "" for its front door and for what is elsewhere."""
    return name[len(folder) + 1 :].partition(".")[0] if name.startswith(folder + ".") else ""


def upward(tree: Tree, floors: Mapping[str, Sequence[str]]) -> list[str]:
    """Imports that do not lead to a lower floor. `floors`: of a folder, the files and folders on each floor, the lowest first."""
    faults = []
    for folder, names in floors.items():
        height = {name: number for number, floor in enumerate(names) for name in floor.split()}
        there = {below(name, folder) for name in tree.modules} - {""}
        faults += [f"{folder}.{name} is on no floor" for name in sorted(there - set(height))]
        faults += [f"{folder}.{name} has a floor but is not there" for name in sorted(set(height) - there)]
        for each in tree.imports:
            source, target = below(each.source, folder), below(each.target, folder)
            if source != target and source in height and target in height and height[source] <= height[target]:
                faults.append(f"{each}, which is not on a lower floor")
    return faults


def past_front_doors(tree: Tree, exceptions: Sequence[str] = ()) -> list[str]:
    """Imports from outside a room that do not go through its front door. `exceptions`: modules that may."""
    faults = []
    for each in tree.imports:
        room = f"{tree.package}.{below(each.target, tree.package)}"
        outside = below(each.source, tree.package) != below(each.target, tree.package)
        if outside and each.target != room and each.source not in exceptions:
            faults.append(f"{each}, past the front door {room}")
    return faults


def circles(tree: Tree) -> list[str]:
    """Circles among the files and folders of any folder. A file that imports its own folder's front door makes one, too."""
    faults = [
        f"{each}, the front door of its own folder"
        for each in tree.imports
        if each.target in tree.doors and each.source.startswith(each.target + ".")
    ]
    for folder in sorted(tree.doors):
        edges: dict[str, set[str]] = {}
        for each in tree.imports:
            source, target = below(each.source, folder), below(each.target, folder)
            if source and target and source != target:
                edges.setdefault(source, set()).add(target)
        reached = {name: _reach(name, edges) for name in edges}
        rings = {
            frozenset(to for to in reached[name] if name in reached.get(to, ()))
            for name in edges
            if name in reached[name]
        }
        faults += [f"{folder}: a circle of {', '.join(sorted(ring))}" for ring in rings]
    return faults


def _reach(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    to_do = list(edges.get(start, ()))
    while to_do:
        name = to_do.pop()
        if name not in found:
            found.add(name)
            to_do += edges.get(name, ())
    return found


def long_functions(tree: Tree, lines: int) -> list[str]:
    """Functions whose body, without its docstring, has more lines than that."""
    faults = []
    for name, node in tree.functions():
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        if length > lines:
            faults.append(f"{name}.{node.name}, line {node.lineno}: a body of {length} lines")
    return faults


def many_parameters(tree: Tree, most: int) -> list[str]:
    """Functions with more parameters than that; `self` and `cls` are not counted."""
    faults = []
    for name, node in tree.functions():
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        count = sum(each is not None and each.arg not in ("self", "cls") for each in every)
        if count > most:
            faults.append(f"{name}.{node.name}, line {node.lineno}: {count} parameters")
    return faults


def silent_doors(tree: Tree) -> list[str]:
    """Folders whose front door does not say what the folder is for."""
    return [f"{door} has no docstring" for door in sorted(tree.doors) if not ast.get_docstring(tree.modules[door])]


def documented(page: str) -> Iterator[tuple[str, str]]:
    """Each name that a Python block of the page lists, with its room: the first word of the heading above.

    A signature is written out as `name(parameters) -> result`, over several lines if need be, the later ones indented. A name alone
    is listed as such, several separated by commas. What follows `#` is a comment.
    """
    for heading, section in re.findall(r"^## (\w+)[^\n]*\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        for block in re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            plain = re.sub(r"(?m)\s*#.*$", "", block)
            for line in re.sub(r"\n\s+", " ", plain).splitlines():
                if line:
                    yield from ((heading, each) for each in ([line] if "(" in line else line.split(", ")))


def wrong_signatures(page: str, package: str) -> list[str]:
    """Where the page's signatures are not those of the code. Annotations of parameters are left out on the page."""
    faults = []
    for room, line in documented(page):
        found: object = importlib.import_module(f"{package}.{room}")
        name = line.partition("(")[0]
        try:
            for part in name.split("."):
                found = getattr(found, part)
        except AttributeError:
            faults.append(f"{room}: {name} is not there")
            continue
        if "(" in line and callable(found) and _tidy(line, name) != (real := _tidy(name + _shown(found), name)):
            faults.append(f"{room}: {line}\n    should be {real}")
    return faults


def _shown(function: object) -> str:
    assert callable(function)
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    if "self" in signature.parameters:
        parameters = parameters[1:]
    text = str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    result = signature.return_annotation
    if isinstance(function, type) or result is inspect.Signature.empty:
        return text
    return f"{text} -> {result if isinstance(result, str) else inspect.formatannotation(result)}"


def _tidy(line: str, name: str) -> str:
    """A signature as ast writes it, so that quotes and spaces do not count."""
    text = line.removeprefix(name)
    return (
        ast.unparse(ast.parse(f"def f{text}: ...")).removeprefix("def f").removesuffix(":\n    ...").replace("'", '"')
    )
