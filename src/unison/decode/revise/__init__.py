"""What happens to text that is written already? Revisions by name."""

from unison.decode.revise.keep import Keep
from unison.decode.sight import Revise

REVISIONS: dict[str, type[Revise]] = {
    "none": Keep,
}
