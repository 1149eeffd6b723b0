"""The task `object-pose`, also as a bare library.

from gnomon.tasks.object_pose.prepare import prepare
from gnomon.tasks.object_pose.estimate import estimate
from gnomon.tasks.object_pose.tracker import Tracker
"""
