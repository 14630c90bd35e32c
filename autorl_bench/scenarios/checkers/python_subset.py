"""The part of Python that a short function needs, and no more.

The sandbox keeps code from the network and from the files of others, but code in it may read the installed packages,
and the reference solutions of a public benchmark are in one. So before it runs, a submitted function is held to a
subset without a way to a module's or a frame's inside: a list of imports, no names or attributes that begin with an
underscore, no classes and no pattern matching (whose ``__match_args__`` read attributes by text).
"""

from __future__ import annotations

import ast

#: What may be imported from where; nothing here leads back to ``sys``.
IMPORTS: dict[str, frozenset[str]] = {
    "collections": frozenset({"Counter", "defaultdict", "deque"}),
    "functools": frozenset({"cache", "lru_cache", "reduce"}),
    "math": frozenset({"ceil", "comb", "factorial", "floor", "gcd", "inf", "isqrt", "lcm", "pi", "prod", "sqrt"}),
    "itertools": frozenset({"accumulate", "chain", "combinations", "permutations", "product", "takewhile"}),
    "typing": frozenset({"Any", "Dict", "Iterable", "List", "Optional", "Sequence", "Set", "Tuple", "Union"}),
}
#: Modules that may be imported whole: written in C, they hold functions and numbers only.
_WHOLE = frozenset({"math", "itertools"})

_NAMES = """
    abs all any bin bool chr dict divmod enumerate filter float frozenset hex int isinstance iter len list map max min
    next ord pow print range repr reversed round set slice sorted str sum tuple zip
    ArithmeticError Exception IndexError KeyError LookupError StopIteration TypeError ValueError ZeroDivisionError
    True False None
"""
#: All the builtins that the function finds when it runs.
BUILTINS = frozenset(_NAMES.split())
_FORBIDDEN = (ast.ClassDef, ast.Match, ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
#: Attributes without an underscore in front that lead from generators and tracebacks to frames.
_FRAMES = frozenset({"gi_frame", "gi_code", "gi_yieldfrom", "tb_frame", "tb_next", "f_back", "f_globals", "f_locals"})
_MAX_CODE = 4_000


def why_refused(code: str) -> str | None:
    """Why ``code`` is not in the subset; None where it is."""
    if len(code) > _MAX_CODE:
        return f"more than {_MAX_CODE} characters"
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"not Python: {error}"
    reasons = (_refusal(node) for node in ast.walk(tree))
    return next((reason for reason in reasons if reason is not None), None)


def _refusal(node: ast.AST) -> str | None:
    match node:
        case ast.Import(names=names):
            return next((f"import {n.name}" for n in names if n.name not in _WHOLE), None)
        case ast.ImportFrom(module=module, names=names, level=level):
            known = IMPORTS.get(module or "", frozenset()) if level == 0 else frozenset()
            return next(
                (f"from {'.' * level}{module or ''} import {n.name}" for n in names if n.name not in known), None
            )
        case ast.Name(id=name) if name.startswith("_") and name != "_":
            return f"the name {name}"
        case ast.Attribute(attr=name) if name.startswith("_") or name in _FRAMES:
            return f"the attribute {name}"
        case _ if isinstance(node, _FORBIDDEN):
            return f"a statement of kind {type(node).__name__}"
    return None
