"""Which drafts are written? One file per rule; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.parts import Verifier
from unison.speculation.verifiers.block import Block
from unison.speculation.verifiers.greedy import Greedy
from unison.speculation.verifiers.judge import Judge
from unison.speculation.verifiers.kseq import KSeq
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.recursive import Recursive
from unison.speculation.verifiers.token import Token
from unison.speculation.verifiers.typical import Typical

VERIFIERS: Mapping[str, type[Verifier]] = {
    "match": Match,
    "token": Token,
    "block": Block,
    "rrs": Recursive,
    "kseq": KSeq,
    "greedy": Greedy,
    "typical": Typical,
    "judge": Judge,
}
