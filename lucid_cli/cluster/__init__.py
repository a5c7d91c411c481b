"""A plan carried out by other processes, perhaps on other machines, with dask.distributed.

Tiles go to the workers as regions; each reads its own voxels. Where the output is a Zarr, and tiles are whole chunks,
the workers write them too, and send back statistics alone; else they send back the voxels of the tile, straight to the
process that writes the file. What a worker needs is opened once there, and kept for its other tiles.

`connection` starts or finds the workers, `work` is what runs on them (`preload` before it), `run` hands out the tiles.
"""
