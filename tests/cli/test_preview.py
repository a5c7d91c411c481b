"""`preview`: the right planes the right way round, in the right window, and pictures whose pixels show it."""

import io
import sys
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec, voxel_sizes
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from lucid_cli.formats import parse_spec
from tests.cli.conftest import contents, make_nifti, make_volume, noise, ok, run

pytest.importorskip("matplotlib")

from lucid_cli.pictures.preview import opened
from lucid_cli.pictures.rows import alike, pictured, robust
from lucid_cli.pictures.scans import Scan

STRAIGHT = np.eye(3)
TURN = np.array([[0.9, -0.3, 0.1], [0.3, 0.9, -0.2], [-0.03, 0.21, 0.97]])
"""Nearly a rotation, by some 20 degrees."""


def picture(*names, volume=None, channel=None, **options):
    """Return what would be drawn of one file or two."""
    with ExitStack() as stack:
        sources = [opened(parse_spec(str(name)), stack) for name in names]
        scans = [Scan(source, source.info, volume, channel) for source in sources]
        return pictured(*scans, *[None] * (2 - len(scans)), **options)


def planes(shown, row=0):
    return [panel.values for panel in shown.rows[row].panels]


def scan_of(path, codes, turn=STRAIGHT, spacing=(2.0, 1.0, 3.0)):
    """Write 7 x 8 x 9 voxels of noise whose axes point towards `codes`, turned a little."""
    towards = inv_ornt_aff(axcodes2ornt(codes), (7, 8, 9))
    affine = from_matvec(turn) @ np.linalg.inv(towards) @ np.diag([*spacing, 1])
    return make_nifti(path, noise(7, 8, 9), sform=affine)


def canonical_planes(path, at):
    """Return what nibabel says the planes through voxel `at` (D, H, W) are, and their sizes in mm."""
    image = nib.load(path)
    upright = nib.as_closest_canonical(image)
    values = np.asarray(upright.dataobj)
    x, y, z = np.rint(np.linalg.solve(upright.affine, image.affine @ [*at[::-1], 1])[:3]).astype(int)
    right, front, up = values.shape * voxel_sizes(upright.affine)
    cut = (values[:, :, z], values[:, y, :], values[x])
    return [plane.T[::-1, ::-1] for plane in cut], [(front, right), (up, right), (up, front)]


@pytest.mark.parametrize("turn", (STRAIGHT, TURN), ids=("straight", "oblique"))
@pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
@pytest.mark.parametrize("codes", ("RAS", "LPS", "PSR", "SLA", "IRP", "ASL"))
def test_planes_are_those_of_the_closest_canonical_image(folder, codes, suffix, turn):
    path = scan_of(folder / f"a{suffix}", codes, turn)
    for at in ((4, 4, 3), (1, 6, 5)):
        shown = picture(path, at=at)
        wanted, sizes = canonical_planes(path, at)
        for panel, plane, size, name in zip(
            shown.rows[0].panels, wanted, sizes, ("axial", "coronal", "sagittal"), strict=True
        ):
            np.testing.assert_array_equal(panel.values, plane)
            np.testing.assert_allclose(panel.size, size, rtol=1e-5)
            assert panel.title.startswith(f"{name}, ")
    assert [panel.edges for panel in shown.rows[0].panels] == [
        ("R", "L", "A", "P"),
        ("R", "L", "S", "I"),
        ("A", "P", "S", "I"),
    ]
    assert any("Oblique" in note for note in shown.notes) == (turn is TURN)


def test_the_title_of_a_plane_names_the_axis_of_the_file(folder):
    shown = picture(scan_of(folder / "a.nii", "PSR"), at=(1, 2, 3))
    assert [panel.title for panel in shown.rows[0].panels] == ["axial, H = 2", "coronal, W = 3", "sagittal, D = 1"]


