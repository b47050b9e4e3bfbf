"""Where problems come from: networks by code, each layer a named place that holds one problem."""

from neverslower.layers.catalogue import NETWORKS, Layer, distinct_layers, network

__all__ = ["NETWORKS", "Layer", "distinct_layers", "network"]
