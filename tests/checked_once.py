"""How are the types of every function checked without tests being about nothing else?

jaxtyping's own way binds each call's arguments by name, checks the parameters, calls, and then
checks the parameters again beside what is returned: on networks of toy size that is several times
the cost of the computation. Here beartype wraps the function itself, in a scope for the names of
its axes as jaxtyping has it, so that each value is looked at once: the same promises, the same
error. Functions whose shapes speak of their arguments' values ("B {length}"), and those that run
in pieces (generators, coroutines), stay with jaxtyping.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping._storage import get_shape_memo, shape_str  # there is no public way to them

JAXTYPED = jaxtyping.jaxtyped
NAMES = JAXTYPED("context")  # a fresh scope for the names of axes, every time it is entered
CHECK = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def install() -> None:
    """Let jaxtyping's import hook, which asks for this name, decorate functions this way."""
    jaxtyping.jaxtyped = jaxtyped


def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    """Check a function's types by beartype, once a call; hand anything else to jaxtyping."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(fn):
        return _made_of_checked(fn, typechecker)
    if isinstance(fn, (classmethod, staticmethod)):
        return type(fn)(jaxtyped(fn.__func__, typechecker=typechecker))
    if not inspect.isfunction(fn) or _in_pieces(fn):
        return JAXTYPED(fn, typechecker=typechecker)
    said = fn.__annotations__
    if not said:
        return fn
    known = {name: _known(hint, fn) for name, hint in said.items()}
    if any("{" in str(hint) for hint in known.values()):
        return JAXTYPED(fn, typechecker=typechecker)
    fn.__annotations__ = known
    checked = CHECK(fn)
    fn.__annotations__ = said
    return _scoped(fn, checked)


def _made_of_checked(kind: type, typechecker: Any) -> type:
    """Check what a dataclass is made of; other classes stay as they are."""
    begin = vars(kind).get("__init__")
    if is_dataclass(kind) and inspect.isfunction(begin) and not hasattr(begin, "__wrapped__"):
        kind.__init__ = jaxtyped(begin, typechecker=typechecker)
    return kind


def _in_pieces(fn: Callable) -> bool:
    return (
        inspect.isgeneratorfunction(fn)
        or inspect.iscoroutinefunction(fn)
        or inspect.isasyncgenfunction(fn)
    )


def _known(hint: object, fn: Callable) -> object:
    """A hint without names in quotes; anything where a name is only known to type checkers."""
    if isinstance(hint, type):
        return hint

    def ask(value):
        return value

    ask.__annotations__ = {"value": hint}
    try:
        return get_type_hints(ask, fn.__globals__, include_extras=True)["value"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return Any


def _scoped(fn: Callable, checked: Callable) -> Callable:
    @functools.wraps(fn)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if jaxtyping.config.jaxtyping_disable:
            return fn(*args, **kwargs)
        with NAMES:
            try:
                return checked(*args, **kwargs)
            except jaxtyping.TypeCheckError as error:
                if not hasattr(error, "__notes__"):
                    error.add_note(shape_str(get_shape_memo()))
                raise

    return scoped
