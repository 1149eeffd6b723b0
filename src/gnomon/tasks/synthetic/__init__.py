"""Synthetic RGB-D pictures of known objects, to measure how well their pose in the camera is found.

No task, but a library: shapes with their symmetries, scenes around them, a depth camera's faults and a segmenter's.
Everything is a function of a seed. See docs/synthetic.md.
"""
