"""When may the rest be written at once? Stopping rules by name."""

from unison.decode.sight import Stop
from unison.decode.stop.committed import Committed

STOPS: dict[str, type[Stop]] = {
    "committed": Committed,
}
