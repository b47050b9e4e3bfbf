"""Padding a model whose channel counts run badly: which counts are tried, which are proved better, what is written.

Nothing here measures, builds a model or prints.
"""
