"""Safe files, checksums, fingerprints, progress and memory: what every other module may lean on."""
