"""Data sets as folders of files, in the layouts of their authors."""
