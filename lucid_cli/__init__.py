"""The command line of lucid-conv3d: files in, files out, round the engine `lucid_core`.

`apply scan.nii.gz -o out.nii.gz --kernel gaussian --sigma 1.5mm` goes this way, each arrow one module:

    words on the line, environment, YAML  -> settings   (options, config, types)
    a file's header                       -> source     (formats/, one format a module)
    axes of the file                      -> N C D H W  (axes)
    kernel, weights file or seed          -> layer      (layer, weights)
    layer and shapes                      -> job        (job: problem, plan, limits; `plan` stops here)
    a temporary file beside the output    -> sink       (output, sink, formats/)
    tile by tile                          -> lucid_core.execute, watched by progress
    fsync, rename                         -> report     (report)

`main` is the one place where an error becomes a line and an exit code. `commands/` holds one command a module.
Heavy packages are imported inside the functions that need them: `--help` loads click and nothing else.
"""
