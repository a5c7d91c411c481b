// Filters every scan that a pattern names, one task each:
//   nextflow run configs/recipes/main.nf --scans 'scans/*.nii.gz' --smooth smooth
params.scans = 'scans/*.nii.gz'
params.smooth = 'smooth'

process SMOOTH {
    cpus 1
    publishDir params.smooth, mode: 'copy'

    input:
    path scan, stageAs: 'in/*'

    output:
    path '*.nii.gz'

    script:
    """
    lucid-conv3d apply in/* -o . --name '{stem}{suffix}' --kernel gaussian --fwhm 4mm --threads ${task.cpus} --quiet
    """
}

workflow {
    SMOOTH(Channel.fromPath(params.scans, checkIfExists: true))
}
