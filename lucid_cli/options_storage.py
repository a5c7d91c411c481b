"""The options of how outputs are stored, and of what is read of stores that hold several levels."""

from lucid_cli import names
from lucid_cli.options import option
from lucid_cli.types import Choice, Count, Size

STORAGE = [
    option(
        "volume",
        "--compression",
        type=names.COMPRESSION,
        metavar="none|1..9",
        help="Of .nii.gz, .nii.zst, HDF5 and Zarr outputs.",
    ),
    option("volume", "--chunks", type=Size(1), help="Chunk of HDF5, Zarr. Default: as the input, else none or 64."),
    option(
        "volume", "--shuffle/--no-shuffle", default=None, help="Shuffle bytes before HDF5, Zarr compress. Default: do."
    ),
    option("volume", "--shards", type=Size(1), help="Voxels of a Zarr output that are one file, whole chunks."),
    option("volume", "--zarr-format", type=Choice(["2", "3"]), help="Of a Zarr output. Default: as the input, else 3."),
    option("volume", "--pyramid", is_flag=True, help="Write an OME-Zarr with lower levels, the means of 2x2x2 voxels."),
    option("volume", "--level", type=Count(0), show_default="0", help="Level of an OME-Zarr input that is read."),
]
