"""Who guesses what a left-to-right model will write? One file per drafter."""

from collections.abc import Callable, Mapping

from unison.drafters.acceptance_head import AcceptanceHead
from unison.drafters.block_diffusion import BlockDiffusion
from unison.drafters.dflash import DFlash, dspark
from unison.drafters.eagle import Eagle, eagle3, fspad, msd
from unison.drafters.early_exit import EarlyExit
from unison.drafters.hidden_transfer import HiddenTransfer
from unison.drafters.jacobi import Jacobi
from unison.drafters.judge_head import JudgeHead
from unison.drafters.kind import Kind
from unison.drafters.lookahead import Lookahead
from unison.drafters.lookup import Lookup
from unison.drafters.medusa import Medusa
from unison.drafters.ppd import Ppd
from unison.drafters.smaller import Smaller
from unison.drafters.suffix import Suffix
from unison.speculation.parts import Drafter

KINDS: Mapping[str, Callable[[], Kind]] = {
    "acceptance": AcceptanceHead,
    "dflash": DFlash,
    "dspark": dspark,
    "eagle": Eagle,
    "eagle3": eagle3,
    "fspad": fspad,
    "hidden_transfer": HiddenTransfer,
    "judge": JudgeHead,
    "medusa": Medusa,
    "msd": msd,
    "ppd": Ppd,
}
DRAFTERS: Mapping[str, type[Drafter]] = {  # those that need no training
    "block_diffusion": BlockDiffusion,  # of(diffusion model, target's model)
    "early_exit": EarlyExit,
    "jacobi": Jacobi,
    "lookahead": Lookahead,
    "lookup": Lookup,
    "smaller": Smaller,  # of(smaller model, target's model)
    "suffix": Suffix,
}
