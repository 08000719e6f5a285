"""Which law is decoded? One file per policy; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.parts import Policy
from unison.speculation.policies.contrastive import Contrastive
from unison.speculation.policies.contrastive_search import ContrastiveSearch
from unison.speculation.policies.grammar import Grammar
from unison.speculation.policies.plain import Plain
from unison.speculation.policies.uscd import Uscd

POLICIES: Mapping[str, type[Policy]] = {
    "plain": Plain,
    "grammar": Grammar,
    "contrastive_search": ContrastiveSearch,
    "contrastive": Contrastive,
    "uscd": Uscd,
}
