"""Learning the weights of layers from pairs of volumes, tile by tile, so that memory follows from the tile.

An *example* is a tile: the padded input that it reads, its target, and which voxels count (`examples`). For one linear
layer and a squared loss the best weights are those of a linear least-squares problem:

* *samples*: the voxels of a tile that count, every output voxel with the values its kernel reads (`samples`);
* *normal equations*: what the sums over all samples leave of them, additive over tiles (`normal`, made by `tiles`);
* *solution*: the weights, and how well the samples determine them (`solve`, under `constraints`).

With too many unknowns for a matrix, `conjugate` solves the same problem by passes over the tiles. All else is trained
by Adam (`train`), with inputs and targets brought to a common unit (`scaling`).
"""
