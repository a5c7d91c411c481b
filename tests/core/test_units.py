"""Lengths and sizes in memory as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core.errors import ArgumentError
from lucid_core.units import ByteSize, Length, format_bytes


@pytest.mark.parametrize(
    ("text", "values", "unit"),
    (
        ("1.5mm", (1.5, 1.5, 1.5), "mm"),
        ("800um", (800, 800, 800), "um"),
        ("800µm", (800, 800, 800), "um"),
        ("40nm", (40, 40, 40), "nm"),
        ("2vox", (2, 2, 2), "vox"),
        ("3,5,3vox", (3, 5, 3), "vox"),
        ("3x5x3vox", (3, 5, 3), "vox"),
        ("1e-6mm", (1e-6, 1e-6, 1e-6), "mm"),
        ("1e9vox", (1e9, 1e9, 1e9), "vox"),
        (" 6 mm ", (6, 6, 6), "mm"),
        (".5mm", (0.5, 0.5, 0.5), "mm"),
        ("1.mm", (1, 1, 1), "mm"),
        ("1e-3mm", (0.001, 0.001, 0.001), "mm"),
    ),
)
def test_parse(text, values, unit):
    assert Length.parse(text) == Length(values, unit)


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("3", "the length '3' has no unit: write it like 1.5mm, 800um, 2vox or 3,5,3vox"),
        ("1,2,3", "has no unit"),
        ("3cm", "has the unknown unit 'cm'"),
        ("3,5mm", "'3,5mm' is not a length"),
        ("3,5,3,5mm", "is not a length"),
        ("-3mm", "'-3mm' is not a length"),
        ("nanmm", "is not a length"),
        ("", "'' is not a length"),
        ("mm", "'mm' is not a length"),
        ("3mm,4mm,5mm", "is not a length"),
        ("3 4 5mm", "is not a length"),
        ("0mm", "the length '0mm' is not between 1e-06 and 1e\\+09"),
        ("1,0,1vox", "is not between"),
        ("1e999mm", "is not between"),
        ("1e-999mm", "is not between"),
    ),
)
def test_what_is_no_length(text, words):
    with pytest.raises(ArgumentError, match=words):
        Length.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("1.5MM", "its unit has small letters"),
        ("2Vox", "its unit has small letters"),
        ("4mm,4mm,4mm", "the unit stands once, behind the last number"),
        ("2vox x 2vox x 2vox", "the unit stands once, behind the last number"),
        ("4,4,4mm,", "no number stands behind its last comma"),
        ("4,4,mm", "no number stands behind its last comma"),
        ("1,5mm", "two numbers are neither one nor three .D,H,W., and decimals have a point"),
        ("-3mm", "it is negative"),
        ("2,-2,2vox", "it is negative"),
    ),
)
def test_a_common_slip_is_told_with_what_is_legal(text, words):
    with pytest.raises(ArgumentError, match=f"{text!r} is not a length: {words}; write it like 1.5mm"):
        Length.parse(text)


@pytest.mark.parametrize("text", ("vox", "3 4 5mm", "nanmm", "", "3,5,3,5mm", "3vo x"))
def test_what_is_no_slip_is_told_without(text):
    with pytest.raises(ArgumentError, match=f"{text!r} is not a length: write it like"):
        Length.parse(text)


@given(st.tuples(*[st.floats(0.001, 1000)] * 3), st.sampled_from(("mm", "um", "nm", "vox")))
def test_a_length_reads_back_what_it_prints(values, unit):
    values = tuple(float(f"{value:.10g}") for value in values)
    assert Length.parse(str(Length(values, unit))) == Length(values, unit)


@given(st.floats(1e-6, 1e9))
def test_no_digit_is_lost(value):
    assert Length.parse(str(Length((value, value, value), "mm"))).values[0] == value


def test_str_is_short():
    assert str(Length((1.5, 1.5, 1.5), "mm")) == "1.5mm"
    assert str(Length((3, 5, 3), "vox")) == "3,5,3vox"


def test_millimetres():
    assert Length.parse("1.5mm").millimetres() == (1.5, 1.5, 1.5)
    assert Length.parse("500,1000,1500um").millimetres() == (0.5, 1.0, 1.5)
    assert Length.parse("2e6nm").millimetres() == pytest.approx((2.0, 2.0, 2.0))
    with pytest.raises(ArgumentError, match="2vox is in voxels where a physical length is needed"):
        Length.parse("2vox").millimetres()


def test_voxels():
    assert Length.parse("3,5,3vox").voxels(None) == (3, 5, 3)
    assert Length.parse("3vox").voxels((0.5, 1, 2)) == (3, 3, 3)
    assert Length.parse("3mm").voxels((3.0, 1.5, 0.5)) == (1.0, 2.0, 6.0)
    assert Length.parse("3,6,1mm").voxels((3.0, 1.5, 0.5)) == (1.0, 4.0, 2.0)
    with pytest.raises(ArgumentError, match=r"3mm needs the spacing of the volume.*--spacing"):
        Length.parse("3mm").voxels(None)


@pytest.mark.parametrize(
    ("count", "text"),
    (
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 50, "1.0 PiB"),
        (1 << 70, "1048576.0 PiB"),
    ),
)
def test_format_bytes(count, text):
    assert format_bytes(count) == text


def test_a_length_is_a_key():
    assert {Length.parse("3mm"): 1} == {Length.parse("3,3,3mm"): 1}


@pytest.mark.parametrize(
    ("text", "count"),
    (
        ("3k", 3000),
        ("512M", 512 * 10**6),
        ("2GB", 2 * 10**9),
        ("1.5t", 15 * 10**11),
        ("1KiB", 1024),
        ("3mi", 3 << 20),
        ("1GiB", 1 << 30),
        (" .5 TiB ", 1 << 39),
    ),
)
def test_sizes_in_memory(text, count):
    size = ByteSize.parse(text)
    assert (size.count, str(size)) == (count, text.strip())


@pytest.mark.parametrize("text", ("", "3", "G", "1e3M", "3x", "-1M", "1.2.3G", "1 G iB"))
def test_what_is_no_size_in_memory(text):
    with pytest.raises(ArgumentError, match="is not a size in memory: write it like 512M, 2G or 1GiB"):
        ByteSize.parse(text)
