"""What people look at and programs read: one account of what was found, its JSON, and the page drawn from it.

Everything here is made from records by pure functions. Nothing here measures, judges, or touches a device.
"""