def panels_in(path):
    """Return, of every panel of a PNG, its pixels and their height over their width."""
    from matplotlib.image import imread
    from scipy.ndimage import find_objects, label

    pixels = imread(path)[..., :3]
    whole = (np.ptp(pixels, axis=2) == 0) & ((pixels[..., 0] == 0) | (pixels[..., 0] == 1))
    boxes = [box for box in find_objects(label(whole)[0]) if np.prod([one.stop - one.start for one in box]) > 4000]
    boxes = [box for box in boxes if box[1].stop - box[1].start > 40]  # not the bar of colours
    return [pixels[box] for box in sorted(boxes, key=lambda box: box[1].start)]


@pytest.mark.parametrize("codes", ("RAS", "LPI", "PIR"))
def test_a_marker_is_seen_at_its_side(folder, codes):
    spacing = (1.0, 2.0, 1.5)
    path = scan_of(folder / "a.nii", codes, spacing=spacing)
    image = nib.load(path)
    world = np.array([5.0, 4.0, 6.0])  # right, front, up of the middle
    at = np.argwhere(np.ones(image.shape))
    places = nib.affines.apply_affine(image.affine, at)
    near = ((places - places.mean(axis=0) - world / 2) ** 2 < 2.1**2).all(axis=1)
    values = np.zeros(image.shape, np.float32)
    values[tuple(at[near].T)] = 100
    make_nifti(path, values, sform=image.affine)
    middle = ",".join(str(one) for one in at[near].mean(axis=0).round().astype(int)[::-1])
    ok("preview", path, "-o", "a.png", "--at", middle, "--window", "0,100")
    extent = np.abs(image.affine[:3, :3]) @ image.shape
    heights, widths = extent[[1, 2, 2]], extent[[0, 0, 1]]
    found = panels_in("a.png")
    assert len(found) == 3
    for pixels, height, width in zip(found, heights, widths, strict=True):
        assert pixels.shape[0] / pixels.shape[1] == pytest.approx(height / width, rel=0.02)
        down, right = np.argwhere(pixels[..., 0] == 1).mean(axis=0) / pixels.shape[:2]
        assert down < 0.45  # the front of an axial plane, the top of the others
        assert right < 0.45  # the patient's right, or front


def test_without_an_orientation_rows_and_columns_are_those_of_the_array(folder):
    volume = noise(4, 5, 6)
    make_volume("a.npy", volume)
    with h5py.File("a.h5", "w") as file:
        file["data"] = volume
        file["data"].attrs["element_size_um"] = [3000.0, 2000.0, 1000.0]
    for name, steps in (("a.npy", (1, 1, 1)), ("a.h5", (3, 2, 1))):
        shown = picture(name)
        for found, plane in zip(planes(shown), (volume[2], volume[:, 2], volume[:, :, 3]), strict=True):
            np.testing.assert_array_equal(found, plane)
        d, h, w = (size * step for size, step in zip(volume.shape, steps, strict=True))
        assert [panel.size for panel in shown.rows[0].panels] == [(h, w), (d, w), (d, h)]
        assert [panel.edges for panel in shown.rows[0].panels] == [
            ("", "+W", "", "+H"),
            ("", "+W", "", "+D"),
            ("", "+H", "", "+D"),
        ]
        assert "Nothing says how the volume lies" in shown.notes[0]
        assert any("cubes" in note for note in shown.notes) == (name == "a.npy")


def test_two_files_of_which_one_lacks_an_orientation_are_drawn_the_same_way(folder):
    path = scan_of(folder / "a.nii", "LPS")
    volume = np.asarray(nib.load(path).dataobj).T
    make_volume("b.npy", volume)
    shown = picture(path, "b.npy")
    for found, plane in zip(planes(shown), planes(shown, 1), strict=True):
        np.testing.assert_array_equal(found, plane)
    np.testing.assert_array_equal(planes(shown)[0], volume[4])


