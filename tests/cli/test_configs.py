"""Every file in `configs/` works on a sample, and is what its comment says."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lucid_cli.main import cli

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SHAPES = {
    "edges": (20, 24, 28),
    "gradient": (20, 24, 28),
    "half": (10, 12, 14),
    "segmentation": (10, 12, 14),
    "smooth": (20, 24, 28),
    "stem": (10, 12, 14, 16),
    "uint8": (20, 24, 28),
    "video": (20, 24, 28, 8),
}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    run("sample", "phantom", "-o", path, "--shape", "28,24,20")
    return path


def run(*words):
    return cli.main([str(word) for word in words], standalone_mode=False)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_runs_and_round_trips(config, scan, tmp_path, capsys):
    assert run("apply", scan, "-o", tmp_path / "out.nii.gz", "-c", config, "-q") == 0
    out = nib.load(tmp_path / "out.nii.gz")
    assert out.shape == SHAPES[config.stem]
    assert np.asarray(out.dataobj).std() > 0
    capsys.readouterr()
    run("apply", "-c", config, "--print-config")
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    run("apply", "-c", printed, "--print-config")
    assert capsys.readouterr().out == printed.read_text()
    assert run("apply", scan, "-o", tmp_path / "again.nii.gz", "-c", printed, "-q") == 0
    assert (tmp_path / "again.nii.gz").read_bytes() == (tmp_path / "out.nii.gz").read_bytes()


def test_every_config_says_how_to_run_it():
    assert {path.stem for path in CONFIGS} == set(SHAPES)
    for path in CONFIGS:
        assert f"-c configs/{path.name}" in path.read_text()


def test_half_is_the_block_mean(scan, tmp_path):
    run("apply", scan, "-o", tmp_path / "half.nii", "-c", CONFIGS[0].parent / "half.yaml", "-q")
    whole = np.asarray(nib.load(scan).dataobj, np.float64).reshape(10, 2, 12, 2, 14, 2)
    np.testing.assert_allclose(nib.load(tmp_path / "half.nii").get_fdata(), whole.mean((1, 3, 5)), rtol=1e-6)


def test_uint8_saturates(scan, tmp_path):
    run("apply", scan, "-o", tmp_path / "mean.nii", "-c", CONFIGS[0].parent / "uint8.yaml", "-q", "--compression=none")
    mean = nib.load(tmp_path / "mean.nii")
    assert mean.get_data_dtype() == np.uint8
    assert np.asarray(mean.dataobj).max() == 255
