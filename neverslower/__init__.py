"""never-slower: is a pruned convolution layer ever slower than the unpruned one?"""

__version__ = "0.1.0"
