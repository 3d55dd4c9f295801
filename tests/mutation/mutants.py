"""The small ways in which a module can be broken, and how one is put into a running process.

It knows Python's syntax and nothing of tests. A mutant is named by its function, the line as it is written and what
was changed there, so that the name lasts while lines above it come and go.
"""

from __future__ import annotations

import ast
import gc
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Div: "/", ast.Mod: "%", ast.Pow: "**",
    ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.And: "and", ast.Or: "or",
}  # fmt: skip
# A comparison is moved at its edge, and turned into its opposite.
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "bisect_left": "bisect_right",
    "bisect_right": "bisect_left",
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


UNCHANGED = -1
"""The index of no mutant: of the module as it is, for a control."""


class Mutant(NamedTuple):
    """One way to break a module. ``lines`` are those of the statement; ``at_import``: it acts when that is imported."""

    module: str
    function: str
    line: str
    change: str
    index: int
    lines: range
    at_import: bool

    @property
    def name(self) -> tuple[str, str, str, str]:
        return self.module, self.function, self.line, self.change


class _Place(NamedTuple):
    """A slot in the tree, what to put into it, and where that is."""

    parent: ast.AST
    field: str
    position: int | None
    new: Any
    change: str
    function: str
    statement: ast.stmt | ast.ExceptHandler
    at_import: bool

    def fill(self) -> None:
        if self.position is None:
            setattr(self.parent, self.field, self.new)
        else:
            getattr(self.parent, self.field)[self.position] = self.new


def mutants_of(module: str, path: Path) -> list[Mutant]:
    """Every mutant of a module, in the order of the source."""
    source = path.read_text()
    lines = source.splitlines()
    found: list[Mutant] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for index, place in enumerate(_places(ast.parse(source))):
        line = lines[place.statement.lineno - 1].strip()
        key = (place.function, line, place.change)
        seen[key] += 1
        change = place.change if seen[key] == 1 else f"{place.change} #{seen[key]}"
        found.append(Mutant(module, place.function, line, change, index, _header(place.statement), place.at_import))
    return found


def compiled(mutant: Mutant, path: Path) -> CodeType:
    """The module's code with the mutant in it."""
    tree = ast.parse(path.read_text())
    for index, place in enumerate(_places(tree)):
        if index == mutant.index:
            place.fill()
            break
    return compile(ast.fix_missing_locations(tree), str(path), "exec")


# ---------------------------------------------------------------- where a module can be broken


def _header(statement: ast.stmt | ast.ExceptHandler) -> range:
    """The lines that are executed with a statement, without those of the statements within it."""
    if isinstance(statement, ast.ExceptHandler):
        return range(statement.body[0].lineno, (statement.body[-1].end_lineno or 0) + 1)
    body = getattr(statement, "body", None)
    if not body:
        return range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    return range(statement.lineno, max(statement.lineno + 1, body[0].lineno))


def _places(tree: ast.Module) -> Iterator[_Place]:
    return _Walk().statements(tree, "body", "", True)


class _Walk:
    """The places of a tree, each yielded while the tree is as it was parsed."""

    def __init__(self) -> None:
        # How often each name is bound in the function where the walk is.
        self._bound: Counter[str] = Counter()

    def statements(self, parent: ast.AST, field: str, function: str, at_import: bool) -> Iterator[_Place]:
        for position, statement in enumerate(getattr(parent, field)):
            if _is_excluded(statement):
                continue
            for change, new in _instead_of_statement(statement, self._bound, at_import):
                yield _Place(parent, field, position, new, change, function, statement, at_import)
            yield from self._within(statement, function, statement, at_import)

    def _within(
        self, node: ast.AST, function: str, statement: ast.stmt | ast.ExceptHandler, at_import: bool
    ) -> Iterator[_Place]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "type_params", "decorator_list", "ctx", "ops", "op"):
                continue
            if field in ("body", "orelse", "finalbody") and isinstance(value, list):
                if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    inner = f"{function}.{node.name}".lstrip(".") if isinstance(node, ast.ClassDef) else function
                    yield from self.statements(node, field, inner, at_import)
                    continue
                outer, self._bound = self._bound, _bindings(node)
                yield from self.statements(node, field, f"{function}.{node.name}".lstrip("."), False)
                self._bound = outer
                continue
            children = enumerate(value) if isinstance(value, list) else [(None, value)]
            for position, child in children:
                if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                    continue
                if isinstance(child, ast.ExceptHandler):
                    if not isinstance(child.body[0], ast.Raise):
                        again = ast.copy_location(ast.Raise(), child.body[0])
                        yield _Place(child, "body", 0, again, "not caught", function, child, at_import)
                    yield from self._within(child, function, statement, at_import)
                    continue
                for change, new in _instead_of_expression(child):
                    yield _Place(
                        node, field, position, ast.copy_location(new, child), change, function, statement, at_import
                    )
                if field in ("test", "ifs") and isinstance(child, ast.expr) and not _has_opposite(child):
                    opposite = ast.copy_location(ast.UnaryOp(ast.Not(), child), child)
                    yield _Place(node, field, position, opposite, _negated(child), function, statement, at_import)
                inside = at_import and not isinstance(child, ast.Lambda)
                yield from self._within(child, function, statement, inside)


