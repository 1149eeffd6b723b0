"""Files of other programs, read and written: the only place where their conventions are converted."""
