"""Derivatives of a BIDS dataset: their names, their metadata, and what the BIDS validator says of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import make_nifti, noise, ok, run

KERNEL = ("--kernel", "gaussian", "--sigma", "1.5vox")
VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")
T1W = "sub-01/anat/sub-01_T1w"
BOLD = "sub-01/func/sub-01_task-rest_bold"


def write(path, content):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def scan(path, *shape):
    Path(path).parent.mkdir(parents=True, exist_ok=True)

    def edit(header):
        header.set_xyzt_units("mm", "sec")
        header["pixdim"][4] = 2.0 if len(shape) == 4 else 0

    make_nifti(path, noise(*shape), sform=np.diag([2, 2, 2, 1]), pixdim=(2, 2, 2), edit=edit)


@pytest.fixture
def dataset(folder):
    """Make a small dataset in `raw`."""
    write("raw/dataset_description.json", {"Name": "Few", "BIDSVersion": "1.10.0", "DatasetType": "raw"})
    write(
        "raw/README", "A dataset of noise, to try a program with, and of no other use whatsoever to anybody at all.\n"
    )
    write("raw/participants.tsv", "participant_id\nsub-01\n")
    write("raw/task-rest_bold.json", {"TaskName": "rest", "RepetitionTime": 2.0, "SliceTiming": [0, 0.5, 1.0, 1.5]})
    write("raw/sub-01/func/sub-01_task-rest_bold.json", {"EchoTime": 0.03})
    scan(f"raw/{T1W}.nii.gz", 8, 7, 6)
    scan(f"raw/{BOLD}.nii.gz", 6, 5, 4, 3)
    return Path("raw")


def sidecar(path):
    return json.loads(Path(path).read_text())


def test_names_metadata_and_description(dataset):
    ok("apply", "raw", "--out-dir", "deriv", *KERNEL, "--bids", "-q")
    files = sorted(str(path.relative_to("deriv")) for path in Path("deriv").rglob("*") if path.is_file())
    anat, func = T1W.replace("_T1w", "_desc-gaussian_T1w"), BOLD.replace("_bold", "_desc-gaussian_bold")
    assert files == [
        "dataset_description.json",
        *(f"{name}{end}" for name in (anat, func) for end in (".json", ".nii.gz")),
    ]
    found = sidecar(f"deriv/{anat}.json")
    assert found.pop("LucidConv3d")["input"] == f"raw/{T1W}.nii.gz"
    assert found == {
        "Description": "T1w convolved by lucid-conv3d (gaussian)",
        "Sources": [f"bids:source:{T1W}.nii.gz"],
        "SkullStripped": False,
    }
    timed = sidecar(f"deriv/{func}.json")
    assert (timed["TaskName"], timed["RepetitionTime"], timed["EchoTime"]) == ("rest", 2.0, 0.03)
    assert "SliceTiming" not in timed
    described = sidecar("deriv/dataset_description.json")
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "lucid-conv3d"
    assert described["DatasetLinks"] == {"source": "../raw"}


def test_metadata_of_slices_stays_where_slices_do(dataset):
    ok("apply", f"raw/{BOLD}.nii.gz", "--out-dir", "deriv", "--kernel", "box", "--size", "1,3,3vox", "--bids", "-q")
    assert sidecar("deriv/sub-01/func/sub-01_task-rest_desc-box_bold.json")["SliceTiming"] == [0, 0.5, 1.0, 1.5]


def test_another_grid_has_another_res_and_says_which(dataset):
    ok(
        "apply",
        f"raw/{T1W}.nii.gz",
        "--out-dir",
        "deriv",
        *KERNEL,
        "--stride",
        "1,2,2",
        "--desc",
        "half size",
        "--bids",
        "-q",
    )
    found = sidecar("deriv/sub-01/anat/sub-01_res-stride1x2x2_desc-halfSize_T1w.json")
    assert found["Resolution"] == "every 1. x 2. x 2. voxel of the source (z, y, x)"


def test_a_derivative_of_a_derivative(dataset):
    ok("apply", f"raw/{T1W}.nii.gz", "--out-dir", "raw/derivatives/a", *KERNEL, "--bids", "-q")
    first = "raw/derivatives/a/sub-01/anat/sub-01_desc-gaussian_T1w"
    options = ("--out-dir", "raw/derivatives/b", "--kernel", "box", "--size", "3vox", "--bids", "-q")
    ok("apply", f"{first}.nii.gz", *options)
    found = sidecar("raw/derivatives/b/sub-01/anat/sub-01_desc-gaussianBox_T1w.json")
    assert found["Sources"] == ["bids:source:sub-01/anat/sub-01_desc-gaussian_T1w.nii.gz"]
    assert found["SkullStripped"] is False
    data = sidecar(f"{first}.json")
    write(f"{first}.json", {key: value for key, value in data.items() if key != "SkullStripped"})
    result = run("apply", f"{first}.nii.gz", *options, "--overwrite")
    assert result.code == 2
    assert "say --skull-stripped or --no-skull-stripped" in result.err
    ok("apply", f"{first}.nii.gz", *options, "--overwrite", "--skull-stripped")
    assert sidecar("raw/derivatives/b/sub-01/anat/sub-01_desc-gaussianBox_T1w.json")["SkullStripped"] is True


def test_derivatives_below_a_dataset_are_no_inputs(dataset):
    for name in ("a", "b"):
        ok("apply", "raw", "--out-dir", f"raw/derivatives/{name}", *KERNEL, "--bids", "-q")
    assert len([*Path("raw/derivatives/b").rglob("*.nii.gz")]) == 2


def test_two_datasets_need_two_derivatives(dataset):
    shutil.copytree("raw", "other")
    result = run("apply", f"raw/{T1W}.nii.gz", f"other/{BOLD}.nii.gz", "--out-dir", "deriv", *KERNEL, "--bids")
    assert (result.code, Path("deriv").exists()) == (2, False)
    assert "give each its own --out-dir" in result.err
    ok("apply", f"raw/{T1W}.nii.gz", "--out-dir", "deriv", *KERNEL, "--bids", "-q")
    result = run("apply", f"other/{BOLD}.nii.gz", "--out-dir", "deriv", *KERNEL, "--bids")
    assert result.code == 2
    assert "the outputs there are made from ../raw; give another --out-dir" in result.err


def test_what_has_no_bids_name_is_left_out_of_a_folder(dataset):
    scan("raw/stimuli/picture.nii.gz", 4, 4, 4)
    ok("apply", "raw", "--out-dir", "deriv", *KERNEL, "--bids", "-q")
    assert len([*Path("deriv").rglob("*.nii.gz")]) == 2
    result = run("apply", "raw/stimuli", "--out-dir", "deriv", *KERNEL, "--bids")
    assert (result.code, "no scan of a BIDS dataset" in result.err) == (3, True)


def test_a_description_that_is_damaged_is_told_before_the_work(dataset):
    write("raw/dataset_description.json", "{")
    result = run("apply", "raw", "--out-dir", "deriv", *KERNEL, "--bids")
    assert (result.code, Path("deriv").exists()) == (3, False)


def test_replay_compares_a_derivative(dataset):
    ok("apply", f"raw/{T1W}.nii.gz", "--out-dir", "deriv", *KERNEL, "--bids", "-q")
    ok("replay", "deriv/sub-01/anat/sub-01_desc-gaussian_T1w.nii.gz")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    (
        (("raw/x.nii.gz", "--out-dir", "d", "--bids"), 3, "is no BIDS name, such as sub-01_T1w.nii.gz"),
        (("sub-01_T1w.nii.gz", "--out-dir", "d", "--bids"), 3, "no folder above it holds dataset_description.json"),
        ((f"raw/{T1W}.nii.gz", "-o", "a.nii", "--bids"), 2, "give its folder with --out-dir"),
        ((f"raw/{T1W}.nii.gz", "--out-dir", "d", "--bids", "--name", "a"), 2, "leave one"),
        ((f"raw/{T1W}.nii.gz", "--out-dir", "d", "--desc", "a"), 2, "give --bids too"),
        ((f"raw/{T1W}.nii.gz", "--out-dir", "d", "--bids", "--desc", "--"), 2, "legal: letters and digits"),
    ),
)
def test_what_is_refused(dataset, args, code, words):
    scan("raw/x.nii.gz", 4, 4, 4)
    scan("sub-01_T1w.nii.gz", 4, 4, 4)
    result = run("apply", *args, *KERNEL)
    assert result.code == code
    assert words in result.err
    assert not Path("d").exists()


def test_a_map_of_many_channels_has_no_bids_name(dataset):
    options = ("--out-channels", 4, "--kernel-size", 3, "--bids")
    result = run("apply", f"raw/{T1W}.nii.gz", "--out-dir", "d", *options)
    assert result.code == 2
    assert "BIDS has no name for a map of 4 channels" in result.err


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno is not installed")
def test_the_validator_finds_no_error(dataset):
    options = ("--out-dir", "raw/derivatives/conv", "--bids", "-q")
    ok("apply", "raw", *options, *KERNEL)
    ok("apply", f"raw/{T1W}.nii.gz", *options, *KERNEL, "--stride", 2)
    shutil.move("raw/derivatives/conv", "conv")
    for folder in ("raw", "conv"):
        done = subprocess.run([VALIDATOR, folder, "--json"], capture_output=True, text=True, check=False, timeout=120)
        issues = json.loads(done.stdout)["issues"]["issues"]
        assert [issue for issue in issues if issue["severity"] == "error"] == []
