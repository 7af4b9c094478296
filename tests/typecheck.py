"""The run-time type checker of the test suite: jaxtyping's shapes, beartype, and an int where a float is asked for.

`jaxtyping.install_import_hook` builds the checks of a function (4 ms) where it is defined: for all 2,000 of dlcore in
each process, and anew whenever a factory makes the `init` and `apply` of a layer. This hook builds them at the first
call, once for all functions that the same `def` made with the same annotations. The marked code is kept in `.cache/`.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import marshal
import os
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import beartype as library
from jaxtyping import jaxtyped

check = library.beartype(conf=library.BeartypeConf(is_pep484_tower=True))  # PEP 484: an int is a float

CHECKS: dict[tuple, Callable] = {}
"""The checks of the functions that one `def` made, by its code and its annotations."""


CACHE = Path(__file__).parents[1] / ".cache" / "checked"
HOOK = b"%s %d %s" % (importlib.util.MAGIC_NUMBER, sys.flags.optimize, Path(__file__).read_bytes())
"""What the code of a source depends on beside it: the version of byte-code, the flag -O and this file."""


class _Calls(threading.local):
    """The functions whose calls are being checked, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Callable] = []
        self.unchecked = False


CALLS = _Calls()


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Functions as their users call them: nothing but themselves looks at the types."""
    CALLS.unchecked = True
    try:
        yield
    finally:
        CALLS.unchecked = False


def checked(function: Callable) -> Callable:
    """The function with its arguments and its result checked."""
    checks = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checks
        if CALLS.unchecked:
            return function(*args, **kwargs)
        if checks is None:
            # The arguments of a ParamSpec have no hash.
            hints = ((name, hint if hint.__hash__ else id(hint)) for name, hint in function.__annotations__.items())
            defined = (function.__code__, *hints)
            checks = CHECKS.get(defined) or CHECKS.setdefault(defined, _build(function))
        stack = CALLS.stack
        depth = len(stack)
        stack.append(function)
        try:
            return checks(*args, **kwargs)
        finally:
            del stack[depth:]

    return call


def _build(function: Callable) -> Callable:
    """Checks by the signature of this function, around whichever is being called."""
    calls = CALLS

    def proceed(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return calls.stack[-1](*args, **kwargs)

    # With the function's own globals, in which annotations that are strings are looked up.
    proceed = types.FunctionType(proceed.__code__, function.__globals__, function.__name__, None, proceed.__closure__)
    return jaxtyped(typechecker=check)(functools.wraps(function)(proceed))


MARKS = {"__checked__": checked, "__checked_class__": jaxtyped(typechecker=check)}


class _Marked(ast.NodeTransformer):
    """Puts `checked` nearest to each function, and jaxtyping's own, for dataclasses, outermost around each class."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(_name("__checked__", node))
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.decorator_list.insert(0, _name("__checked_class__", node))
        return self.generic_visit(node)


def _name(name: str, where: ast.stmt) -> ast.expr:
    return ast.copy_location(ast.Name(name, ast.Load()), where)


def kept(path: str, source: bytes, folder: Path = CACHE) -> types.CodeType:
    """The code of a marked source, compiled once by all processes: its file is named by all that it depends on."""
    place = folder / hashlib.sha256(b"\0".join((HOOK, path.encode(), source))).hexdigest()
    try:
        return marshal.loads(place.read_bytes())
    except (OSError, EOFError, ValueError, TypeError):  # not there, or damaged
        code = compile(_Marked().visit(ast.parse(source)), path, "exec", dont_inherit=True)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time alone
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(marshal.dumps(code))
        os.replace(file.name, place)
    return code


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> types.CodeType:
        # Neither from nor into __pycache__, which is of the source as it stands.
        path = self.get_filename(fullname)
        return kept(path, self.get_data(path))

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module).update(MARKS)
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None) -> Any:
        if name.split(".")[0] != "dlcore":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Check every function of dlcore that is imported from here on."""
    sys.meta_path.insert(0, _Finder())
