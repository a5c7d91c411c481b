"""What a newcomer is likely to type is met with what to type instead."""

from pathlib import Path

import pytest

from tests.cli.conftest import ok, run


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
    assert "scans: is a folder; name its files, such as 'scans/*'" in result.err


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
