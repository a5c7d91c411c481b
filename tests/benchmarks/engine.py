"""The engine beside its peers, from a clone: `python -m tests.benchmarks.engine [options of lucid-conv3d bench]`.

The workloads and the code are those of `lucid-conv3d bench`.
"""

import sys

from lucid_cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench"]
    main()
