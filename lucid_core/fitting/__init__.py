"""Learning the weights of a convolution from pairs of volumes.

For one linear layer and a squared loss the best weights are those of a linear least-squares problem. Its nouns:

* *samples*: the voxels of a tile that count, every output voxel with the values its kernel reads (`samples`);
* *normal equations*: what the sums over all samples leave of them, additive over tiles (`normal`, made by `tiles`);
* *solution*: the weights, and how well the samples determine them (`solve`, under `constraints`).

With too many unknowns for a matrix, `conjugate` solves the same problem by passes over the tiles.
"""
