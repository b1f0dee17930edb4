"""WHEN things run. The only package that imports Prefect; what a stage does is in tasks/."""
