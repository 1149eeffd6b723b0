"""Becomes the program named on its command line. The lifeline starts only Python scripts, and this is one."""

import os
import sys

if __name__ == "__main__":
    os.execv(sys.argv[1], sys.argv[1:])
