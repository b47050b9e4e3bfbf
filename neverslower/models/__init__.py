"""A user's own models: their convolutions read from Python, from ONNX, or from files of problems, as plain data.

Also which of their channels are coupled, and what adds channels that compute nothing.

A user's code and the libraries that it needs run in a child process. Nothing here measures or judges.
"""
