"""How many positions are written at once, and which? Selections by name."""

from unison.decode.select.count import Count
from unison.decode.select.threshold import Threshold
from unison.decode.sight import Select

SELECTS: dict[str, type[Select]] = {
    "count": Count,
    "threshold": Threshold,
}
