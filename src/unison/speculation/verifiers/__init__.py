"""Which drafts are written? One file per rule; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.parts import Verifier
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token

VERIFIERS: Mapping[str, type[Verifier]] = {
    "match": Match,
    "token": Token,
}
