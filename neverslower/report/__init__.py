"""One module for each form of report."""
