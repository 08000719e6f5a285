"""How many positions are written at once, and which? Selections by name."""

from unison.decode.select.ascending import Ascending
from unison.decode.select.bernoulli import Bernoulli
from unison.decode.select.count import Count
from unison.decode.select.dilated import Dilated
from unison.decode.select.dream import Dream
from unison.decode.select.entropy_bound import EntropyBound
from unison.decode.select.factor import Factor
from unison.decode.select.learned import Learned
from unison.decode.select.local_leap import LocalLeap
from unison.decode.select.shifted import Shifted
from unison.decode.select.spaced import Spaced
from unison.decode.select.threshold import Threshold
from unison.decode.sight import Select

SELECTS: dict[str, type[Select]] = {
    "ascending": Ascending,
    "bernoulli": Bernoulli,
    "count": Count,
    "dilated": Dilated,
    "dream": Dream,
    "entropy_bound": EntropyBound,
    "factor": Factor,
    "learned": Learned,
    "local_leap": LocalLeap,
    "shifted": Shifted,
    "spaced": Spaced,
    "threshold": Threshold,
}
