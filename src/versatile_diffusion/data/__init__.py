"""Data sets of users, read by the libraries `datasets` and `webdataset`: which format it is, and sample by sample."""
