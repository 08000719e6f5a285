"""When may the rest be written at once? Stopping rules by name."""

from unison.decode.sight import Stop
from unison.decode.stop.committed import Committed
from unison.decode.stop.eos import Eos
from unison.decode.stop.eotp import EoTP
from unison.decode.stop.prophet import Prophet
from unison.decode.stop.stable import Stable
from unison.decode.stop.steps import Steps

STOPS: dict[str, type[Stop]] = {
    "committed": Committed,
    "eos": Eos,
    "eotp": EoTP,
    "prophet": Prophet,
    "stable": Stable,
    "steps": Steps,
}