def test_before_after_and_difference(folder):
    path = scan_of(folder / "a.nii.gz", "LAS")
    ok("apply", path, "-o", "b.nii.gz", "--kernel", "gaussian", "--sigma", "0.6vox")
    shown = picture(path, "b.nii.gz")
    assert [row.label for row in shown.rows] == ["before", "after", "after - before"]
    before, after, difference = (planes(shown, row) for row in range(3))
    for one, other, apart in zip(before, after, difference, strict=True):
        np.testing.assert_array_equal(apart, other - one)
    for name, found in (("a.nii.gz", before), ("b.nii.gz", after)):
        for plane, wanted in zip(found, canonical_planes(name, (4, 4, 3))[0], strict=True):
            np.testing.assert_array_equal(plane, wanted)
    values = np.concatenate([plane.ravel() for plane in before])
    assert shown.rows[0].window == pytest.approx(tuple(np.percentile(values, (1, 99))))
    low, high = shown.rows[2].window
    assert (low, shown.rows[2].diverging) == (-high, True)
    assert high == pytest.approx(np.percentile(np.abs(np.concatenate([one.ravel() for one in difference])), 99))


def test_windows_are_shared_where_the_scales_are_alike(folder):
    volume = noise(6, 6, 6)
    for name, factor in (("a", 1.0), ("b", 0.8), ("c", 100.0)):
        make_volume(f"{name}.npy", (volume * factor).astype(np.float32))
    same, own = picture("a.npy", "b.npy"), picture("a.npy", "c.npy")
    assert same.rows[0].window == same.rows[1].window
    assert own.rows[1].window == pytest.approx([100 * one for one in own.rows[0].window])
    assert any("the same before and after" in note for note in same.notes)
    assert any("each its own" in note for note in own.notes)
    given = picture("a.npy", "c.npy", window=(-5.0, 5.0))
    assert given.rows[0].window == given.rows[1].window == (-5, 5)
    assert alike((0, 10), (2, 12))
    assert not alike((0, 10), (8, 18))
    assert not alike((0, 10), (0, 30))


@pytest.mark.parametrize(
    ("values", "window"),
    (
        ([3.0, 3.0], (3, 6)),
        ([0.0, 0.0], (0, 1)),
        ([np.nan, np.inf], (0, 1)),
        ([0.0] * 999 + [5.0], (0, 5)),
        ([-1e308, 1e308], (-1e300, 1e300)),
    ),
)
def test_windows_of_odd_values(values, window):
    assert robust([np.array(values)]) == pytest.approx(window, rel=0.03)


def test_a_strided_output_shows_the_same_place_and_no_difference(folder):
    path = scan_of(folder / "a.nii", "PSR", TURN)
    ok("apply", path, "-o", "b.nii", "--kernel", "box", "--size", "2vox", "--stride", "2", "--padding", "valid")
    shown = picture(path, "b.nii", at=(5, 3, 4))
    assert [row.label for row in shown.rows] == ["before", "after"]
    assert "No difference is shown: the files have different grids." in shown.notes
    assert [panel.title for panel in shown.rows[1].panels] == ["axial, H = 1", "coronal, W = 2", "sagittal, D = 2"]
    world = nib.load(path).affine @ [4, 3, 5, 1]
    found = nib.load("b.nii").affine @ [2, 1, 2, 1]
    assert np.abs(np.linalg.solve(nib.load("b.nii").affine, found - world))[:3].max() <= 0.5


def test_grids_that_lie_elsewhere_are_not_subtracted(folder):
    make_nifti("a.nii", noise(5, 6, 7), sform=np.eye(4))
    make_nifti("b.nii", noise(5, 6, 7), sform=from_matvec(np.eye(3), [2, 0, 0]))
    shown = picture("a.nii", "b.nii")
    assert len(shown.rows) == 2
    assert "No difference is shown: the grids lie up to 2 mm apart." in shown.notes
    np.testing.assert_array_equal(planes(shown, 1)[2], np.asarray(nib.load("b.nii").dataobj)[0].T[::-1, ::-1])


