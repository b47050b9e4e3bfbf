"""Rules about known hazards, each with an owner: what a rule says, the file of rules, and rules mined from records.

Nothing here measures, and nothing here decides what is red.
"""
