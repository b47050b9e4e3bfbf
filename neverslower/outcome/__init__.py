"""What verdicts mean for a test, set against what is stored or against another library: the table of outcomes.

Nothing here measures or prints.
"""
