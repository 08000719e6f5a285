"""The ``unison`` command: finds the verb, turns expected errors into one line and exit code 2."""

import os
import sys
from collections.abc import Callable, Sequence

from unison.cli import (
    acceptance,
    adapt,
    audit,
    batch,
    bench,
    compress,
    continuous,
    cut,
    demo,
    distil,
    doctor,
    evaluate,
    explain_speculation,
    finetune,
    generate,
    harness,
    keys,
    plan,
    replay,
    score,
    serve,
    serve_ray,
    simulate,
    train,
    train_drafter,
    train_elastic,
    train_energy,
    train_filter,
    train_fusion,
    train_thoughts,
    view,
)
from unison.cli.one_voice import HeardError, one_voice
from unison.cli.suggest import nearest

_MODULES = {
    "train": train,
    "train-drafter": train_drafter,
    "train-elastic": train_elastic,
    "train-energy": train_energy,
    "train-filter": train_filter,
    "train-fusion": train_fusion,
    "train-thoughts": train_thoughts,
    "distil": distil,
    "compress": compress,
    "cut": cut,
    "adapt": adapt,
    "finetune": finetune,
    "generate": generate,
    "continuous": continuous,
    "serve": serve,
    "keys": keys,
    "batch": batch,
    "serve-ray": serve_ray,
    "replay": replay,
    "view": view,
    "evaluate": evaluate,
    "bench": bench,
    "harness": harness,
    "score": score,
    "explain-speculation": explain_speculation,
    "acceptance": acceptance,
    "audit-leaks": audit,
    "demo": demo,
    "doctor": doctor,
    "plan": plan,
    "simulate": simulate,
}
VERBS: dict[str, Callable[[list[str]], None]] = {
    name: module.run for name, module in _MODULES.items()
}

EXIT_USAGE = 2
EXIT_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else EXIT_USAGE
    verb, *rest = arguments
    if verb not in VERBS:
        return _fail(f"unknown verb {verb!r}{nearest(verb, VERBS)}; see unison --help.")
    try:
        with one_voice(verb):
            VERBS[verb](rest)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output went away, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except HeardError:  # the first rank says it
        return EXIT_USAGE
    except (ValueError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("unison: interrupted", file=sys.stderr)
        return 130
    return 0


def usage() -> str:
    """Return the overview of verbs."""
    lines = [
        f"  {name:21}{(module.__doc__ or '').split(': ', 1)[-1].splitlines()[0]}"
        for name, module in _MODULES.items()
    ]
    return "\n".join(["usage: unison VERB [OPTIONS]", "", *lines, "", "unison VERB --help"])


def _fail(message: str) -> int:
    print(f"unison: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USAGE
