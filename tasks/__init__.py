"""WHAT a stage does: one module per DVC stage, each with `run(params, *paths)`."""
