"""The routes of /v1, a file for each thing they are about."""
