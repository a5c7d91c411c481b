"""The command line of lucid-conv3d: files in, files out, round the engine `lucid_core`.

`apply scan.nii.gz -o out.nii.gz --kernel gaussian --sigma 1.5mm` goes this way, each arrow a module:

    words on the line, environment, YAML  -> Settings       options, settings, config, mistakes, types, names
    every input by itself                 -> an exit code   batch, single
    a file's header                       -> Source         formats/ (one format a module), volumes
    axes of the file                      -> N C D H W      axes
    kernel, file of weights, or seed      -> Layer          layer, weights
    header, layer, memory, disk           -> Job            job, target, budget (a plan stops here)
    a temporary file beside the output    -> Sink           output, temporary, sink, formats/
    tile by tile                          -> lucid_core.execute, watched by progress
    fsync, rename                         -> Item           output, report

What `options`, `types`, `names` and `offers` (what fits at a shell's cursor) declare of the options once is told by
`usage` (JSON) and, from that, `boutiques` and `manual`; by `completion`; and, for those who write YAML, by
`config_start`, `config_check` and `config_schema`.

`bench/` times workloads, and `peers/` are other libraries to compare with, one a module. `comparison/` says whether two
volumes are the same, `doctor/` what is wrong with an installation, and `pictures/` draws scans and results, for
`preview` and for the page of a report.

Of many inputs, `listing` says which they are and `naming` what their outputs are called (`bids` in a dataset);
`workers` are the processes that do them one by one (`single`), and `board` shows how far they are. `origin` and
`provenance` are what an output is made from, which `replay` makes again; `merge` joins reports.

Below the formats, `rawfile` reads and writes plain voxels by boxes, `planes` reads them forward, each once, and
`streams` writes them forward; `rawsource` is a file of plain or compressed voxels whose header a format has read;
`compression` holds the codecs, with `crc` for checksums of parts; `nifti_header` checks and carries headers,
`text_header` and `nrrd_header` read those of text, and `lengths` knows units. `attributes` say where voxels lie in HDF5
and Zarr. Of a Zarr, `zarr_store` opens nodes (`zarr_folder` from a folder; `zarr_library` is zarr-python),
`zarr_source` reads an array, `zarr_layout` says what an output consists of, `ome_zarr` and `pyramid` where its levels
lie; `shrink` makes these, and `zarr_tree`, `exchange` and `zarr_far` bring it to its place.
`executors` say who carries out a plan, and `ends` what that reads from: `cluster/` are the workers of dask.
`hdf5_file`, `tiff_file` and `minc_file` read in a child process that `isolation` starts, as damaged files crash
libraries or keep them busy; `dicom_file` reads the headers of slices. `resume` goes on
with a run that was ended, from its `journal`. `talk` is stdout and stderr, `failures` what an error is to the user, and
`main` the one place where one becomes a line and an exit code. `commands/` holds one command a module. Heavy packages
are imported inside the functions that need them: `--help` loads click and nothing else.
"""
