"""A user's own models: their convolutions read from Python, from ONNX, or from files of problems, as plain data.

A user's code and the libraries that it needs run in a child process. Nothing here measures or judges.
"""
