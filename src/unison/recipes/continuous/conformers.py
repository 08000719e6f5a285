"""Which shapes does a molecule take, and how far apart are two? Conformers and their distances.

The only door to rdkit in this room: conformers are embedded by its ETKDG (Riniker and Landrum,
2015, doi:10.1021/acs.jcim.5b00654) and relaxed in its MMFF force field.
"""

import importlib
import importlib.util
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.exact.mixtures import Mixture, gaussian
from unison.types import Event

Shapes = Float[Tensor, "_N 3 A"]  # laws of unlike sizes are compared


class Molecule(NamedTuple):
    """A molecule and its shapes.

    Attributes:
        symbols: Of its atoms, hydrogens included.
        bonds: Pairs of atoms.
        shapes: Positions in angstrom, centre of mass (every atom weighing 1) at 0.
    """

    symbols: tuple[str, ...]
    bonds: Int[Tensor, "K 2"]
    shapes: Shapes

    def lengths(self, shapes: Shapes) -> Float[Tensor, "N K"]:
        """Return the length of each bond in each shape."""
        first, second = self.bonds.T
        return (shapes[..., first] - shapes[..., second]).norm(dim=1)


def conformers(smiles: str, count: int, seed: int, relaxed: bool = False) -> Molecule:
    """Return shapes of a molecule, always the same.

    Args:
        smiles: The molecule.
        count: Shapes that are tried; a few may fail.
        seed: Of the embedding.
        relaxed: Bring each to the next minimum of the force field.

    Raises:
        ValueError: rdkit is missing, or cannot read or embed the molecule.
    """
    chemistry, embedding = _rdkit("rdkit.Chem"), _rdkit("rdkit.Chem.AllChem")
    bare = chemistry.MolFromSmiles(smiles) if smiles else None
    if bare is None or bare.GetNumAtoms() < 2:
        raise ValueError(f"{smiles!r} is no SMILES of at least two heavy atoms; try 'CCCO'.")
    whole = chemistry.AddHs(bare)
    how = embedding.ETKDGv3()
    how.randomSeed = seed + 1  # with 0 every conformer is the same one
    numbers = list(embedding.EmbedMultipleConfs(whole, count, how))
    if len(numbers) < 2:
        raise ValueError(f"rdkit found {len(numbers)} of {count} shapes of {smiles!r}.")
    if relaxed:
        embedding.MMFFOptimizeMoleculeConfs(whole)
    places = np.stack([whole.GetConformer(n).GetPositions() for n in numbers])
    shapes = torch.from_numpy(places).float().transpose(1, 2)
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in whole.GetBonds()]
    symbols = tuple(atom.GetSymbol() for atom in whole.GetAtoms())
    return Molecule(symbols, torch.tensor(bonds), centred(shapes))


def centred(x: Event) -> Event:
    """Return positions moved so that their mean is 0."""
    return x - x.mean(-1, keepdim=True)


def rmsd(shapes: Shapes, others: Shapes) -> Float[Tensor, "N M"]:
    """Return how far apart each two shapes are, turned and mirrored onto each other at best.

    The root mean square over atoms (Kabsch, 1976, doi:10.1107/S0567739476001873). Mirror images
    count as equal, because nothing that depends on distances alone can tell them apart.
    """
    first, second = centred(shapes.double()), centred(others.double())
    sizes = first.square().sum((1, 2))[:, None] + second.square().sum((1, 2))
    overlap = torch.linalg.svdvals(torch.einsum("nia,mja->nmij", first, second)).sum(-1)
    return ((sizes - 2 * overlap).clamp(min=0) / shapes.shape[-1]).sqrt()


def harmonic(shapes: Shapes) -> Mixture:
    """Return the Gaussian of all positions that has the shapes' distances and no direction.

    Its covariance is that of atoms, averaged over rotations, times the identity of space: that of a
    molecule of springs. It is singular along translations, which so never move.
    """
    away = centred(shapes.double())
    atoms = torch.einsum("nia,nib->ab", away, away) / (3 * len(away))
    covariance = torch.kron(torch.eye(3, dtype=torch.float64), atoms)
    return gaussian(torch.zeros(len(covariance), dtype=torch.float64), covariance)


def _rdkit(module: str) -> Any:
    if importlib.util.find_spec("rdkit") is None:
        raise ValueError(
            "conformers are made by rdkit, which is not installed; pip install 'unison[molecules]'."
        )
    return importlib.import_module(module)
