"""Conformers: equivariance, a still centre of mass, springs that are exact, energies that tilt."""

import math

import pytest
import torch

from unison.decode.continuous import Multistep, solve
from unison.decode.continuous.grids import LogSNR, Span
from unison.decode.continuous.guidance.classifier import Classified
from unison.exact.zoo import random_mixture
from unison.models.continuous.egnn import EGNN, EGNNConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM
from unison.recipes.continuous.conformers import centred, conformers, harmonic, rmsd
from unison.recipes.continuous.molecules import Conformers, Flat, denoiser, run

ATOMS = 7


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn(seed):
    """A rotation or a reflection."""
    return torch.linalg.qr(drawn(3, 3, seed=seed)).Q


def alive():
    """A network none of whose weights is 0."""
    network = EGNN(EGNNConfig(ATOMS, 16, 2)).double().eval()
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            weight += 0.3 * drawn(*weight.shape, seed=number)
    return network


@pytest.mark.parametrize("seed", range(4))
def test_the_network_turns_with_its_input_and_does_not_see_where_it_stands(seed):
    network, x, noise = alive(), drawn(3, 3, ATOMS), torch.tensor([-1.0, 0.0, 1.0]).double()
    answer = network(x, noise)
    assert answer.abs().max() > 1e-2
    turned = network(turn(seed) @ x + drawn(3, 3, 1, seed=9), noise)
    assert (turned - turn(seed) @ answer).abs().max() < 1e-5
    assert answer.mean(-1).abs().max() < 1e-12


def test_renaming_atoms_matters_because_each_has_a_vector_of_its_own():
    network, x, noise = alive(), drawn(1, 3, ATOMS), torch.zeros(1).double()
    assert (network(x.flip(-1), noise).flip(-1) - network(x, noise)).abs().max() > 1e-3


def test_positions_of_another_molecule_are_refused():
    with pytest.raises(ValueError, match=r"\[batch, 3, 7\]"):
        alive()(drawn(1, 3, 6), torch.zeros(1).double())


def test_a_run_leaves_the_centre_of_mass_where_it_is():
    levels = (*LogSNR().levels(Span(20.0, 0.01, EDM()), 12), 0.0)
    begun = 20.0 * centred(drawn(4, 3, ATOMS))
    denoise = denoiser(alive().float(), 0.8)
    found = solve(Multistep(), levels, denoise, begun, Key(rng.rows(0, 0, 4))).x
    assert found.mean(-1).abs().max() < 1e-6
    turned = solve(Multistep(), levels, denoise, turn(1) @ begun, Key(rng.rows(0, 0, 4))).x
    assert (turned - turn(1) @ found).abs().max() < 1e-3 * found.abs().max()


def test_springs_are_drawn_from_their_exact_law_and_never_drift():
    shapes = centred(drawn(50, 3, ATOMS, seed=3) * torch.linspace(0.3, 1.5, ATOMS).double())
    law = harmonic(shapes)
    rows, high, low = 64, 30.0, 0.01
    begun = high * centred(drawn(rows, 3, ATOMS, seed=4))
    levels = LogSNR().levels(Span(high, low, EDM()), 60)
    found = solve(Multistep(), levels, Flat(law), begun, Key(rng.rows(0, 0, rows))).x
    # in the eigenbasis of a Gaussian the flow is a factor sqrt((c + low^2) / (c + high^2))
    values, axes = torch.linalg.eigh(law.covariance())
    factors = ((values.clamp(min=0) + low**2) / (values.clamp(min=0) + high**2)).sqrt()
    expected = (((begun.flatten(1) @ axes) * factors) @ axes.T).view(begun.shape)
    assert (found - expected).abs().max() < 2e-3
    assert found.mean(-1).abs().max() < 1e-9
    # every bond's mean square is that of the shapes: rotations were averaged, lengths were not
    apart = shapes[:, :, 0] - shapes[:, :, 1]
    covariance = law.covariance()[:ATOMS, :ATOMS]
    spread = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert 3 * spread.item() == pytest.approx(apart.square().sum(1).mean().item(), rel=1e-9)


def test_an_energy_tilts_a_mixture_exactly():
    law = random_mixture(2)
    size = law.means.shape[1]
    centre, width = drawn(size, seed=5), 0.8
    exact = law.posterior(torch.eye(size, dtype=torch.float64), centre, width)

    def log_mean_of_boltzmann(x, level):
        """log E[exp(-|x_0 - centre|^2 / 2 width^2) | x], component by component."""
        square = level.square()[:, None, None, None]
        gains = law.covariances @ torch.linalg.inv(
            law.covariances + square * torch.eye(size).double()
        )
        means = law.means + (gains @ (x[:, None] - law.means)[..., None])[..., 0]
        left = gains * square + width**2 * torch.eye(size).double()
        normal = torch.distributions.MultivariateNormal(means, left)
        return (law.responsibilities(x, level).log() + normal.log_prob(centre)).logsumexp(1)

    x, level = 2 * drawn(20, size, seed=6), torch.linspace(0.1, 5.0, 20).double()
    tilted = Classified(law, log_mean_of_boltzmann)(x, level)
    assert (tilted - exact(x, level)).abs().max() < 1e-8
    assert (tilted - law(x, level)).abs().max() > 0.1


def test_distances_forget_turns_mirrors_and_places():
    shapes = drawn(3, 3, ATOMS)
    moved = turn(2) @ shapes + 5.0
    found = rmsd(shapes, moved)
    assert found.diagonal().max() < 1e-6
    # two atoms a unit apart, against two that are three apart: each is off by one
    pair = torch.tensor([[[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]])
    assert rmsd(pair, 3 * pair).item() == pytest.approx(1.0)


def test_ethanol_has_the_bonds_that_chemists_measure():
    pytest.importorskip("rdkit")
    molecule = conformers("CCO", 8, 0)
    assert "".join(molecule.symbols) == "CCOHHHHHH"
    lengths = molecule.lengths(molecule.shapes).mean(0)
    names = ["".join(molecule.symbols[i] for i in bond) for bond in molecule.bonds.tolist()]
    known = {"CC": 1.51, "CO": 1.43, "CH": 1.09, "OH": 0.96}  # angstrom
    for name, length in zip(names, lengths.tolist(), strict=True):
        assert math.isclose(length, known[name], abs_tol=0.06), name
    assert rmsd(molecule.shapes, molecule.shapes).max() > 0.05


def test_the_recipe_compares_laws_and_takes_a_trained_network_as_it_is(tmp_path):
    pytest.importorskip("rdkit")
    pytest.importorskip("matplotlib")
    config = Conformers("CO", shapes=12, drawn=4, nfe=4, width=8, steps=2, batch_size=4)
    first = run(config, tmp_path, print)
    assert all(row["centre off by"].value < 1e-5 for row in first.numbers.values())
    assert first.numbers["held-out conformers"]["bonds off by"].value < 0.1
    assert (tmp_path / "conformers.xyz").read_text().count("\nC ") == 4
    assert run(config, tmp_path, print).numbers == first.numbers


def test_nonsense_for_a_molecule_is_refused_before_any_work(tmp_path):
    pytest.importorskip("rdkit")
    pytest.importorskip("matplotlib")
    for smiles in ("", "C"):
        with pytest.raises(ValueError, match="no SMILES"):
            run(Conformers(smiles), tmp_path / "out", print)
    assert not (tmp_path / "out").exists()
