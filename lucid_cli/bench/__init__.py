"""What `lucid-conv3d bench` measures, each arrow a module:

names, or files and a layer       -> Workload        workloads
planner's choice, members, peers  -> functions       contestants, lucid_cli.peers
a result at sampled voxels        -> right or wrong  verify
functions in turn                 -> medians         timing
one workload                      -> Row             rows
all of them, and the machine      -> Session         session, figures
a Session                         -> JSON, or lines  report
"""
