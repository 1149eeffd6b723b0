"""Adds the probe task to every Python process of a test: workers are real processes that know it by this file."""

from probe_task import register

register()
