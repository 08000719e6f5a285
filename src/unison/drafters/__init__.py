"""Who guesses what a left-to-right model will write? One file per drafter."""

from collections.abc import Mapping

from unison.drafters.kind import Kind

KINDS: Mapping[str, type[Kind]] = {}
