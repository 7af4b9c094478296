"""Docstrings, which are plain text with equations, as reStructuredText, and signatures as they stand in the source."""

import ast
import inspect
import itertools
import re
import textwrap

FORMULA = set("=≤≥≠≈∝←→Σ∫√‖Π∇∈−½²")


def rst(text: str, *, formula: bool = True) -> list[str]:
    """Lines of reStructuredText that show `text` as it is: examples and what is indented as code, `names` as names.

    With `formula` a first paragraph that holds an equation has the class "formula".
    """
    lines, first = [], True
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if block.startswith(">>> "):
            lines += [*block.splitlines(), ""]
            continue
        for indented, group in itertools.groupby(block.splitlines(), lambda line: line.startswith(" ")):
            if indented:
                lines += ["::", "", *textwrap.indent(textwrap.dedent("\n".join(group)), "    ").splitlines(), ""]
                continue
            paragraph = " ".join(line.strip() for line in group)
            if first and formula and FORMULA & set(paragraph):
                lines += [".. rst-class:: formula", ""]
            lines += [inline(paragraph), ""]
            first = False
    return lines


def inline(text: str) -> str:
    """A paragraph in which nothing is markup but `names` in backticks; those of dlcore are links."""
    found = []
    for position, part in enumerate(re.split(r"`+([^`]+)`+", text)):
        if position % 2 == 0:
            found.append(re.sub(r"([\\*_|`:])", r"\\\1", part))
        elif re.fullmatch(r"dlcore(\.\w+)+", part):
            found.append(rf"\ :py:obj:`{part}`\ ")
        else:
            found.append(rf"\ ``{part.strip()}``\ ")
    return re.sub(r"^([-+•#]|\w{1,3}[.)]) ", r"\\\1 ", "".join(found).strip())


def signature(thing: object) -> tuple[str, str | None] | None:
    """(arguments, result) of a function or class with the annotations of its source; None where there is no source."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body[0]
    except (TypeError, OSError, SyntaxError, IndentationError, ValueError):
        return None
    if isinstance(node, ast.ClassDef):
        starts = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        if not starts:
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            return (f"({', '.join(map(ast.unparse, fields))})", None) if fields else None
        node = starts[0]
    if not isinstance(node, ast.FunctionDef):
        return None
    for arguments in (node.args.posonlyargs, node.args.args):
        if arguments and arguments[0].arg in ("self", "cls"):
            del arguments[0]
    return f"({ast.unparse(node.args)})", ast.unparse(node.returns) if node.returns else None


def described(source: str) -> dict[str, str]:
    """The texts below the assignments of a module, by name."""
    texts = {}
    for node, after in itertools.pairwise(ast.parse(source).body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            texts |= {t.id: inspect.cleandoc(after.value.value) for t in targets if isinstance(t, ast.Name)}
    return texts
