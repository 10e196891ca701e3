"""The code behind an artifact, as part of the artifact's identity: the definitions that a stage reaches.

Starting at some functions and classes, every name that a definition uses is followed to the definition behind it,
through imports, without importing anything. The name and the body of a definition count; comments, docstrings, layout,
type hints, and the name and place of a module do not. Code that only stores, moves or reports (`_PLUMBING`) does not
decide on any content and is left out. Implementations selected at run time, such as a generator, are not followed; the
stage that selects one names it as a root.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TypeAlias

from v2a_dpo.artifacts.fingerprint import checksum, fingerprint

_PACKAGE = "v2a_dpo"
#: Modules and rooms that do not decide on the content of an artifact.
_PLUMBING = tuple(
    f"{_PACKAGE}.{name}"
    for name in (
        "artifacts",
        "alignment.processes",
        "alignment.run",
        "cli",
        "config",
        "errors",
        "models.catalog",
        "progress",
        "scoring.catalog",
        "tracking",
        "weights",
        "worker_pool",
    )
)
_DIGEST_DIGITS = 12

_log = logging.getLogger(__name__)

#: A function or class, or its name as `module:name` or `module:Class.member`.
CodeRoot: TypeAlias = Callable[..., object] | str


@dataclass(frozen=True)
class Code:
    """The definitions behind an artifact: name -> digest of the body. Definitions of one name share an entry."""

    functions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """A 32-digit hexadecimal digest of all definitions."""
        return fingerprint(self.functions)

    def changed(self, other: Mapping[str, str]) -> list[str]:
        """The sorted names of definitions that differ from `other`, or that only one of the two has."""
        names = self.functions.keys() | other.keys()
        return sorted(name for name in names if self.functions.get(name) != other.get(name))


NO_CODE = Code()


def warn_of_other_code(where: str, amount: str, changed: list[str]) -> None:
    """Warns that finished work at `where` is going to be made again because only these definitions changed."""
    _log.warning(
        "%s: %s were made by other code and are made again; changed: %s. --keep-artifacts keeps them as they are.",
        where, amount, ", ".join(changed),
    )  # fmt: skip


def code_of(*roots: CodeRoot) -> Code:
    """The code that `roots` reach. A class counts with all its members, a method with the members that it uses.

    Raises LookupError when one of them is not defined in this package.
    """
    bodies: dict[str, list[str]] = {}
    for module, name in _reached(tuple(map(_address, roots))):
        content = _module(module).definitions[name]
        if content:  # an abstract method has no body: a new one changes nothing
            bodies.setdefault(name, []).append(checksum(content.encode()))
    return Code({name: fingerprint(sorted(digests))[:_DIGEST_DIGITS] for name, digests in sorted(bodies.items())})


def source_files(*roots: CodeRoot) -> list[Path]:
    """The source files of the definitions that `roots` reach, sorted."""
    return sorted({_module(module).file for module, _ in _reached(tuple(map(_address, roots)))})


def _address(root: CodeRoot) -> tuple[str, str]:
    if isinstance(root, str):
        module, _, name = root.partition(":")
        return module, name
    return root.__module__, root.__qualname__


@lru_cache
def _reached(roots: tuple[tuple[str, str], ...]) -> frozenset[tuple[str, str]]:
    """The (module, name) of every definition that `roots` reach, themselves included."""
    reached: set[tuple[str, str]] = set()
    waiting: list[tuple[str, str]] = []
    for module, name in roots:
        places = _resolve(module, name)
        if not places:
            raise LookupError(f"{module} defines no {name}")
        waiting += places
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting += _module(place[0]).references(place[1])
    return frozenset(reached)


def _resolve(module: str, name: str) -> list[tuple[str, str]]:
    """The places that define `name` as used in `module`; empty for other packages, plumbing, and unknown names."""
    if not _is_ours(module):
        return []
    content = _module(module)
    if name in content.classes:
        return [(module, part) for part in content.classes[name]]
    return [(module, name)] if name in content.definitions else content.imported(name)


def _follow(module: str, name: str, attribute: str) -> list[tuple[str, str]]:
    """The places that define an imported name: `name` of `module`, or `attribute` of the module `module.name`."""
    if not name:
        return _resolve(module, attribute) if attribute else []
    if _is_ours(module) and _source(f"{module}.{name}") is not None:
        return _resolve(f"{module}.{name}", attribute) if attribute else []
    return _resolve(module, name)


def _is_ours(module: str) -> bool:
    if module != _PACKAGE and not module.startswith(f"{_PACKAGE}."):
        return False
    return not any(module == name or module.startswith(f"{name}.") for name in _PLUMBING)


@cache
def _source(module: str) -> Path | None:
    """The source file of a module by its name; the import system would import the packages above it."""
    path = Path(__file__).parents[1].joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _module(name: str) -> _Module:
    file = _source(name)
    if file is None:
        raise LookupError(f"no module {name}")
    return _Module(name, file)


class _Module:
    """The definitions, imports and references of one source file."""

    def __init__(self, name: str, file: Path) -> None:
        self.file = file
        #: Definition -> the part of it that counts, as text; a class's members are `Class.member`, its rest is `Class`.
        self.definitions: dict[str, str] = {}
        #: Class -> the names of its parts in `definitions`.
        self.classes: dict[str, list[str]] = {}
        self._name = name
        #: Imported name -> (module, name there or "" for the module itself).
        self._imports: dict[str, tuple[str, str]] = {}
        self._nodes: dict[str, list[ast.AST]] = {}
        self._statements(ast.parse(file.read_bytes()).body)
        self._used = {key: list(_used(nodes, self._imports)) for key, nodes in self._nodes.items()}
        self.definitions = {key: "\n".join(map(_text, nodes)) for key, nodes in self._nodes.items()}

    def imported(self, name: str) -> list[tuple[str, str]]:
        """The places that define a name which this module imports."""
        return _follow(*self._imports[name], "") if name in self._imports else []

    def references(self, name: str) -> list[tuple[str, str]]:
        """The places that define the names which a definition uses."""
        owner = name.partition(".")[0]
        places: list[tuple[str, str]] = []
        for used, attribute, imported in self._used[name]:
            if imported is not None:
                places += _follow(*imported, attribute)
            elif used in ("self", "cls"):
                member = f"{owner}.{attribute}"
                places += [(self._name, member)] if member in self.definitions else []
            else:
                places += _resolve(self._name, used)
        return places

    def _statements(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._nodes.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                self._class(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                for target in _targets(node):
                    self._nodes.setdefault(target, []).append(node)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._imports.update(_imports(node))
            elif isinstance(node, ast.If) and not _is_type_checking(node):
                self._statements([*node.body, *node.orelse])
            elif isinstance(node, ast.Try):
                self._statements([*node.body, *(part for handler in node.handlers for part in handler.body)])

    def _class(self, node: ast.ClassDef) -> None:
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
        rest: list[ast.stmt] = [item for item in node.body if item not in methods]
        self._nodes[node.name] = [ast.ClassDef(node.name, node.bases, node.keywords, rest, node.decorator_list)]
        for method in methods:
            self._nodes.setdefault(f"{node.name}.{method.name}", []).append(method)
        self.classes[node.name] = list(dict.fromkeys([node.name, *(f"{node.name}.{item.name}" for item in methods)]))


def _targets(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[str]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield from (item.id for item in ast.walk(target) if isinstance(item, ast.Name))


def _is_type_checking(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imports(node: ast.AST) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each name that an import statement in `node` binds, with its (module, name in that module)."""
    for item in ast.walk(node):
        if isinstance(item, ast.ImportFrom) and item.module:
            for alias in item.names:
                yield alias.asname or alias.name, (item.module, alias.name)
        elif isinstance(item, ast.Import):
            for alias in item.names:
                yield alias.asname or alias.name.partition(".")[0], (alias.name if alias.asname else _PACKAGE, "")


def _used(
    nodes: list[ast.AST], imports: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str, tuple[str, str] | None]]:
    """The names that a definition reads, each with the attribute taken of it, or "", and the origin of its import."""
    for node in nodes:
        origins = {**imports, **dict(_imports(node))}
        for item in ast.walk(node):
            if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name):
                yield item.value.id, item.attr, origins.get(item.value.id)
            elif isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load):
                yield item.id, "", origins.get(item.id)


def _text(node: ast.AST) -> str:
    """The part of a definition that counts: its syntax without docstrings, type hints and imports; "" for none."""
    bare = _Bare().visit(node)
    if isinstance(bare, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(bare.body[0], ast.Pass):
        return ""
    return ast.dump(bare, annotate_fields=False)


class _Bare(ast.NodeTransformer):
    """Removes the parts of a definition that change no result."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        # A field without a value: its name counts, and its place among the others.
        return ast.Expr(node.target) if node.value is None else ast.Assign([node.target], node.value)

    def _block(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        if not isinstance(node, ast.ClassDef):
            node.returns = None
        self.generic_visit(node)
        node.body = [item for item in node.body if not _is_idle(item)] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _block  # noqa: N815 - ast's names


def _is_idle(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
