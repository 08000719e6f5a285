"""What happens to text that is written already? Revisions by name."""

from unison.decode.revise.edit import Edit
from unison.decode.revise.keep import Keep
from unison.decode.revise.p2 import P2
from unison.decode.revise.remdm import ReMDM
from unison.decode.revise.renoise import Renoise
from unison.decode.revise.wino import WINO
from unison.decode.sight import Revise

REVISIONS: dict[str, type[Revise]] = {
    "edit": Edit,
    "none": Keep,
    "p2": P2,
    "remdm": ReMDM,
    "renoise": Renoise,
    "wino": WINO,
}