def _is_excluded(statement: ast.stmt) -> bool:
    """What only the type checker, a reader or nobody at all would notice."""
    if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Assert, ast.Global, ast.Pass)):
        return True
    if isinstance(statement, ast.If) and ast.unparse(statement.test) in ("TYPE_CHECKING", "not TYPE_CHECKING"):
        return True
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id in ("TYPE_CHECKING", "__slots__")
    if isinstance(statement, ast.Raise):  # what cannot happen: an assertion by another name
        return isinstance(statement.exc, ast.Call) and ast.unparse(statement.exc.func) == "AssertionError"
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _bindings(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Counter[str]:
    """How often each name is bound in a function: to take away the only binding of one would be no art to notice."""
    arguments = function.args
    bound = Counter(a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] += 1
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            bound.update(2 * node.names)
    return bound


def _instead_of_statement(statement: ast.stmt, bound: Counter[str], at_import: bool) -> Iterator[tuple[str, ast.stmt]]:
    def at(new: ast.stmt) -> ast.stmt:
        return ast.copy_location(new, statement)

    match statement:
        case ast.Return(value=None):
            yield "removed", at(ast.Pass())
        case ast.Return(value=ast.Constant(value=None | True | False)):
            return
        case ast.Return():
            yield "return None", at(ast.Return(ast.Constant(None)))
        case ast.Break():
            yield "break → continue", at(ast.Continue())
        case ast.Continue():
            yield "continue → break", at(ast.Break())
        case ast.Raise() | ast.Delete() | ast.AugAssign():
            yield "removed", at(ast.Pass())
        case ast.Expr(value=value) if not isinstance(value, (ast.Yield, ast.YieldFrom, ast.Await)):
            yield "removed", at(ast.Pass())
        case ast.Assign(targets=targets) if not at_import:
            names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            stored = [
                t for target in targets for t in ast.walk(target) if isinstance(getattr(t, "ctx", None), ast.Store)
            ]
            plain = [node for node in stored if isinstance(node, ast.Name)]
            if names and all(bound[node.id] > 1 for node in plain):
                yield "removed", at(ast.Pass())
        case ast.AnnAssign(target=ast.Attribute(), value=ast.expr()) if not at_import:
            yield "removed", at(ast.Pass())
    if isinstance(statement, ast.AugAssign) and type(statement.op) in _ARITHMETIC:
        new = _ARITHMETIC[type(statement.op)]
        change = f"{_SYMBOLS[type(statement.op)]}= → {_SYMBOLS[new]}="
        yield change, at(ast.AugAssign(statement.target, new(), statement.value))


def _instead_of_expression(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Compare(left=left, ops=operators, comparators=comparators):
            for position, operator in enumerate(operators):
                for new in _COMPARISONS[type(operator)]:
                    changed = [*operators[:position], new(), *operators[position + 1 :]]
                    change = f"{_SYMBOLS[type(operator)]} → {_SYMBOLS[new]}"
                    yield change, ast.Compare(left, changed, comparators)
        case ast.BoolOp(op=operator, values=values):
            opposite = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield f"{_SYMBOLS[type(operator)]} → {_SYMBOLS[type(opposite)]}", ast.BoolOp(opposite, values)
            for position, value in enumerate(values):
                rest = [*values[:position], *values[position + 1 :]]
                yield f"without {_short(value)}", rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            if not (_is_text(left) or _is_text(right)):
                new_operator = _ARITHMETIC[type(operator)]
                change = f"{_SYMBOLS[type(operator)]} → {_SYMBOLS[new_operator]}"
                yield change, ast.BinOp(left, new_operator(), right)
        case ast.UnaryOp(op=ast.Not() | ast.USub() as operator, operand=operand):
            yield f"without {'not' if isinstance(operator, ast.Not) else '-'}", operand
        case ast.Constant(value=bool() as value):
            yield f"{value} → {not value}", ast.Constant(not value)
        case ast.Constant(value=(int() | float()) as number):
            for other in (number + 1, number - 1):
                yield f"{number} → {other}", ast.Constant(other)
        case ast.Name(id=name, ctx=ast.Load()) if name in _NAMES:
            yield f"{name} → {_NAMES[name]}", ast.Name(_NAMES[name], ast.Load())


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))


def _has_opposite(test: ast.expr) -> bool:
    """Whether the opposite of a condition is among the mutants of its expression already."""
    if isinstance(test, ast.Compare):
        return len(test.ops) == 1
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _negated(test: ast.expr) -> str:
    return f"not ({_short(test)})"


def _short(node: ast.expr, longest: int = 50) -> str:
    text = ast.unparse(node)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


# ---------------------------------------------------------------- breaking a process


class CannotPatch(Exception):
    """The mutant does not fit into functions that exist already: the module has to be imported with it."""


def patch(path: Path, mutant: Mutant) -> None:
    """Give every function of an imported module that the mutant is about its changed code, whoever holds it."""
    before = compile(path.read_text(), str(path), "exec")
    changed = dict(_changes(before, compiled(mutant, path)))
    if not changed:
        raise CannotPatch("no function differs")
    done = 0
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == str(path):
            new = changed.get(_key(function.__code__))
            if new is not None:
                try:
                    function.__code__ = new
                except ValueError as error:
                    raise CannotPatch(str(error)) from None
                done += 1
    if not done:
        raise CannotPatch("nobody holds the function")


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _changes(before: CodeType, after: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (before, after)]
    by_key = {_key(code): code for code in inner[1]}
    for old in inner[0]:
        new = by_key.get(_key(old))
        if new is not None and new != old:
            yield _key(new), new
            yield from _changes(old, new)


class MutantFinder(MetaPathFinder):
    """Imports the mutant in place of its module."""

    def __init__(self, package: str, mutant: Mutant, path: Path) -> None:
        self._name = f"{package}.{mutant.module}"
        self._code = compiled(mutant, path)
        self._path = path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        spec = spec_from_file_location(name, self._path, loader=self)  # type: ignore[arg-type]
        assert spec is not None
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)

    def install(self) -> None:
        sys.meta_path.insert(0, self)
