"""Solvers of continuous diffusion, by name.

To add one: copy ``ddim.py``, and add one line below. The contract tests, the command line and the
benchmark iterate this table. Who names none gets ``default``: solvers that know one grid alone
(``Tuned``, ``fitted.LearnedSolver``) are not in the table.
"""

from unison.decode.continuous.ancestral import Ancestral
from unison.decode.continuous.api import Drawn, Levels, Past, Solver, State, solve
from unison.decode.continuous.dc_solver import DCSolver
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.deis import DEIS
from unison.decode.continuous.dpm_solver import DPMSolver
from unison.decode.continuous.dpm_solver_sde import DPMSolverSDE
from unison.decode.continuous.dpm_solver_single import DPMSolverSingle
from unison.decode.continuous.dpm_solver_v3 import DPMSolverV3
from unison.decode.continuous.gaussian_basis import GaussianBasis
from unison.decode.continuous.ghvb import GHVB, HeavyBall
from unison.decode.continuous.grids import GRIDS, Grid, Span
from unison.decode.continuous.heun import Heun, HeunChurn
from unison.decode.continuous.ipndm import IPNDM
from unison.decode.continuous.multistep import Multistep
from unison.decode.continuous.restart import Restart
from unison.decode.continuous.runge_kutta import RungeKutta
from unison.decode.continuous.sa_solver import SASolver
from unison.decode.continuous.tuned import Plan, Tuned, TunedGrid, default
from unison.decode.continuous.unipc import UniPC

SOLVERS: dict[str, type[Solver]] = {
    "ancestral": Ancestral,
    "dc_solver": DCSolver,
    "ddim": DDIM,
    "deis": DEIS,
    "dpm_solver": DPMSolver,
    "dpm_solver_sde": DPMSolverSDE,
    "dpm_solver_single": DPMSolverSingle,
    "dpm_solver_v3": DPMSolverV3,
    "gaussian_basis": GaussianBasis,
    "ghvb": GHVB,
    "heavy_ball": HeavyBall,
    "heun": Heun,
    "heun_churn": HeunChurn,
    "ipndm": IPNDM,
    "multistep": Multistep,
    "restart": Restart,
    "runge_kutta": RungeKutta,
    "sa_solver": SASolver,
    "unipc": UniPC,
}

__all__ = [
    "GRIDS",
    "SOLVERS",
    "Drawn",
    "Grid",
    "Levels",
    "Past",
    "Plan",
    "Solver",
    "Span",
    "State",
    "Tuned",
    "TunedGrid",
    "default",
    "solve",
]