@pytest.mark.parametrize("name", ("a.nii", "a.nii.gz"))
def test_a_volume_of_four_and_of_five_axes(folder, name):
    four, five = noise(5, 6, 7, 3), noise(5, 6, 7, 3, 2)
    make_nifti(name, four, sform=np.eye(4))
    for words in ({"volume": 2}, {"channel": 2}):
        shown = picture(name, **words)
        np.testing.assert_array_equal(planes(shown)[0], four[..., 3, 2].T[::-1, ::-1])
        assert shown.titles[0].endswith(f", {next(iter(words))} 2 (of 0 to 2)")
    np.testing.assert_array_equal(planes(picture(name))[2], four[2, ..., 0].T[::-1, ::-1])
    make_nifti(name, five, sform=np.eye(4))
    shown = picture(name, volume=1, channel=1)
    np.testing.assert_array_equal(planes(shown)[1], five[:, 3, :, 1, 1].T[::-1, ::-1])
    assert shown.titles[0].endswith(", volume 1 (of 0 to 2), channel 1 (of 0 to 1)")


def test_a_channel_of_an_array(folder):
    volume = noise(1, 3, 4, 5, 6)
    for name in ("a.npy", "a.h5"):
        make_volume(name, volume)
        np.testing.assert_array_equal(planes(picture(name, channel=2))[0], volume[0, 2, 2])
    make_volume("b.npy", volume[0, 0])
    shown = picture("b.npy", "a.npy", channel=1)
    np.testing.assert_array_equal(planes(shown, 2)[0], volume[0, 1, 2] - volume[0, 0, 2].astype(np.float64))


def test_stored_values_are_scaled(folder):
    make_nifti("a.nii.gz", noise(5, 6, 7, dtype=np.int16), sform=np.eye(4), scaling=(0.5, 7.0))
    np.testing.assert_array_equal(
        planes(picture("a.nii.gz"))[0], np.asarray(nib.load("a.nii.gz").dataobj)[..., 3].T[::-1, ::-1]
    )


def test_long_axes_are_thinned(folder, monkeypatch):
    monkeypatch.setattr("lucid_cli.pictures.scans.MOST_SIDE", 10)
    monkeypatch.setattr("lucid_cli.pictures.scans.STRIP_BYTES", 400)
    volume = noise(25, 8, 13)
    make_volume("a.npy", volume)
    make_nifti("a.nii.gz", volume.T)
    for name in ("a.npy", "a.nii.gz"):
        shown = picture(name)
        for found, plane in zip(
            planes(shown), (volume[12, :, ::2], volume[::3, 4, ::2], volume[::3, :, 6]), strict=True
        ):
            np.testing.assert_array_equal(found, plane)
        assert shown.rows[0].panels[1].size == (25, 13)
        assert "Of long axes only one voxel in 3 is drawn." in shown.notes


