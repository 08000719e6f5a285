"""Which drafts make a tree? One file per shape; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.parts import Builder

BUILDERS: Mapping[str, type[Builder]] = {
    "chain": Chain,
    "given": Given,
}
