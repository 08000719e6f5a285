"""Events as pictures: what is bright, where it lies, and a file that any reader opens."""

import io

import pytest
import torch

from unison.evaluate.sheet import pictures_of, sheet


def opened(content):
    image = pytest.importorskip("PIL.Image")
    numpy = pytest.importorskip("numpy")
    return torch.from_numpy(numpy.asarray(image.open(io.BytesIO(content))).copy())


def test_grey_pictures_stand_in_rows_on_white_paper():
    values = torch.stack([torch.full((1, 48, 48), v) for v in (-1.0, 0.0, 1.0)])
    page = opened(sheet(values, columns=2))
    assert tuple(page.shape) == (2 * 98 + 2, 2 * 98 + 2)
    assert page[50, 50] == 0
    assert page[50, 150] == 128
    assert page[150, 50] == 255
    assert page[150, 150] == 255, "nothing there: paper"
    assert page[0, 0] == 255


def test_colours_keep_their_channels():
    red = torch.full((1, 3, 96, 96), -1.0)
    red[:, 0] = 1.0
    page = opened(sheet(red))
    assert page[50, 50].tolist() == [255, 0, 0]


def test_a_wave_is_a_band_between_its_lowest_and_highest_numbers():
    time = torch.arange(960) / 960
    loud = torch.where(time < 0.5, torch.sin(80 * time * 6.28), torch.zeros(960))[None, None]
    picture = pictures_of(loud)[0, 0]
    bright = (picture > 0).float().mean(0)
    assert bright[:40].mean() > 0.6
    assert bright[60:].max() < 0.05


def test_points_are_counted_on_one_picture():
    points = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    picture = pictures_of(points)[0, 0]
    assert tuple((picture > 0.9).nonzero()[0].tolist()) == (2, 93)
    assert (picture > -1).sum() == 2
    assert picture[93, 2] == pytest.approx(0.0)


def test_voices_stand_one_under_another():
    rolls = torch.zeros(2, 4, 5, 7)
    rolls[:, 3] = 1.0
    picture = pictures_of(rolls)
    assert tuple(picture.shape) == (2, 1, 20, 7)
    assert picture[:, :, 15:].min() == 1


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="cannot be drawn"):
        sheet(torch.zeros(3, 1))
