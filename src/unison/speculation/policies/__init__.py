"""Which law is decoded? One file per policy; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.parts import Policy
from unison.speculation.policies.plain import Plain

POLICIES: Mapping[str, type[Policy]] = {
    "plain": Plain,
}
