"""Pictures of scans and of what became of them: `preview`, and the page of `apply --report report.html`.

A file goes through these modules to a picture: `scans` reads the three planes and how they lie, `rows` decides windows
and the difference, `figure` draws them with matplotlib. `histogram` counts values. For the page, `take.take` is called
where a file has just been finished and returns `Pictures` (bytes and numbers, which can be sent between processes), and
`page.page` makes the text from the items of the report and their pictures; `markup` holds its building blocks.
"""
