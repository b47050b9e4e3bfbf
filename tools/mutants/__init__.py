"""Mutants of the measuring path: lies that the harness could tell, each of which a named selftest must catch.

`python -m tools.mutants` tells them one by one in a copy of the tree. lies/ holds them as data, a file a room;
catalogue.py reads them, mutant.py says what one is, trial.py copies, runs and decides.
"""
