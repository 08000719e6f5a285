"""Which drafts make a tree? One file per shape; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.builders.beam import Beam
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.builders.greedy import Greedy
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.builders.multi import Multi
from unison.speculation.builders.static import Static
from unison.speculation.builders.top_k import TopK
from unison.speculation.parts import Builder

BUILDERS: Mapping[str, type[Builder]] = {
    "chain": Chain,
    "static": Static,
    "top_k": TopK,
    "multi": Multi,
    "gumbel": Gumbel,
    "beam": Beam,
    "greedy": Greedy,
    "given": Given,
}