def test_a_compressed_volume_is_never_held_whole(folder):
    make_nifti("a.nii.gz", np.zeros((200, 200, 200), np.float32), sform=np.eye(4))
    picture("a.nii.gz")
    tracemalloc.start()
    picture("a.nii.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 200**3 / 4


def test_a_damaged_file_is_no_picture(folder):
    make_nifti("a.nii.gz", noise(60, 60, 60, 3), sform=np.eye(4))
    data = bytearray(Path("a.nii.gz").read_bytes())
    data[-6] ^= 1
    Path("a.nii.gz").write_bytes(data)
    result = run("preview", "a.nii.gz", "-o", "a.png")
    assert (result.code, "damaged" in result.err, Path("a.png").exists()) == (3, True, False)


def test_what_is_not_finite_is_yellow(folder):
    from matplotlib.image import imread

    volume = noise(8, 8, 8)
    shown = []
    for value in (1.0, np.nan, np.inf):
        volume[3:6, 3:6, 3:6] = value
        make_volume("a.npy", volume)
        ok("preview", "a.npy", "-o", "a.png", "--overwrite")
        pixels = np.rint(255 * imread("a.png")[..., :3]).astype(int)
        shown.append(int((pixels == (0xF2, 0xC5, 0x00)).all(axis=2).sum()))
        assert any("Yellow" in note for note in picture("a.npy").notes) == (value != 1)
    assert shown[0] == 0
    assert min(shown[1:]) > 3000


def test_the_same_picture_has_the_same_bytes_and_no_date(folder):
    make_nifti("a$_{.nii", noise(5, 6, 7), sform=np.eye(4))
    for name in ("one.png", "two.png"):
        assert ok("preview", "a$_{.nii", "a$_{.nii", "-o", name).out == ""
    data = Path("one.png").read_bytes()
    assert data == Path("two.png").read_bytes()
    assert not any(chunk in data for chunk in (b"tEXt", b"tIME", b"iTXt"))
    assert int.from_bytes(data[16:20], "big") == 1440


@pytest.mark.parametrize("shape", ((1, 1, 1), (1, 6, 7), (300, 2, 3), (2, 3, 900)))
def test_thin_volumes_and_odd_names_are_drawn_too(folder, shape):
    name = "sehr-\N{CJK UNIFIED IDEOGRAPH-8166}" + "x" * 200 + "\n.npy"
    make_volume(name, np.full(shape, 1e308))
    result = ok("preview", name, "-o", "a.png")
    assert result.err == ""
    assert contents(folder)["a.png"].startswith(b"\x89PNG")


def test_stdin_is_read(folder, monkeypatch):
    path = scan_of(folder / "a.nii", "LPS")
    ok("preview", path, "-o", "a.png")
    with path.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        ok("preview", "-", "-o", "b.png")
    assert Path("b.png").stat().st_size > 3000


def test_an_existing_picture_and_an_input_are_not_overwritten(folder):
    make_nifti("a.nii", noise(5, 6, 7), sform=np.eye(4))
    Path("a.png").write_bytes(b"mine")
    assert run("preview", "a.nii", "-o", "a.png").code == 4
    assert Path("a.png").read_bytes() == b"mine"
    ok("preview", "a.nii", "-o", "a.png", "--overwrite")
    Path("b.png").symlink_to("a.nii")
    result = run("preview", "a.nii", "-o", "b.png", "--overwrite")
    assert (result.code, "the same file as the input a.nii" in result.err) == (4, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    (
        ("a.nii -o a.jpg", 2, "-o a.jpg: the picture is a PNG; give a name that ends in .png"),
        ("a.nii", 2, "Missing option '-o'"),
        ("a.nii -o no/a.png", 4, "its folder no does not exist"),
        ("a.nii -o a.png --at 7,2,2", 2, "--at 7,2,2: lies outside a.nii; legal: voxels D,H,W from 0,0,0 to 6,5,4"),
        ("a.nii -o a.png --at 2,2", 2, "'2,2' is two numbers; give one or three (D,H,W)"),
        ("a.nii -o a.png --window 5", 2, "'5' is not two numbers (LOW,HIGH)"),
        ("a.nii -o a.png --window 5,-5", 2, "--window 5,-5: the first value is black, the second, larger, white"),
        ("a.nii -o a.png --volume 1", 2, "--volume 1: a.nii has 1 volume; legal: 0"),
        ("a.nii b.nii -o a.png --channel 3", 2, "--channel 3: b.nii has 3 channels; legal: 0 to 2"),
        ("missing.nii -o a.png", 3, "missing.nii: no such file"),
        ("a.nii missing.npy -o a.png", 3, "missing.npy: no such file"),
        ("a.txt -o a.png", 2, "a.txt: the suffix says no format known here"),
        ("- - -o a.png", 2, "stdin can be read only once"),
        ("a.nii b.nii c.nii -o a.png", 2, "unexpected extra argument"),
    ),
)
def test_mistakes_are_met_with_a_line(folder, words, code, said):
    make_nifti("a.nii", noise(5, 6, 7), sform=np.eye(4))
    make_nifti("b.nii", noise(5, 6, 7, 3), sform=np.eye(4))
    Path("a.txt").touch()
    before = contents(folder)
    result = run("preview", *words.split())
    assert (result.code, result.err.count("\n")) == (code, 1)
    assert said in result.err
    assert contents(folder) == before


def test_without_matplotlib_the_extra_is_named(folder, monkeypatch):
    make_nifti("a.nii", noise(5, 6, 7), sform=np.eye(4))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("preview", "a.nii", "-o", "a.png")
    assert (result.code, "pip install 'lucid-conv3d[viz]'" in result.err) == (2, True)
    assert not Path("a.png").exists()
