"""A bundle's generator as graphs for other runtimes: the whole search and the whole scoring, one graph each.

`onnx.py` writes them, `check.py` compares them with torch on real queries, `tensorrt.py` builds engines from them.
"""
