"""Keeps Python's collector of cycles out of the service's way: no request leaves any, and all wait while it looks."""

import gc

NEW_OBJECTS = 50_000  # beyond those that are there: 1,000 connections are 110,000


def look_rarely() -> None:
    """From now on. What is there stays: it is not looked through again."""
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)
