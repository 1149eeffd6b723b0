"""gnomon: 3D-vision jobs on this machine, on a SLURM cluster or on serverless GPUs."""

__version__ = "0.1.0"
