"""What the numbers prove: statistics, verdicts, causes. Each derivation stands next to its code.

Pure functions of arrays and frozen data: nothing here measures, stores or prints.
"""
