"""What a newcomer is likely to type is met with what to type instead."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import SIZE, make_volume, noise, ok, run, save_weights


@pytest.mark.parametrize(
    "words",
    ("sample ramp -o out.npy", "kernel save sobel -o out.npy", "config init -o out.npy"),
)
def test_skip_existing_is_named_only_where_it_is_an_option(scan, words):
    Path("out.npy").write_bytes(b"")
    result = run(*words.split())
    assert (result.code, result.err) == (4, "Error: out.npy: exists; use --overwrite to replace it\n")
    apply = run("apply", "scan.npy", "-o", "out.npy", "--kernel", "identity")
    assert apply.err == "Error: out.npy: exists; use --overwrite to replace it or --skip-existing to leave it\n"


def test_info_prints_a_line_for_each_that_is_asked_in_that_order(scan):
    assert ok("info", "scan.npy", "scan.npy", "--dtype", "--shape").out == "float32\n5 6 7\n" * 2
    assert ok("info", "scan.npy", "--shape", "--dtype").out == "5 6 7\nfloat32\n"
    both = run("info", "scan.npy", "--json", "--shape")
    assert (both.code, both.out) == (2, "")
    assert "leave one" in both.err


def test_info_of_a_folder_says_how_to_name_its_files(folder):
    Path("scans").mkdir()
    result = run("info", "scans")
    assert result.code == 3
    assert "scans: is not a regular file but a folder; name its files, such as 'scans/*'" in result.err


@pytest.mark.parametrize(
    ("words", "meant"),
    (
        ("absent.nii.gz -o out.npy", "lucid-conv3d apply absent.nii.gz -o out.npy"),
        ("scan.npy", "lucid-conv3d apply scan.npy"),
        ("scans --out-dir out", "lucid-conv3d apply scans --out-dir out"),
        ("help", "lucid-conv3d --help"),
        ("help kernel show", "lucid-conv3d kernel show --help"),
        ("version", "lucid-conv3d --version"),
        ("completion bash", "lucid-conv3d --completion bash"),
        ("kernel gaussian --fwhm 4vox", "lucid-conv3d kernel show gaussian --fwhm 4vox"),
        ("kernel help", "lucid-conv3d kernel --help"),
        ("config smooth.yaml", "lucid-conv3d config check smooth.yaml"),
    ),
)
def test_a_word_where_a_command_belongs_is_met_with_the_whole_line(scan, words, meant):
    Path("scans").mkdir()
    result = run(*words.split())
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith(f". Did you mean: {meant}\n")


@pytest.mark.parametrize("command", ("apply", "plan"))
@pytest.mark.parametrize("option", ("-i", "--input"))
def test_an_option_for_the_input_is_met_with_how_it_is_named(folder, command, option):
    result = run(command, option, "scan.npy", "-o", "out.npy")
    told = f"Inputs stand without an option: lucid-conv3d {command} scan.nii.gz -o out.nii.gz"
    assert (result.code, result.err) == (2, f"Error: No such option {option!r}. {told}\n")


def test_a_key_for_the_input_is_met_with_where_it_is_named(folder):
    Path("a.yaml").write_text("input: scan.npy\n")
    result = run("apply", "-c", "a.yaml")
    assert result.code == 2
    assert "a.yaml, line 1: unknown key 'input'. Inputs stand on the command line: lucid-conv3d apply" in result.err


def test_names_in_the_home_folder_are_found_in_options_yaml_layers_and_inputs(folder, monkeypatch):
    home = folder / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    make_volume(home / "scan.npy", noise(*SIZE))
    make_volume(home / "mask.npy", np.ones(SIZE, np.uint8))
    save_weights(home / "w.npz", np.ones((1, 1, 1, 1, 1)))
    Path("a.yaml").write_text("weights: ~/w.npz\nmask: ~/mask.npy\n")
    (home / "b.yaml").write_text("layers: [{weights: ~/w.npz}]\n")
    ok("apply", "~/scan.npy", "-c", "a.yaml", "--output=~/a.npy", "--sidecar")
    ok("apply", "~/scan.npy", "--config=~/b.yaml", "-o", "~/b.npy", "--sidecar")
    for name in ("a", "b"):
        assert (np.load(home / f"{name}.npy") == np.load(home / "scan.npy")).all()
        said = (home / f"{name}.json").read_text()
        assert f'"{home}/w.npz"' in said
        assert "~" not in said
    assert ok("kernel", "show", "~/w.npz").out
    assert "~.npy: no such file" in run("info", "~.npy").err


@pytest.mark.parametrize("kernel", ("gaussian", "log", "hessian"))
def test_two_widths_are_one_too_many(scan, kernel):
    result = run("apply", "scan.npy", "-o", "out.npy", "--kernel", kernel, "--sigma", "2vox", "--fwhm", "4vox")
    assert result.code == 2
    assert "takes either sigma or fwhm: both are given; leave one" in result.err


def test_two_numbers_are_no_size(scan):
    result = run("apply", "scan.npy", "-o", "out.npy", "--kernel", "identity", "--stride", "2,2")
    assert result.code == 2
    assert "'2,2' is two numbers; give one or three (D,H,W), such as 2 or 2,2,1." in result.err


def test_bench_neither_offers_nor_takes_options_for_outputs_but_takes_their_keys(folder):
    shown = ok("bench", "--help").out
    Path("a.yaml").write_text("run: {output: out.nii, resume: true, skip_existing: true, threads: 1}\n")
    ok("bench", "--list", "-c", "a.yaml")
    for option in ("--output", "--resume", "--skip-existing"):
        assert option not in shown
        result = run("bench", "--list", option, "out.nii")
        assert (result.code, result.err) == (2, f"Error: {option} has no use here: bench writes no file\n")
    assert "has no use here: bench writes no file" in run("bench", "--list", "--pyramid").err
    assert "--executor has no use here: bench times this" in run("bench", "--list", "--executor", "dask").err


@pytest.mark.parametrize("words", ("weights: w.npz", "layers: [{weights: w.npz}]", "kernel: identity\nmask: w.npz.nii"))
def test_a_name_in_yaml_that_leads_nowhere_is_met_with_where_it_begins(scan, words):
    Path("configs").mkdir()
    Path("configs/a.yaml").write_text(words + "\n")
    save_weights("configs/w.npz", np.ones((1, 1, 1, 1, 1)))
    result = run("apply", "scan.npy", "-o", "out.npy", "-c", "configs/a.yaml")
    assert result.code == 3
    assert f": no such file in {Path.cwd()}, where the command runs; names in YAML are taken from there" in result.err
    absolute = run("apply", "scan.npy", "-o", "out.npy", "--weights", Path.cwd() / "absent.npy")
    assert absolute.err.endswith("absent.npy: no such file\n")
