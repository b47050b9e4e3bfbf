"""How good the suite is: what its judge and its machinery cost and find; not run by default."""
